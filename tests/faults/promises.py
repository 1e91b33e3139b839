"""What must hold of the tasks, steps, events and hashes of any run, whatever was done to it.

Each function is one promise: it yields what breaks it, in words, with the task it is about.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from libs.core.lifecycle import EDGES
from tests.determinism.reimplementation import hashes_of
from tests.faults.records import EventRow, History, StepRow, TaskRow

GRACE_SECONDS = 2.0
"""By how much a bound may be passed."""
END_GRACE_SECONDS = 30.0
"""How long after its last second a task may still be without an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A promise that was not kept: of which task, and what the rows say."""

    what: str
    task_id: UUID | None = None


Found = Iterator[Broken]


def states_go_forward(history: History) -> Found:
    """Every event leaves the state that the one before reached, along an edge of the lifecycle."""
    for task_id, events in history.dump.events_of.items():
        ordered = sorted(events, key=lambda event: event.seq)
        if ordered[0].from_state is not None or ordered[0].to_state != "created":
            yield Broken(task_id=task_id, what=f"begins with {_said(ordered[0])}")
        for before, after in pairwise(ordered):
            if after.from_state != before.to_state:
                yield Broken(task_id=task_id, what=f"{_said(after)} follows {_said(before)}")
            elif after.is_transition and (after.from_state, after.to_state) not in EDGES:
                yield Broken(task_id=task_id, what=f"no edge: {_said(after)}")
            elif not after.is_transition and after.from_state != after.to_state:
                yield Broken(task_id=task_id, what=f"changes the state aside: {_said(after)}")


def ended_tasks_never_change(history: History) -> Found:
    """What had ended in the earlier dump stands in the later one, unchanged in every column."""
    if history.earlier is None:
        return
    later, events = history.dump.by_id, history.dump.events_of
    for task in history.earlier.tasks:
        if not task.is_ended:
            continue
        now = later.get(task.id)
        if now is None:
            yield Broken(task_id=task.id, what=f"was {task.state} and is gone")
        elif now.digest != task.digest:
            yield Broken(task_id=task.id, what=f"was {task.state}, its row has changed since")
        elif len(events[task.id]) != len(history.earlier.events_of[task.id]):
            yield Broken(task_id=task.id, what=f"was {task.state}, and has another event now")


def no_step_runs_twice(history: History) -> Found:
    """At most one call of a tool, one record before and one after it, of each step."""
    calls = Counter((e.task_id, e.step_index) for e in history.effects if e.kind == "began")
    for (task_id, step), count in calls.items():
        if count > 1:
            where = [
                e.boot for e in history.effects if (e.task_id, e.step_index) == (task_id, step)
            ]
            yield Broken(task_id=task_id, what=f"step {step} was called {count} times: {where}")
    records = Counter(
        (e.task_id, e.type, e.data["step_index"])
        for e in history.dump.events
        if e.type in {"step_started", "step_finished"}
    )
    for (task_id, kind, step), count in records.items():
        if count > 1:
            yield Broken(task_id=task_id, what=f"{count} records {kind} of step {step}")
    for task_id, step in calls:
        if not records[task_id, "step_started", step]:
            yield Broken(task_id=task_id, what=f"step {step} was called without a record before it")


def steps_come_in_order(history: History) -> Found:
    """A step begins after the one before has succeeded; none after a failure, a cancel, the end."""
    for task_id, events in history.dump.events_of.items():
        yield from _out_of_order(task_id, sorted(events, key=lambda event: event.seq))
    by_task: dict[UUID, list[Any]] = defaultdict(list)
    for effect in sorted(history.effects, key=lambda effect: effect.at):
        by_task[effect.task_id].append(effect)
    for task_id, effects in by_task.items():
        begun = [effect.step_index for effect in effects if effect.kind == "began"]
        if begun != sorted(begun):
            yield Broken(task_id=task_id, what=f"its tools were called for the steps {begun}")


def _out_of_order(task_id: UUID, events: list[EventRow]) -> Found:
    may_begin, opened, closed = 1, 0, 0
    for event in events:
        step = event.data.get("step_index", 0)
        if event.type == "step_started":
            if step != may_begin or step != closed + 1:
                yield Broken(task_id=task_id, what=f"step {step} began, {may_begin} was to come")
            may_begin, opened = 0, step
        elif event.type == "step_finished":
            if step != closed + 1 or step != opened:
                yield Broken(task_id=task_id, what=f"step {step} closed, {closed} was the last")
            closed = step
            may_go_on = may_begin == 0 and event.data.get("status") == "succeeded"
            may_begin = step + 1 if may_go_on else -1
        elif event.type == "cancel_requested":
            # The step that is open may still close: it was at its end already.
            may_begin = -1
        elif event.is_transition and event.to_state in {"succeeded", "failed", "cancelled"}:
            may_begin = -1
            if event.seq != events[-1].seq:
                yield Broken(task_id=task_id, what=f"{_said(events[-1])} came after the end")


def every_task_ends_in_time(history: History) -> Found:
    """No task is without an end past its total time or its time in the queue; settled: none."""
    for task in history.dump.tasks:
        late = _lateness(task, history.dump.taken_at) - history.held_seconds
        if late > END_GRACE_SECONDS:
            yield Broken(task_id=task.id, what=f"{task.state}, {late:.1f} s past its time")
        elif history.is_settled and not task.is_ended:
            yield Broken(task_id=task.id, what=f"{task.state} after everything was to have ended")


def _lateness(task: TaskRow, now: datetime) -> float:
    end = task.finished_at or now
    if task.execution_started_at is not None:
        if task.max_total_seconds is None:
            return 0.0
        due = task.execution_started_at + timedelta(seconds=task.max_total_seconds)
    elif task.queue_deadline_at is not None:
        due = task.queue_deadline_at
    else:
        return 0.0
    return (end - due).total_seconds()


def every_event_is_published_in_order(history: History) -> Found:
    """Events of a task are numbered 1, 2, 3 …; each was published, and first in that order."""
    first: dict[UUID, list[int]] = defaultdict(list)
    for task_id, seq in history.dump.published:
        if seq not in first[task_id]:
            first[task_id].append(seq)
    for task_id, events in history.dump.events_of.items():
        numbers = sorted(event.seq for event in events)
        if numbers != list(range(1, len(numbers) + 1)):
            yield Broken(task_id=task_id, what=f"its events are numbered {numbers}")
        published = first.pop(task_id, [])
        if published != sorted(published):
            yield Broken(task_id=task_id, what=f"published in the order {published}")
        if history.is_settled and sorted(published) != numbers:
            missing = sorted(set(numbers) ^ set(published))
            yield Broken(task_id=task_id, what=f"written or published alone: {missing}")
    for task_id, published in first.items():
        yield Broken(task_id=task_id, what=f"published and not written: {published}")


def state_and_event_agree(history: History) -> Found:
    """The state of a task is the one that its last event reached, and its seq is that event's."""
    for task in history.dump.tasks:
        events = history.dump.events_of.get(task.id)
        if not events:
            yield Broken(task_id=task.id, what=f"{task.state} without an event")
            continue
        last = max(events, key=lambda event: event.seq)
        if (last.to_state, last.seq) != (task.state, task.seq):
            yield Broken(task_id=task.id, what=f"{task.state} at {task.seq}, but {_said(last)}")


def hashes_recompute(history: History) -> Found:
    """Plan, step and task hashes follow from what is stored, by docs/determinism.md."""
    for task in history.dump.tasks:
        steps = sorted(history.dump.steps_of.get(task.id, ()), key=lambda step: step.step_index)
        computed = hashes_of(_block(task, steps))
        stored = {
            "plan_hash": task.plan_hash,
            "step_hashes": [step.step_hash for step in steps],
            "task_hash": task.task_hash,
        }
        for name, value in stored.items():
            if computed[name] != value:
                yield Broken(task_id=task.id, what=f"{name} is {value}, not {computed[name]}")


def equal_tasks_hash_equally(history: History) -> Found:
    """Same input, plan, tools and limits: same plan hash, and same hashes of steps that succeed."""
    alike: dict[tuple[str | None, ...], list[TaskRow]] = defaultdict(list)
    for task in history.dump.tasks:
        if task.plan is not None:
            alike[task.input, task.plan, task.tool_set].append(task)
    for tasks in alike.values():
        hashes: dict[int, str] = {}
        for task in tasks:
            if task.plan_hash != tasks[0].plan_hash:
                yield Broken(task_id=task.id, what=f"plan hash differs from {tasks[0].id}")
            for step in history.dump.steps_of.get(task.id, ()):
                known = hashes.setdefault(step.step_index, step.step_hash)
                if step.status == "succeeded" and step.step_hash != known:
                    yield Broken(task_id=task.id, what=f"hash of step {step.step_index} differs")


def bounds_hold(history: History) -> Found:
    """Steps, time of a step and total time stay within the limits, give or take two seconds."""
    grace = GRACE_SECONDS + history.held_seconds
    for task in history.dump.tasks:
        limits, steps = task.limits, history.dump.steps_of.get(task.id, [])
        if len(steps) > limits.get("max_steps", len(steps)):
            yield Broken(task_id=task.id, what=f"{len(steps)} steps of {limits['max_steps']}")
        for step in steps:
            took = (step.finished_at - step.started_at).total_seconds()
            if took > limits.get("max_step_seconds", took) + grace:
                yield Broken(task_id=task.id, what=f"step {step.step_index} took {took:.1f} s")
        if task.execution_started_at is not None and task.finished_at is not None:
            took = (task.finished_at - task.execution_started_at).total_seconds()
            if took > (took if task.max_total_seconds is None else task.max_total_seconds) + grace:
                yield Broken(task_id=task.id, what=f"{took:.1f} s of {task.max_total_seconds}")


def _block(task: TaskRow, steps: list[StepRow]) -> dict[str, Any]:
    """The verification block of a trace, made from rows."""
    plan = json.loads(task.plan) if task.plan else None
    tool_set = json.loads(task.tool_set) if task.tool_set else []
    versions = {name: version for name, version, _ in tool_set}
    tools = {s["step_index"]: s["tool"] for s in plan["steps"]} if plan else {}
    return {
        "plan": plan,
        "tool_set": tool_set,
        "task_input": json.loads(task.input),
        "state": task.state,
        "failure_code": task.failure_code,
        "steps": [
            {
                "step_index": step.step_index,
                "tool": tools[step.step_index],
                "tool_version": versions[tools[step.step_index]],
                "resolved_input": json.loads(step.resolved_input),
                "output": None if step.output is None else json.loads(step.output),
                "status": step.status,
                "failure_code": step.failure_code,
            }
            for step in steps
        ],
    }


def _said(event: EventRow) -> str:
    return f"{event.seq}: {event.type} {event.from_state} → {event.to_state}"
