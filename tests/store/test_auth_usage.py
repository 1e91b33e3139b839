"""Metering over the real bus tables: each accepted task and finished step counts exactly once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest

from libs.bus.consumer import Consumer
from libs.bus.envelope import BusEvent, encode
from libs.bus.postgres import CHANNEL, PostgresBus
from libs.bus.topics import DEAD_LETTERS, TASK_EVENTS
from libs.core.canonical import Json
from libs.core.ids import new_id
from libs.db.wakeups import Wakeups
from libs.rpc.tokens import KeyRing
from services.auth.consumer import GROUP, make_consumer
from services.auth.model import Amounts, DayUsage
from tests.asyncapi import check
from tests.auth_world import AuthWorld, auth_world
from tests.servers import Database
from tests.task_events import HASH, make_event, make_history, make_way
from tests.waiting import eventually

pytestmark = pytest.mark.db

TENANT = UUID("01936b2e-0000-7000-8000-00000000000a")
MAY = datetime(2026, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)
LAST_OF_MAY, FIRST_OF_JUNE = MAY.date(), JUNE.date()
COLUMNS = "SELECT tenant_id, day, tasks, steps FROM auth.usage_days ORDER BY 1, 2"
AMOUNTS = "SELECT sandbox_ms, tokens, cost_usd FROM auth.usage_days ORDER BY tenant_id, day"
USED: dict[str, Json] = {"sandbox_ms": 7, "tokens": 30, "cost_usd": 0.0001614}


@pytest.fixture
async def world(database: Database, keys: KeyRing) -> AsyncIterator[AuthWorld]:
    async with auth_world(database, keys) as world:
        yield world


def task_events(
    *,
    steps: int = 3,
    tenant_id: UUID = TENANT,
    mode: str = "live",
    at: datetime = MAY,
    used: Mapping[str, Json] | None = None,
) -> Iterator[BusEvent]:
    """What the bus carries of one task that succeeds: created, planned, queued, running, steps."""
    return make_history(new_id(), tenant_id=tenant_id, at=at, steps=steps, mode=mode, used=used)


def cancelled(*, used: Mapping[str, Json]) -> list[BusEvent]:
    """A task whose first step is killed after it used that."""
    task_id = new_id()
    way = make_way(task_id, tenant_id=TENANT, at=MAY)
    steps: list[tuple[str, str, Mapping[str, Json]]] = [
        ("step_started", "running", {"step_index": 1, "tool": "python_sandbox"}),
        ("cancel_requested", "running", {}),
        ("status_transition", "cancelled", {"task_hash": HASH, **used}),
    ]
    return way + [
        make_event(
            task_id,
            seq,
            tenant_id=TENANT,
            at=MAY,
            kind=kind,
            from_state="running",
            to_state=after,
            members=members,
        )
        for seq, (kind, after, members) in enumerate(steps, start=len(way) + 1)
    ]


async def publish(
    world: AuthWorld, events: Iterable[BusEvent], *, as_documented: bool = True
) -> None:
    for event in events:
        headers, value = encode(event)
        if as_documented:
            check(headers, str(event.key), value.encode(), event.topic)
        await world.rows(
            """
            WITH t AS (UPDATE bus.topics SET last_position = last_position + 1
                       WHERE topic = %s RETURNING topic, last_position)
            INSERT INTO bus.records (topic, position, key, headers, value)
            SELECT topic, last_position, %s, %s, %s FROM t
            """,
            TASK_EVENTS,
            str(event.key),
            json.dumps(headers),
            value,
        )


async def usage(world: AuthWorld) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in await world.rows(COLUMNS)]


async def is_read(world: AuthWorld) -> bool:
    rows = await world.rows(
        "SELECT 1 FROM auth.bus_positions p JOIN bus.topics t USING (topic) "
        "WHERE p.group_name = %s AND p.position = t.last_position",
        GROUP,
    )
    return bool(rows)


def consumer_of(world: AuthWorld) -> Consumer:
    dsn = world.database.dsn("auth")
    wakeups = Wakeups(dsn, name="test-wakeups", channels=(CHANNEL,))
    return make_consumer(PostgresBus(world.pool, wakeups=wakeups), pool=world.pool)


@asynccontextmanager
async def metering(world: AuthWorld, *, members: int = 1) -> AsyncIterator[None]:
    """So many consumers of the group run during the block; at its end all events are read."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(members):
            group.create_task(consumer_of(world).run(stop))
        try:
            yield
            await eventually(lambda: is_read(world))
        finally:
            stop.set()


async def replay(world: AuthWorld) -> None:
    """Put the group back to the beginning, as a bus does that delivers at least once."""
    await world.rows("UPDATE auth.bus_positions SET position = 0 WHERE group_name = %s", GROUP)


async def test_tasks_and_steps_are_metered_by_tenant_and_day_in_utc(world: AuthWorld) -> None:
    other = uuid4()
    await publish(world, task_events(steps=3))
    await publish(world, task_events(steps=0))
    await publish(world, task_events(steps=2, at=JUNE))
    await publish(world, task_events(steps=1, tenant_id=other))
    await publish(world, task_events(steps=5, mode="test"))

    async with metering(world):
        pass

    expected = [
        (TENANT, LAST_OF_MAY, 2, 3),
        (TENANT, FIRST_OF_JUNE, 1, 2),
        (other, LAST_OF_MAY, 1, 1),
    ]
    assert await usage(world) == sorted(expected, key=lambda row: (row[0], row[1]))


async def test_what_steps_used_is_added_up_exactly(world: AuthWorld) -> None:
    for _ in range(4):
        await publish(world, task_events(steps=25, used=USED))
    await publish(world, task_events(steps=3))
    await publish(world, task_events(steps=9, used=USED, mode="test"))
    await publish(world, cancelled(used={"sandbox_ms": 5, "cost_usd": 0.000001}))

    async with metering(world, members=2):
        pass

    assert await usage(world) == [(TENANT, LAST_OF_MAY, 6, 103)]
    (row,) = await world.rows(AMOUNTS)
    assert row == {
        "sandbox_ms": 705,
        "tokens": 3000,
        "cost_usd": Decimal("0.01614") + Decimal("0.000001"),
    }


async def test_use_that_comes_again_is_not_added_again(world: AuthWorld) -> None:
    events = [*task_events(steps=2, used=USED), *cancelled(used=USED)]
    for _ in range(2):
        await publish(world, events)
        async with metering(world):
            pass
        await replay(world)

    async with metering(world, members=2):
        pass

    (row,) = await world.rows(AMOUNTS)
    assert row == {"sandbox_ms": 21, "tokens": 90, "cost_usd": Decimal("0.0004842")}


async def test_days_are_read_with_their_requests(world: AuthWorld) -> None:
    await publish(world, task_events(steps=1, used=USED))
    async with metering(world):
        pass
    await world.rows(
        "INSERT INTO auth.request_days VALUES (%s, '2026-05-30', 4), (%s, '2026-05-31', 5),"
        " (%s, '2026-06-01', 6)",
        *[TENANT] * 3,
    )

    days = await world.store.list_usage(tenant_id=TENANT, first=date(2026, 5, 1), last=LAST_OF_MAY)

    amounts = Amounts(tasks=1, steps=1, sandbox_ms=7, tokens=30, cost_usd=Decimal("0.0001614"))
    assert days == [
        DayUsage(day=date(2026, 5, 30), requests=4),
        DayUsage(day=LAST_OF_MAY, requests=5, amounts=amounts),
    ]


async def test_replay_from_the_beginning_counts_nothing_again(world: AuthWorld) -> None:
    for _ in range(3):
        await publish(world, task_events(steps=3))
        async with metering(world):
            pass
        await replay(world)

    async with metering(world, members=2):
        pass

    assert await usage(world) == [(TENANT, LAST_OF_MAY, 3, 9)]


async def test_records_published_twice_count_once(world: AuthWorld) -> None:
    events = list(task_events(steps=3))
    await publish(world, events[:6])
    await publish(world, events)
    async with metering(world):
        pass
    await publish(world, events)

    async with metering(world):
        pass

    assert await usage(world) == [(TENANT, LAST_OF_MAY, 1, 3)]


async def test_members_of_the_group_share_without_counting_twice(world: AuthWorld) -> None:
    async with metering(world, members=4):
        for _ in range(10):
            await publish(world, task_events(steps=2))

    assert await usage(world) == [(TENANT, LAST_OF_MAY, 10, 20)]


async def test_crash_in_a_batch_leaves_nothing_and_the_next_run_counts_once(
    world: AuthWorld,
) -> None:
    await publish(world, task_events(steps=1))
    async with metering(world):
        pass
    await publish(world, task_events(steps=3))
    dsn = world.database.owner_dsn
    async with await psycopg.AsyncConnection.connect(dsn) as blocker:
        await blocker.execute("SELECT FROM auth.usage_days FOR UPDATE")
        crashed = asyncio.create_task(consumer_of(world).run(asyncio.Event()))
        # It waits for the day's row inside its transaction: position moved, nothing committed.
        await eventually(lambda: _is_waiting(world))
        crashed.cancel()
        await asyncio.gather(crashed, return_exceptions=True)

    assert await usage(world) == [(TENANT, LAST_OF_MAY, 1, 1)]
    assert not await is_read(world)
    async with metering(world):
        pass
    assert await usage(world) == [(TENANT, LAST_OF_MAY, 2, 4)]


async def test_crash_between_batches_counts_once(world: AuthWorld) -> None:
    for _ in range(4):
        await publish(world, task_events(steps=2))
        running = asyncio.create_task(consumer_of(world).run(asyncio.Event()))
        await eventually(lambda: is_read(world))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert await usage(world) == [(TENANT, LAST_OF_MAY, 4, 8)]


async def test_event_that_cannot_be_believed_is_put_aside(world: AuthWorld) -> None:
    await publish(world, task_events(steps=1, mode="prod"), as_documented=False)
    await publish(world, task_events(steps=1))

    async with metering(world):
        pass

    assert await usage(world) == [(TENANT, LAST_OF_MAY, 1, 1)]
    letters = await world.rows("SELECT headers FROM bus.records WHERE topic = %s", DEAD_LETTERS)
    assert len(letters) == 2
    assert all("mode is 'prod'" in letter["headers"] for letter in letters)


async def _is_waiting(world: AuthWorld) -> bool:
    rows = await world.rows(
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'test-auth' "
        "AND datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(rows)
