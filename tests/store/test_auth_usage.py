"""Metering over the real bus tables: each accepted task and finished step counts exactly once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest

from libs.bus.consumer import Consumer
from libs.bus.envelope import BusEvent, encode
from libs.bus.postgres import CHANNEL, PostgresBus
from libs.bus.topics import DEAD_LETTERS, TASK_EVENTS
from libs.core.ids import new_id
from libs.db.wakeups import Wakeups
from libs.rpc.tokens import KeyRing
from services.auth.consumer import GROUP, make_consumer
from tests.asyncapi import check
from tests.auth_world import AuthWorld, auth_world
from tests.servers import Database
from tests.task_events import make_history
from tests.waiting import eventually

pytestmark = pytest.mark.db

TENANT = UUID("01936b2e-0000-7000-8000-00000000000a")
MAY = datetime(2026, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)
COLUMNS = "SELECT tenant_id, month, tasks, steps FROM auth.usage_months ORDER BY 1, 2"


@pytest.fixture
async def world(database: Database, keys: KeyRing) -> AsyncIterator[AuthWorld]:
    async with auth_world(database, keys) as world:
        yield world


def task_events(
    *, steps: int = 3, tenant_id: UUID = TENANT, mode: str = "live", at: datetime = MAY
) -> Iterator[BusEvent]:
    """What the bus carries of one task that succeeds: created, planned, queued, running, steps."""
    return make_history(new_id(), tenant_id=tenant_id, at=at, steps=steps, mode=mode)


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


async def test_tasks_and_steps_are_metered_by_tenant_and_month(world: AuthWorld) -> None:
    other = uuid4()
    await publish(world, task_events(steps=3))
    await publish(world, task_events(steps=0))
    await publish(world, task_events(steps=2, at=JUNE))
    await publish(world, task_events(steps=1, tenant_id=other))
    await publish(world, task_events(steps=5, mode="test"))

    async with metering(world):
        pass

    expected = [
        (TENANT, "2026-05", 2, 3),
        (TENANT, "2026-06", 1, 2),
        (other, "2026-05", 1, 1),
    ]
    assert await usage(world) == sorted(expected, key=lambda row: (row[0], row[1]))


async def test_replay_from_the_beginning_counts_nothing_again(world: AuthWorld) -> None:
    for _ in range(3):
        await publish(world, task_events(steps=3))
        async with metering(world):
            pass
        await replay(world)

    async with metering(world, members=2):
        pass

    assert await usage(world) == [(TENANT, "2026-05", 3, 9)]


async def test_records_published_twice_count_once(world: AuthWorld) -> None:
    events = list(task_events(steps=3))
    await publish(world, events[:6])
    await publish(world, events)
    async with metering(world):
        pass
    await publish(world, events)

    async with metering(world):
        pass

    assert await usage(world) == [(TENANT, "2026-05", 1, 3)]


async def test_members_of_the_group_share_without_counting_twice(world: AuthWorld) -> None:
    async with metering(world, members=4):
        for _ in range(10):
            await publish(world, task_events(steps=2))

    assert await usage(world) == [(TENANT, "2026-05", 10, 20)]


async def test_crash_in_a_batch_leaves_nothing_and_the_next_run_counts_once(
    world: AuthWorld,
) -> None:
    await publish(world, task_events(steps=1))
    async with metering(world):
        pass
    await publish(world, task_events(steps=3))
    dsn = world.database.owner_dsn
    async with await psycopg.AsyncConnection.connect(dsn) as blocker:
        await blocker.execute("SELECT FROM auth.usage_months FOR UPDATE")
        crashed = asyncio.create_task(consumer_of(world).run(asyncio.Event()))
        # It waits for the month's row inside its transaction: position moved, nothing committed.
        await eventually(lambda: _is_waiting(world))
        crashed.cancel()
        await asyncio.gather(crashed, return_exceptions=True)

    assert await usage(world) == [(TENANT, "2026-05", 1, 1)]
    assert not await is_read(world)
    async with metering(world):
        pass
    assert await usage(world) == [(TENANT, "2026-05", 2, 4)]


async def test_crash_between_batches_counts_once(world: AuthWorld) -> None:
    for _ in range(4):
        await publish(world, task_events(steps=2))
        running = asyncio.create_task(consumer_of(world).run(asyncio.Event()))
        await eventually(lambda: is_read(world))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert await usage(world) == [(TENANT, "2026-05", 4, 8)]


async def test_event_that_cannot_be_believed_is_put_aside(world: AuthWorld) -> None:
    await publish(world, task_events(steps=1, mode="prod"), as_documented=False)
    await publish(world, task_events(steps=1))

    async with metering(world):
        pass

    assert await usage(world) == [(TENANT, "2026-05", 1, 1)]
    letters = await world.rows("SELECT headers FROM bus.records WHERE topic = %s", DEAD_LETTERS)
    assert len(letters) == 2
    assert all("mode is 'prod'" in letter["headers"] for letter in letters)


async def _is_waiting(world: AuthWorld) -> bool:
    rows = await world.rows(
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'test-auth' "
        "AND datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(rows)
