"""Answers and rows of the statements in memory against those of a real database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from services.scheduler.model import Assigned, StoredTask
from tests.simulation.sweep_statements import Statements
from tests.simulation.tables import BEGINNING

Owner = psycopg.AsyncConnection[dict[str, Any]]

TOLERANCE_SECONDS = 0.5
TIMES = ("due_at", "deadline_at", "queue_deadline_at", "lease_until", "stream_ended_at")
TASK_COLUMNS = (
    "id",
    "state",
    "seq",
    "priority",
    "rank",
    "boot_id",
    "lease_token",
    "steps_begun",
    "steps_closed",
    "tokens_used",
    "cost_usd",
    "failure_code",
    "failure_message",
    "failure_reason",
    "failure_step",
    "failure_step_index",
    "task_hash",
)


async def assert_same_rows(memory: Statements, owner: Owner, now: datetime) -> None:
    """Every row of both; `now` by the clock of the one in memory."""
    tasks = await _rows(owner, "SELECT *, clock_timestamp() AS c FROM scheduler.tasks ORDER BY id")
    mine = sorted(memory.tasks.values(), key=lambda task: task.id)
    for task, real in zip(mine, tasks, strict=True):
        for name in TASK_COLUMNS:
            assert getattr(task, name) == real[name], name
        for name in ("cancel_requested_at", "finished_at", "step_started_at"):
            assert (getattr(task, name) is None) == (real[name] is None), name
        _same_times(vars(task), real, now)
    events = await _rows(owner, "SELECT * FROM scheduler.task_events ORDER BY task_id, seq")
    mine_events = [e for t in mine for e in memory.events[t.id]]
    assert [(e.task_id, e.seq, e.type, e.from_state, e.to_state, e.data) for e in mine_events] == [
        (e["task_id"], e["seq"], e["type"], e["from_state"], e["to_state"], _said(e["data"]))
        for e in events
    ]
    await _assert_same_rest(memory, owner, now)


async def _assert_same_rest(memory: Statements, owner: Owner, now: datetime) -> None:
    steps = await _rows(owner, "SELECT * FROM scheduler.steps ORDER BY task_id, step_index")
    mine = [step for task_id in sorted(memory.steps) for step in memory.steps[task_id]]
    for step, real in zip(mine, steps, strict=True):
        assert vars(step) == {name: real[name] for name in vars(step)}
    outbox = await _rows(owner, "SELECT * FROM scheduler.outbox")
    assert sorted((o.task_id, o.first_seq, o.last_seq) for o in memory.outbox) == sorted(
        (o["task_id"], o["first_seq"], o["last_seq"]) for o in outbox
    )
    records = await _rows(owner, "SELECT * FROM bus.records ORDER BY position")
    assert memory.published == [
        (UUID(record["key"]), json.loads(record["value"])["seq"]) for record in records
    ]
    boots = await _rows(
        owner, "SELECT *, clock_timestamp() AS c FROM scheduler.executors ORDER BY boot_id"
    )
    known = sorted(memory.boots.values(), key=lambda boot: boot.boot_id)
    for boot, real in zip(known, boots, strict=True):
        for name in ("boot_id", "executor_id", "stream_id", "slots"):
            assert getattr(boot, name) == real[name]
        for name in ("ended_at", "settled_at"):
            assert (getattr(boot, name) is None) == (real[name] is None), name
        _same_times(vars(boot), real, now)


async def _rows(owner: Owner, sql: str) -> list[dict[str, Any]]:
    cursor = await owner.execute(sql.encode())
    return await cursor.fetchall()


def assert_same_tasks(mine: Iterable[Assigned], real: Iterable[Assigned]) -> None:
    """Both say the same; how much time is left, about."""
    for one, other in zip(mine, real, strict=True):
        assert_same_moment(one.seconds_left, other.seconds_left)
        same: dict[str, Any] = {"seconds_left": 0.0, "clock_at": BEGINNING}
        assert replace(one, **same) == replace(other, **same)


def without_moments(task: StoredTask | None) -> StoredTask | None:
    """A task without its moments, only whether they are there."""
    if task is None:
        return None
    names = (
        "step_started_at",
        "created_at",
        "clock_at",
        "execution_started_at",
        "finished_at",
        "scheduled_at",
        "cancel_requested_at",
    )
    moments: dict[str, Any] = {
        name: None if getattr(task, name) is None else BEGINNING for name in names
    }
    if task.replay is not None:
        moments["replay"] = replace(task.replay, clock_at=BEGINNING)
    return replace(task, **moments)


def _said(data: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(data)
    columns = ("task_id", "tenant_id", "seq", "from_state", "to_state", "at", "mode")
    return {name: value for name, value in told.items() if name not in columns}


def _same_times(mine: Mapping[str, Any], real: Mapping[str, Any], now: datetime) -> None:
    # What time does to a task is over when it has ended; its moments are not shifted either.
    if mine.get("finished_at") or mine.get("ended_at"):
        return
    for name in set(TIMES) & set(mine):
        left = None if mine[name] is None else (mine[name] - now).total_seconds()
        really = None if real[name] is None else (real[name] - real["c"]).total_seconds()
        assert_same_moment(left, really)


def assert_same_moment(one: float | None, other: float | None) -> None:
    """Both are none, or about the same number of seconds."""
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert abs(one - other) < TOLERANCE_SECONDS
