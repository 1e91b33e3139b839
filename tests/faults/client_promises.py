"""What must hold between the answers that clients got and what is stored."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tests.faults.promises import Broken, Found
from tests.faults.records import History, Operation

LONGEST_RETRY_AFTER_SECONDS = 2
_ORDER = ("created", "planned", "queued", "running", "succeeded", "failed", "cancelled")
_FIRST_ENDED = _ORDER.index("succeeded")


def nothing_acknowledged_is_lost(history: History) -> Found:
    """What was answered well is stored; of what was left open nothing, or the whole."""
    stored = history.dump.by_id
    for one in _done(history, "create"):
        task = stored.get(one.task_id) if one.task_id is not None else None
        if task is None:
            yield Broken(task_id=one.task_id, what=f"create {one.key!r} was acknowledged, no row")
        elif task.mark != one.key:
            yield Broken(task_id=task.id, what=f"answer to {one.key!r}, stored for {task.mark!r}")
    for one in _done(history, "cancel"):
        task = stored.get(one.task_id) if one.task_id is not None else None
        if task is None or (task.cancel_requested_at is None and task.state != "cancelled"):
            yield Broken(task_id=one.task_id, what="cancel was acknowledged, no trace of it")


def one_key_is_one_task(history: History) -> Found:
    """All that was sent under one key gave at most one task, and every good answer names it."""
    marks: dict[str, list[UUID]] = defaultdict(list)
    for task in history.dump.tasks:
        if task.mark:
            marks[task.mark].append(task.id)
    for mark, ids in marks.items():
        if len(ids) > 1:
            yield Broken(task_id=ids[0], what=f"{len(ids)} tasks for the key {mark!r}: {ids}")
    answered: dict[str, set[UUID | None]] = defaultdict(set)
    for one in _done(history, "create"):
        answered[one.key].add(one.task_id)
    for key, names in answered.items():
        if len(names) > 1:
            yield Broken(what=f"the key {key!r} was answered with {sorted(map(str, names))}")
    stored = history.dump.by_id
    for row in history.dump.keys:
        named = stored.get(row.task_id)
        if named is None or named.mark not in {"", row.key}:
            yield Broken(task_id=row.task_id, what=f"the key {row.key!r} names another's task")


def cancel_has_one_winner(history: History) -> Found:
    """An acknowledged cancel ends as cancelled, or failed; no tool is called after the answer.

    One that was refused because the task had ended leaves it as it was.
    """
    for one in history.operations:
        task = history.dump.by_id.get(one.task_id) if one.task_id is not None else None
        if one.kind != "cancel" or task is None:
            continue
        if one.outcome == "ok" and task.state == "succeeded":
            yield Broken(task_id=task.id, what="cancel was acknowledged, and it succeeded")
        if one.outcome == "ok" and history.is_settled and not task.is_ended:
            yield Broken(task_id=task.id, what=f"cancel was acknowledged, and it is {task.state}")
        if one.outcome == "failed" and one.status == 409 and task.state == "cancelled":
            yield from _nobody_cancelled(history, one)
        for effect in history.effects:
            late = effect.at > one.ended_at and effect.kind == "began"
            if one.outcome == "ok" and effect.task_id == task.id and late:
                yield Broken(task_id=task.id, what=f"step {effect.step_index} began after that")
    ends = Counter(
        e.task_id
        for e in history.dump.events
        if e.is_transition and e.to_state in {"succeeded", "failed", "cancelled"}
    )
    for task_id, count in ends.items():
        if count > 1:
            yield Broken(task_id=task_id, what=f"it ended {count} times")


def _nobody_cancelled(history: History, refused: Operation) -> Found:
    others = [
        one
        for one in history.operations
        if one.kind == "cancel" and one.task_id == refused.task_id and one.outcome != "failed"
    ]
    if not others:
        yield Broken(task_id=refused.task_id, what="cancel was refused, and it is cancelled")


def use_is_what_was_accepted(history: History) -> Found:
    """Every accepted task and every closed step of a live key was counted once."""
    if not history.is_settled:
        return
    tasks = Counter(task.tenant_id for task in history.dump.tasks if task.mode == "live")
    live = {task.id: task.tenant_id for task in history.dump.tasks if task.mode == "live"}
    steps = Counter(live[step.task_id] for step in history.dump.steps if step.task_id in live)
    for tenant_id in tasks.keys() | history.dump.used.keys():
        counted = history.dump.used.get(tenant_id, (0, 0))
        if counted != (tasks[tenant_id], steps[tenant_id]):
            right = f"{tasks[tenant_id]} tasks and {steps[tenant_id]} steps"
            yield Broken(what=f"tenant {tenant_id} used {right}; counted {counted}")


def concurrency_stays_within_limits(history: History) -> Found:
    """At no moment more tasks of a tenant run than it may run."""
    for tenant_id, most in history.most_running.items():
        changes = []
        for task in history.dump.tasks:
            if task.tenant_id == tenant_id and task.execution_started_at is not None:
                # What ends at a moment makes room for what begins at it.
                changes.append((task.execution_started_at, 1))
                if task.finished_at is not None:
                    changes.append((task.finished_at, -1))
        running = worst = 0
        for _, change in sorted(changes):
            running += change
            worst = max(worst, running)
        if worst > most:
            yield Broken(what=f"tenant {tenant_id} ran {worst} tasks at once, {most} are allowed")


def refusals_leave_no_trace(history: History) -> Found:
    """What was refused is nowhere: no task, no event, no key."""
    marks = {task.mark: task.id for task in history.dump.tasks if task.mark}
    keys = {row.key: row.task_id for row in history.dump.keys}
    for one in history.operations:
        if one.kind == "create" and one.outcome == "failed" and one.key:
            if one.key in marks:
                said = f"{one.status} to {one.key!r}, and there is a task"
                yield Broken(task_id=marks[one.key], what=said)
            if one.key in keys:
                said = f"{one.status} to {one.key!r}, and the key is taken"
                yield Broken(task_id=keys[one.key], what=said)
    known = history.dump.by_id.keys()
    for task_id in history.dump.events_of.keys() - known:
        yield Broken(task_id=task_id, what="events without a task")


def readers_see_committed_states(history: History) -> Found:
    """Every state that was read is one that the task was in, none older than one read before it.

    Result, end and state of an answer fit each other.
    """
    reached = {
        task_id: {event.to_state for event in events}
        for task_id, events in history.dump.events_of.items()
    }
    seen: dict[UUID, tuple[int, float]] = {}
    for one in sorted(_done(history, "get"), key=lambda one: one.began_at):
        state, task_id = _state_of(one.answer), one.task_id
        if task_id is None or state not in reached.get(task_id, set()):
            yield Broken(task_id=task_id, what=f"read as {state!r}, which it never was")
            continue
        rank = min(_ORDER.index(state), _FIRST_ENDED)
        before, answered_at = seen.get(task_id, (0, 0.0))
        # Of two readings at the same time either may be the older.
        if rank < before and one.began_at > answered_at:
            yield Broken(task_id=task_id, what=f"read as {state} after {_ORDER[before]}")
        if rank >= before:
            seen[task_id] = rank, one.ended_at
        is_ended = one.answer.get("execution_finished_at") is not None
        if is_ended != (rank == _FIRST_ENDED):
            yield Broken(task_id=task_id, what=f"read as {state}, finished: {is_ended}")
        if (one.answer.get("result") is not None) != (state == "succeeded"):
            yield Broken(task_id=task_id, what=f"read as {state}, with another state's result")


def lack_is_admitted(history: History) -> Found:
    """Whoever cannot be served is told so: 503, when to come again, and soon; never a mistake."""
    for one in history.operations:
        took = one.ended_at - one.began_at
        where = f"{one.kind} {one.key or one.task_id}"
        if one.attempts == 1 and took > one.wait_seconds + history.slowest_seconds:
            yield Broken(task_id=one.task_id, what=f"{where} took {took:.1f} s")
        if one.status >= 500 and one.status not in history.tolerated:
            yield Broken(task_id=one.task_id, what=f"{where} was answered {one.status}")
        if one.status == 503 and not _is_soon(one.retry_after):
            said = f"{where}: 503 with Retry-After {one.retry_after!r}"
            yield Broken(task_id=one.task_id, what=said)


def _state_of(answer: Mapping[str, Any]) -> str:
    """The core's word: the runtime dialect calls a cancelled task failed."""
    failure = answer.get("failure") or {}
    return "cancelled" if failure.get("code") == "CANCELLED" else str(answer.get("status"))


def _is_soon(retry_after: str | None) -> bool:
    text = retry_after or ""
    return text.isdecimal() and 1 <= int(text) <= LONGEST_RETRY_AFTER_SECONDS


def _done(history: History, kind: str) -> list[Operation]:
    return [one for one in history.operations if one.kind == kind and one.outcome == "ok"]
