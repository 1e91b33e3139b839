"""Limits of running tasks, per tenant and agent, at the claim; and what is said of who waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from libs.core.lifecycle import TaskState
from services.scheduler.judgement import judge_lost
from services.scheduler.model import Agent, Stream
from services.scheduler.waiting import why_waiting
from tests.scheduler_world import OTHER_TENANT, TENANT, WAIT
from tests.servers import Database
from tests.store.scheduler_rows import Stores, scheduler_stores
from tests.waiting import eventually

pytestmark = pytest.mark.db

CROWD = """
WITH t AS (
  INSERT INTO scheduler.tasks SELECT (jsonb_populate_record(x, jsonb_build_object(
    'id', gen_random_uuid(), 'rank', 0, 'priority', 5))).*
  FROM scheduler.tasks x, generate_series(1, 700) WHERE x.state = 'queued'
  RETURNING id
)
INSERT INTO scheduler.task_events
SELECT t.id, v.seq, 'status_transition', v.f, v.t, now(), '{}'
FROM t CROSS JOIN (VALUES (1, NULL, 'created'), (2, 'created', 'planned'), (3, 'planned', 'queued'))
  AS v(seq, f, t)
"""
"""Copies of the one queued task, more urgent than it."""


@pytest.fixture
async def stores(database: Database) -> AsyncIterator[Stores]:
    """Stores of a scheduler."""
    async with scheduler_stores(database) as stores:
        yield stores


async def most_running(stores: Stores, column: str = "tenant_id") -> int:
    """How many tasks of one tenant, or agent, run."""
    (row,) = await stores.ask(
        f"SELECT coalesce(max(n), 0) AS most FROM (SELECT count(*) AS n FROM scheduler.tasks"
        f" WHERE state = 'running' GROUP BY {column}) AS counts"
    )
    return int(row["most"])


async def reason_of(stores: Stores, task_id: UUID) -> tuple[str, int | None]:
    """Why a task waits, and its place."""
    view = await stores.tasks.queue_view(TENANT, task_id)
    assert view is not None
    waiting = why_waiting(view)
    return waiting.reason.value, waiting.position


async def test_no_more_of_a_tenant_than_its_limit(stores: Stores) -> None:
    for _ in range(5):
        await stores.insert_task(tenant_limit=2)
    other = await stores.insert_task(tenant_id=OTHER_TENANT, tenant_limit=2)
    stream = await stores.connect()

    claimed = await stores.work.claim(stream, slots=8)

    assert claimed.is_limited
    assert len(claimed.tasks) == 3
    assert other.id in {task.task_id for task in claimed.tasks}
    again = await stores.work.claim(stream, slots=8)
    assert (again.tasks, again.is_limited) == ((), True)


async def test_end_of_a_task_makes_room_in_the_same_commit(stores: Stores) -> None:
    for _ in range(3):
        await stores.insert_task(tenant_limit=1, steps=1)
    stream = await stores.connect()
    (task,) = await stores.claim(stream, slots=8)
    await stores.report(stream, task, begins=1)
    assert await stores.claim(stream, slots=8) == ()

    await stores.report(stream, task, closes=1, ends=TaskState.SUCCEEDED)

    assert len(await stores.claim(stream, slots=8)) == 1


async def test_task_begins_after_the_end_that_made_room_for_it(
    stores: Stores, database: Database
) -> None:
    for _ in range(2):
        await stores.insert_task(tenant_limit=1, steps=1)
    stream, other = await stores.connect(), await stores.connect(executor_id="ex-2")
    (first,) = await stores.claim(stream, slots=1)
    await stores.report(stream, first, begins=1)
    async with await psycopg.AsyncConnection.connect(database.owner_dsn, autocommit=True) as turn:
        await turn.execute("SELECT pg_advisory_lock(5206, 1)")
        claiming = asyncio.create_task(stores.claim(other, slots=1))
        await eventually(lambda: _claim_waits(turn))
        await stores.report(stream, first, closes=1, ends=TaskState.SUCCEEDED)
    (second,) = await claiming

    (row,) = await stores.ask(
        "SELECT s.execution_started_at >= f.finished_at AS in_order FROM scheduler.tasks f,"
        f" scheduler.tasks s WHERE f.id = '{first.task_id}' AND s.id = '{second.task_id}'"
    )
    assert row["in_order"]


async def _claim_waits(connection: psycopg.AsyncConnection[Any]) -> bool:
    cursor = await connection.execute(
        "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return await cursor.fetchone() is not None


async def test_sixteen_claims_at_once_keep_the_limits_and_leave_nothing(stores: Stores) -> None:
    agents = [Agent(agent_id=uuid4(), max_concurrent_tasks=3) for _ in range(2)]
    tenants = [uuid4() for _ in range(6)]
    for n in range(240):
        await stores.insert_task(
            tenant_id=tenants[n % 6], tenant_limit=7, agent=agents[n % 2] if n % 3 == 0 else None
        )
    streams = [await stores.connect(executor_id=f"ex-{n}", slots=4) for n in range(16)]

    claimed = await asyncio.gather(*(stores.claim_apart(s, slots=4) for s in streams))

    taken = [task.task_id for one in claimed for task in one.tasks]
    assert len(taken) == len(set(taken))
    assert await most_running(stores) <= 7
    running = await stores.ask(
        "SELECT count(*) AS n FROM scheduler.tasks WHERE state = 'running' AND agent_id IS NOT NULL"
        " GROUP BY agent_id"
    )
    assert max(row["n"] for row in running) <= 3
    rest = await stores.claim(streams[0], slots=240)
    # Two tenants have tasks of these agents only: 4 tenants × 7, and 2 agents × 3.
    assert len(taken) + len(rest) == 34
    assert (await stores.work.claim(streams[0], slots=1)).tasks == ()


async def test_agents_limit_holds_across_tenants(stores: Stores) -> None:
    agent = Agent(agent_id=uuid4(), max_concurrent_tasks=2)
    for tenant_id in (TENANT, OTHER_TENANT, uuid4()):
        await stores.insert_task(tenant_id=tenant_id, agent=agent)
    free = await stores.insert_task()
    stream = await stores.connect()

    claimed = await stores.work.claim(stream, slots=9)

    assert len(claimed.tasks) == 3
    assert claimed.is_limited
    assert free.id in {task.task_id for task in claimed.tasks}


async def test_tenant_behind_a_crowd_at_its_limit_is_found(stores: Stores) -> None:
    """Beyond the heads that are looked at first, every waiting tenant is asked for its own."""
    for _ in range(3):
        await stores.insert_task(tenant_limit=2)
    stream = await stores.connect(slots=50)
    assert len(await stores.claim(stream, slots=50)) == 2
    await stores.ask(CROWD)
    others = [await stores.insert_task(tenant_id=uuid4(), tenant_limit=2) for _ in range(5)]

    claimed = await stores.work.claim(stream, slots=50)

    assert {task.task_id for task in claimed.tasks} == {task.id for task in others}
    assert claimed.is_limited


async def crowded(stores: Stores) -> Stream:
    """A stream whose queue begins with more tasks of a tenant at its limit than are looked at."""
    for _ in range(3):
        await stores.insert_task(tenant_limit=2)
    stream = await stores.connect(slots=50)
    assert len(await stores.claim(stream, slots=50)) == 2
    await stores.ask(CROWD)
    return stream


async def test_agent_at_its_limit_hides_no_other_task_of_its_tenant(stores: Stores) -> None:
    stream, tenant_id = await crowded(stores), uuid4()
    agents = [Agent(agent_id=uuid4(), max_concurrent_tasks=1) for _ in range(2)]
    for agent in agents:
        await stores.insert_task(tenant_id=tenant_id, agent=agent, priority=9)
    assert len(await stores.claim(stream, slots=2)) == 2
    for agent in agents:
        for _ in range(5):
            await stores.insert_task(tenant_id=tenant_id, agent=agent)
    free = await stores.insert_task(tenant_id=tenant_id)

    assert [task.task_id for task in await stores.claim(stream, slots=4)] == [free.id]


async def test_tasks_of_a_lower_limit_hide_none_of_a_higher(stores: Stores) -> None:
    stream, tenant_id = await crowded(stores), uuid4()
    for _ in range(2):
        await stores.insert_task(tenant_id=tenant_id, tenant_limit=2, priority=9)
    assert len(await stores.claim(stream, slots=2)) == 2
    for _ in range(5):
        await stores.insert_task(tenant_id=tenant_id, tenant_limit=2)
    free = await stores.insert_task(tenant_id=tenant_id, tenant_limit=20)

    assert [task.task_id for task in await stores.claim(stream, slots=4)] == [free.id]


async def test_task_that_is_taken_over_needs_no_room(stores: Stores) -> None:
    await stores.insert_task(tenant_limit=1)
    stream = await stores.connect()
    (task,) = await stores.claim(stream)
    await stores.insert_task(tenant_limit=1)
    await stores.work.end_boot(stream)
    await stores.sweeps.settle([judge_lost(one) for one in await stores.sweeps.lost_tasks()])

    claimed = await stores.work.claim(await stores.connect(executor_id="b"), slots=8)

    assert [one.task_id for one in claimed.tasks] == [task.task_id]


async def test_why_a_task_waits(stores: Stores) -> None:
    agent = Agent(agent_id=uuid4(), max_concurrent_tasks=1)
    (soon,) = await stores.ask("SELECT now() + interval '1 hour' AS at")
    first = await stores.insert_task(agent=agent)
    second = await stores.insert_task(agent=agent)
    third = await stores.insert_task(tenant_limit=1)
    elsewhere = await stores.insert_task(tool=WAIT)
    due = await stores.insert_task(scheduled_at=soon["at"])

    assert await reason_of(stores, first.id) == ("no_executor", 1)
    stream = await stores.connect(slots=1)
    assert await reason_of(stores, first.id) == ("turn", 1)
    assert await reason_of(stores, second.id) == ("turn", 2)
    await stores.claim(stream)
    assert await reason_of(stores, second.id) == ("agent_limit", 1)
    assert await reason_of(stores, third.id) == ("tenant_limit", 2)
    assert await reason_of(stores, elsewhere.id) == ("no_executor", 3)
    assert await reason_of(stores, due.id) == ("scheduled", None)
    plain = await stores.insert_task()
    assert await reason_of(stores, plain.id) == ("no_slot", 4)
    assert await stores.tasks.queue_view(TENANT, first.id) is None
    assert await stores.tasks.queue_view(OTHER_TENANT, plain.id) is None


async def test_limits_and_due_time_never_change(stores: Stores) -> None:
    await stores.insert_task(tenant_limit=3)

    for column, value in (("tenant_limit", "9"), ("scheduled_at", "now()"), ("agent_id", "id")):
        with pytest.raises(Exception, match="never changes"):
            await stores.ask(f"UPDATE scheduler.tasks SET {column} = {value}")
