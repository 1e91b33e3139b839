"""What steps used and cost, as the scheduler's tables and events keep it, on real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from libs.core.lifecycle import TaskState
from services.scheduler.model import Verdict
from tests.scheduler_world import TENANT
from tests.servers import Database
from tests.store.scheduler_rows import Stores, row, scheduler_stores

pytestmark = pytest.mark.db

SUCCEEDED, CANCELLED = TaskState.SUCCEEDED, TaskState.CANCELLED


@pytest.fixture
async def stores(database: Database) -> AsyncIterator[Stores]:
    """The stores on a fresh database."""
    async with scheduler_stores(database) as stores:
        yield stores


async def test_event_of_a_finished_step_says_what_it_used(stores: Stores) -> None:
    stream, task = await stores.start(steps=2, begun=1)
    await stores.report(
        stream, task, closes=1, begins=2, cost_usd=0.1000001, tokens=30, sandbox_ms=12
    )
    await stores.report(stream, task, closes=2, ends=SUCCEEDED, cost_usd=0.0)

    rows = await stores.ask("SELECT type, data FROM scheduler.task_events ORDER BY seq")

    data = [json.loads(row["data"], parse_float=Decimal) for row in rows]
    used = [
        {name: one[name] for name in ("tokens", "sandbox_ms", "cost_usd") if name in one}
        for one in data
    ]
    said = {"tokens": 30, "sandbox_ms": 12, "cost_usd": Decimal("0.1000001")}
    # created, planned, queued, running, started, finished, started, finished, succeeded
    assert used == [{}, {}, {}, {}, {}, said, {}, {}, {}]


async def test_step_keeps_what_it_used_and_its_task_adds_up(stores: Stores) -> None:
    stream, task = await stores.start(steps=3, begun=1)
    for step, ends in ((1, None), (2, None), (3, SUCCEEDED)):
        begins = None if ends else step + 1
        parts: dict[str, Any] = {"cost_usd": 0.1, "tokens": 5, "sandbox_ms": step}
        await stores.report(stream, task, closes=step, begins=begins, ends=ends, **parts)

    ended = await stores.tasks.get(TENANT, task.task_id)
    assert ended is not None
    steps = [step for step, _ in await stores.tasks.steps(ended, first=1, last=3)]
    (row,) = await stores.ask("SELECT cost_usd FROM scheduler.tasks")
    # The sum of the doubles would be 0.30000000000000004.
    assert (row["cost_usd"], ended.cost_usd, ended.tokens_used) == (Decimal("0.3"), 0.3, 15)
    assert [(s.cost_usd, s.tokens, s.sandbox_ms) for s in steps] == [
        (0.1, 5, 1),
        (0.1, 5, 2),
        (0.1, 5, 3),
    ]


async def test_end_of_a_cancelled_task_says_what_its_killed_step_used(stores: Stores) -> None:
    stream, task = await stores.start(steps=2, begun=2)
    await stores.tasks.cancel(TENANT, task.task_id)
    killed = row(stream, task, ends=CANCELLED, cost_usd=0.125, tokens=7, sandbox_ms=40)

    first = await stores.work.report([killed])
    again = await stores.work.report([killed])

    assert [fates[task.task_id].verdict for fates in (first, again)] == [
        Verdict.LATE,
        Verdict.SEEN,
    ]
    ended = await stores.tasks.get(TENANT, task.task_id)
    assert ended is not None
    assert (ended.state, ended.cost_usd, ended.tokens_used) == (CANCELLED, 0.375, 7)
    rows = await stores.ask("SELECT data FROM scheduler.task_events ORDER BY seq DESC LIMIT 1")
    said = json.loads(rows[0]["data"])
    assert (said["tokens"], said["sandbox_ms"], said["cost_usd"]) == (7, 40, 0.125)


async def test_step_that_closes_after_the_cancel_costs_what_it_used(stores: Stores) -> None:
    stream, task = await stores.start(steps=2, begun=1)
    await stores.tasks.cancel(TENANT, task.task_id)

    verdict = await stores.report(stream, task, closes=1, begins=2, sandbox_ms=3)

    assert verdict is Verdict.LATE
    ended = await stores.tasks.get(TENANT, task.task_id)
    assert ended is not None
    assert (ended.state, ended.cost_usd) == (CANCELLED, 0.25)
    rows = await stores.ask("SELECT data FROM scheduler.task_events ORDER BY seq DESC LIMIT 2")
    end, finished = (json.loads(one["data"]) for one in rows)
    assert (finished["cost_usd"], finished["sandbox_ms"]) == (0.25, 3)
    assert "cost_usd" not in end
