"""`pawl trace`: what happened to a task, as tables or as a page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from libs.cli.client import Client
from libs.cli.comparison import divergence_table, outcome_text
from libs.cli.output import (
    console,
    plain,
    print_json,
    record,
    seconds_text,
    short_json,
    styled,
    table,
    time_text,
)
from libs.cli.trace_file import load_trace
from libs.cli.waiting import queue_text
from libs.client.tasks import Event
from libs.client.traces import StepRecord, Summary, Trace
from libs.core.ids import parse_id
from libs.core.plan import Plan
from libs.core.prices import usd_text


def show_trace(
    connect: Callable[[], Client], subject: str, *, html: str | None, as_json: bool
) -> int:
    """Print the trace of a task, or draw it into the file `html`; 0.

    `subject` is a task's id or a file with a trace (`-`: standard input). Only for an id a server
    is asked. Raises NotATrace, BadArgument.
    """
    is_saved = is_file(subject)
    trace = load_trace(subject) if is_saved else connect().api.trace(subject)
    if html is not None:
        from libs.cli.trace_html import write_page

        write_page(trace, html, taken_at=None if is_saved else datetime.now(UTC))
    elif as_json:
        print_json(trace.raw)
    else:
        print_trace(trace, console())
    return 0


def is_file(subject: str) -> bool:
    """Whether a file is meant and not a task: an id never is one."""
    if parse_id(subject) is not None:
        return False
    return subject == "-" or subject.endswith(".json") or Path(subject).is_file()


def print_trace(trace: Trace, out: Console) -> None:
    """Head, plan, steps, events and hashes of a trace, and of a replay what differs."""
    out.print(_head(trace))
    if trace.verification.plan:
        out.print(_plan(trace.verification.plan))
    if trace.steps:
        out.print(_steps(trace))
    out.print(_events(trace))
    out.print(_hashes(trace))
    if trace.replay and trace.replay.first_divergence:
        out.print(divergence_table(trace.replay.first_divergence))


def _head(trace: Trace) -> Table:
    failure = trace.failure
    summary = trace.summary
    members: list[tuple[str, object]] = [
        ("task", trace.task_id),
        ("status", styled(trace.status)),
        ("input", short_json(trace.verification.task_input, limit=300)),
        ("steps", _counts(summary)),
        ("queued for", seconds_text(summary.queue_latency_ms)),
        ("steps took", seconds_text(summary.total_duration_ms)),
        ("cost", f"{usd_text(trace.estimated_cost_usd)} USD"),
    ]
    if summary.tokens:
        members.append(("tokens", summary.tokens))
    if trace.scheduled_at:
        members.append(("due at", time_text(trace.scheduled_at)))
    if trace.queue:
        members.append(("waits", queue_text(trace.queue)))
    if trace.cancel_requested_at:
        members.append(("cancel asked", time_text(trace.cancel_requested_at)))
    if trace.replay_of_task_id:
        members.insert(1, ("replay of", trace.replay_of_task_id))
    if replay := trace.replay:
        members.insert(2, (f"replayed {replay.mode}", outcome_text(replay)))
    if failure:
        where = f"step {failure.index} ({failure.step}), " if failure.index else ""
        members.append(("failure", plain(f"{where}{failure.code}: {failure.message}")))
    return record("Task", members)


def _counts(summary: Summary) -> str:
    counted = (
        (summary.succeeded_steps, "succeeded"),
        (summary.failed_steps, "failed"),
        (summary.running_steps, "running"),
        (summary.interrupted_steps, "interrupted"),
    )
    return ", ".join(f"{count} {words}" for count, words in counted if count) or "none"


def _plan(plan: Plan) -> Table:
    limits = ", ".join(f"{name} {value}" for name, value in plan.limits.as_json().items())
    rows = [(step.step_index, step.tool, short_json(step.input)) for step in plan.steps]
    made = table("Plan", ("#", "tool", "input as planned"), rows)
    made.caption, made.caption_justify = limits, "left"
    return made


def _steps(trace: Trace) -> Table:
    rows = [_step_row(step) for step in trace.steps]
    return table("Steps", ("#", "tool", "status", "took", "input", "output or error"), rows)


def _step_row(step: StepRecord) -> tuple[object, ...]:
    return (
        step.step_index,
        step.tool_name,
        styled(step.status),
        seconds_text(step.duration_ms),
        short_json(step.input),
        plain(step.error) if step.error else short_json(step.output),
    )


def _events(trace: Trace) -> Table:
    rows = [event_row(event) for event in trace.events]
    return table("Events", ("seq", "at", "event", "what"), rows)


def event_row(event: Event) -> tuple[object, ...]:
    """One event as seq, time of day, name and the rest of what it says."""
    payload = {name: value for name, value in event.payload.items() if name != "at"}
    if set(payload) >= {"from", "to"}:
        before, after = payload.pop("from"), payload.pop("to")
        words = f"{before or 'nothing'} → {after}"
    else:
        words = ""
    rest = " ".join(f"{name}={_word(value)}" for name, value in payload.items())
    return (
        event.seq,
        event.created_at.isoformat(timespec="milliseconds")[11:23],
        event.event.removeprefix("task."),
        plain(f"{words} {rest}".strip()),
    )


def _word(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def _hashes(trace: Trace) -> Table:
    block = trace.verification
    rows: list[tuple[str, object]] = [("plan", block.plan_hash or "–")]
    rows += [(f"step {s.step_index}", s.step_hash or "–") for s in block.steps]
    rows.append(("task", block.task_hash or "–"))
    return record(f"Hashes ({block.recipe})", rows)
