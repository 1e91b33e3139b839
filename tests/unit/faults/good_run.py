"""A history in which every promise is kept, made by hand, and small changes to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from libs.core.canonical import canonical_text
from libs.core.hashing import step_hash, task_hash, written_plan_hash
from libs.core.tool_spec import ToolRef, tool_set_json
from tests.faults.records import (
    Dump,
    Effect,
    EventRow,
    History,
    KeyRow,
    Operation,
    StepRow,
    TaskRow,
)

TENANT = UUID(int=7)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LEDGER = ToolRef("ledger", "1.0.0", "d" * 64)
GOOD, FAILING, CANCELLED, WAITING = (UUID(int=n) for n in range(1, 5))
_WAY = ("created", "planned", "queued")


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One task: how many of its three steps closed, and how it ended; None: it waits."""

    id: UUID
    key: str
    closed: int
    end: str | None
    open_step: bool = False


LIVES = (
    Life(id=GOOD, key="good", closed=3, end="succeeded"),
    Life(id=FAILING, key="failing", closed=2, end="failed"),
    Life(id=CANCELLED, key="cancelled", closed=1, end="cancelled", open_step=True),
)


def good_history(lives: Iterable[Life] = LIVES) -> History:
    """A settled run of these tasks, created, read and, where they ended so, cancelled."""
    lives = tuple(lives)
    tasks, events, steps = [], [], []
    for life in lives:
        task, its_events, its_steps = _rows(life)
        tasks.append(task)
        events += its_events
        steps += its_steps
    dump = Dump(
        taken_at=BEGIN + timedelta(seconds=60),
        tasks=tuple(tasks),
        events=tuple(events),
        steps=tuple(steps),
        keys=tuple(KeyRow(key=life.key, task_id=life.id) for life in lives),
        # Something comes twice, as it may.
        published=tuple((e.task_id, e.seq) for e in [*events, *events[:2]]),
        used={TENANT: (len(tasks), len(steps))},
    )
    return History(
        operations=tuple(op for life in lives for op in _operations(life)),
        dump=dump,
        earlier=dump,
        effects=tuple(effect for life in lives for effect in _effects(life)),
        most_running={TENANT: 3},
    )


def _rows(life: Life) -> tuple[TaskRow, list[EventRow], list[StepRow]]:
    plan = {
        "steps": [{"step_index": n, "tool": "ledger", "input": {"n": n}} for n in (1, 2, 3)],
        "limits": {"max_steps": 3, "max_step_seconds": 5, "max_total_seconds": 20},
    }
    task_input = {"mark": life.key}
    hashed = written_plan_hash(plan, tools=[LEDGER], task_input=task_input)
    code = "TOOL_ERROR" if life.end == "failed" else None
    steps = _steps(life, hashed)
    events = _events(life, steps)
    started = next((e.at for e in events if e.to_state == "running"), None)
    task = TaskRow(
        id=life.id,
        tenant_id=TENANT,
        mode="live",
        state=events[-1].to_state,
        seq=events[-1].seq,
        created_at=events[0].at,
        queue_deadline_at=events[0].at + timedelta(seconds=300),
        execution_started_at=started,
        finished_at=events[-1].at if life.end else None,
        max_total_seconds=20.0,
        cancel_requested_at=events[-2].at if life.end == "cancelled" else None,
        lease_token=0 if started is None else 1,
        step_count=3,
        failure_code=code,
        plan_hash=hashed,
        task_hash=None
        if life.end is None
        else task_hash(
            hashed, step_hashes=[s.step_hash for s in steps], state=life.end, failure_code=code
        ),
        tool_set=json.dumps(tool_set_json([LEDGER])),
        plan=canonical_text(plan),
        input=canonical_text(task_input),
        digest=f"digest of {life.id}",
    )
    return task, events, steps


def _steps(life: Life, previous: str) -> list[StepRow]:
    rows = []
    for n in range(1, life.closed + 1):
        code = "TOOL_ERROR" if life.end == "failed" and n == life.closed else None
        output = None if code else {"n": n}
        previous = step_hash(
            previous,
            step_index=n,
            tool=LEDGER.label,
            resolved_input={"n": n},
            output=output,
            failure_code=code,
        )
        rows.append(
            StepRow(
                task_id=life.id,
                step_index=n,
                status="failed" if code else "succeeded",
                started_at=BEGIN + timedelta(seconds=n),
                finished_at=BEGIN + timedelta(seconds=n + 0.5),
                failure_code=code,
                step_hash=previous,
                resolved_input=canonical_text({"n": n}),
                output=None if output is None else canonical_text(output),
            )
        )
    return rows


def _events(life: Life, steps: list[StepRow]) -> list[EventRow]:
    events: list[EventRow] = []

    def add(kind: str, before: str | None, after: str, **data: Any) -> None:
        at = BEGIN + timedelta(seconds=0.1 * len(events))
        seq = len(events) + 1
        events.append(
            EventRow(
                task_id=life.id,
                seq=seq,
                type=kind,
                from_state=before,
                to_state=after,
                at=at,
                data=data,
            )
        )

    for before, after in pairwise((None, *_WAY)):
        add("status_transition", before, str(after))
    if life.end is None:
        return events
    add("status_transition", "queued", "running")
    for step in steps:
        add("step_started", "running", "running", step_index=step.step_index)
        add(
            "step_finished",
            "running",
            "running",
            step_index=step.step_index,
            status=step.status,
        )
    if life.open_step:
        add("step_started", "running", "running", step_index=life.closed + 1)
    if life.end == "cancelled":
        add("cancel_requested", "running", "running")
    add("status_transition", "running", life.end)
    return events


def _operations(life: Life) -> list[Operation]:
    def one(kind: Any, at: float, status: int = 200, **more: Any) -> Operation:
        return Operation(
            kind=kind,
            task_id=life.id,
            outcome="ok",
            status=status,
            began_at=at,
            ended_at=at + 0.1,
            **more,
        )

    early = {"status": "queued", "execution_finished_at": None, "result": None}
    return [
        one("create", 100.0, key=life.key),
        one("get", 101.0, answer=early),
        *([one("cancel", 108.0)] if life.end == "cancelled" else []),
        one("get", 110.0, answer=_final(life)),
        Operation(
            kind="create",
            key=f"refused-{life.key}",
            outcome="failed",
            status=422,
            began_at=111.0,
            ended_at=111.1,
        ),
        Operation(
            kind="create",
            key=f"open-{life.key}",
            outcome="unknown",
            status=503,
            retry_after="1",
            began_at=112.0,
            ended_at=112.1,
        ),
    ]


def _final(life: Life) -> dict[str, Any]:
    """What a reader is told in the end; this dialect calls a cancelled task failed."""
    return {
        "status": "failed" if life.end == "cancelled" else life.end or "queued",
        "failure": {"code": "CANCELLED"} if life.end == "cancelled" else None,
        "execution_finished_at": "2026-01-01T00:00:09Z" if life.end else None,
        "result": {"n": 3} if life.end == "succeeded" else None,
    }


def _effects(life: Life) -> list[Effect]:
    kinds: tuple[Any, ...] = ("began", "ended")
    return [
        Effect(task_id=life.id, step_index=n, kind=kind, boot="b", pid=1, at=102.0 + n + 0.1 * late)
        for n in range(1, life.closed + 1)
        for late, kind in enumerate(kinds)
    ]


def with_dump(history: History, **changes: Any) -> History:
    """The same run with other rows."""
    return replace(history, dump=replace(history.dump, **changes))


def with_task(history: History, task_id: UUID, **changes: Any) -> History:
    """The same run with one task's row changed."""
    tasks = tuple(replace(t, **changes) if t.id == task_id else t for t in history.dump.tasks)
    return with_dump(history, tasks=tasks)


def with_event(history: History, where: Callable[[EventRow], bool], **changes: Any) -> History:
    """The same run with those events changed."""
    events = tuple(replace(e, **changes) if where(e) else e for e in history.dump.events)
    return with_dump(history, events=events)


def with_operation(history: History, where: Callable[[Operation], bool], **changes: Any) -> History:
    """The same run with those operations changed."""
    found = tuple(replace(o, **changes) if where(o) else o for o in history.operations)
    return replace(history, operations=found)
