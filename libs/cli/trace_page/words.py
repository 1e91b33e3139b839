"""What became of a task, in sentences. Pure."""

from __future__ import annotations

from libs.cli.trace_page.timeline import Timeline
from libs.cli.trace_page.values import duration_text
from libs.client.tasks import Failure
from libs.client.traces import Replay, Trace
from libs.core.verification import Report

MARKS = {
    "succeeded": "✓",
    "failed": "✗",
    "interrupted": "⚠",
    "cancelled": "⊘",
    "running": "▸",
}
"""A sign beside the word, so that a status is not told by its colour alone."""


def state_of(trace: Trace) -> str:
    """Pawl's own word: a cancelled task is not called failed."""
    return trace.verification.state


def outcome(trace: Trace, timeline: Timeline) -> str:
    """What became of the task, in one sentence."""
    steps = trace.summary.total_steps
    counted = "no step" if not steps else "1 step" if steps == 1 else f"{steps:,} steps"
    ran = f" after {duration_text(timeline.run.seconds)}" if timeline.run else ""
    match state_of(trace):
        case "succeeded":
            return f"The task succeeded{ran}; it ran {counted}."
        case "failed":
            return f"The task failed{ran}; it began {counted}."
        case "cancelled":
            return f"The task was cancelled{ran}; it began {counted}."
        case state:
            return f"The task was {state} when this trace was taken; it had begun {counted}."


def failure_words(failure: Failure) -> str:
    """Which step failed, with its code, the finer reason and the message."""
    where = f"step {failure.index} ({failure.step}): " if failure.index is not None else ""
    return where + reason_words(failure)


def reason_words(failure: Failure) -> str:
    """The same without the step."""
    reason = f", {failure.reason}" if failure.reason else ""
    return f"{failure.code}{reason}: {failure.message}"


def waiting_words(timeline: Timeline) -> str:
    """How long it waited, and for what."""
    parts = []
    if timeline.planning is not None:
        parts.append(f"{duration_text(timeline.planning.seconds)} before it was queued")
    if timeline.queued is not None:
        parts.append(f"{duration_text(timeline.queued.seconds)} in the queue")
    return ", ".join(parts) or "not at all"


def verdict(report: Report) -> str:
    """Whether the hashes hold."""
    first = report.first_difference
    if first is None:
        rest = "" if report.state.is_terminal else " The task has not ended: not all is said."
        return f"Every hash matches.{rest}"
    others = sum(not check.holds for check in report.checks) - 1
    more = f" After it {others} more {'differs' if others == 1 else 'differ'}." if others else ""
    return f"{first.subject} differs: {'; '.join(first.differences)}.{more}"


def replay_words(replay: Replay) -> str:
    """Whether a replay came to the same."""
    how = f"A replay ({replay.mode}) of task {replay.of_task_id}"
    first = replay.first_divergence
    if replay.matches:
        return f"{how}: all hashes match."
    if first is None:
        return f"{how}: nothing differs so far."
    where = "in the whole task" if first.step_index is None else f"in step {first.step_index}"
    return f"{how}: it differs first {where}, in {first.field}."


def picture_words(trace: Trace, timeline: Timeline) -> str:
    """The strip in words."""
    statuses = [step.status for step in trace.steps]
    failed = ", ".join(
        f"step {step.step_index} ({step.tool_name}) {step.status}"
        for step in trace.steps[-3:]
        if step.status != "succeeded"
    )
    return (
        f"It waited {waiting_words(timeline)}. {statuses.count('succeeded')} of"
        f" {len(statuses)} steps succeeded{f'; {failed}' if failed else ''}."
        " The table below has every step with its start and duration."
    )
