"""What the database itself promises about artifacts, and the consumer of task events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from psycopg import errors

from libs.bus.bus import BusRecord
from libs.bus.envelope import UnreadableEventError, decode, encode
from libs.bus.postgres import CHANNEL, PostgresBus
from libs.bus.topics import DEAD_LETTERS, TASK_EVENTS
from libs.core.ids import new_id
from libs.core.lifecycle import TaskState
from libs.db.wakeups import Wakeups
from libs.rpc.tokens import KeyRing
from services.artifact.consumer import make_consumer
from services.artifact.convert import end_from_event
from services.artifact.model import ArtifactState, Place
from tests.artifact_world import (
    OTHER_TENANT,
    TENANT,
    ArtifactWorld,
    artifact_world,
    make_artifact,
)
from tests.asyncapi import check
from tests.servers import Database
from tests.task_events import HASH, make_event
from tests.waiting import eventually


@pytest_asyncio.fixture
async def world(database: Database, keys: KeyRing) -> AsyncIterator[ArtifactWorld]:
    async with artifact_world(database, keys) as world:
        yield world


async def staged(
    world: ArtifactWorld, *, state: TaskState = TaskState.RUNNING
) -> tuple[UUID, UUID]:
    """A task, which goes on to `state`, with one staged artifact: both ids."""
    task_id = await world.task()
    stored = await world.store.put(make_artifact(task_id), artifact_id=new_id())
    assert stored is not None
    if state is not TaskState.RUNNING:
        await world.ends(task_id, state)
    return task_id, stored.id


async def state_of(world: ArtifactWorld, artifact_id: UUID) -> ArtifactState:
    found = await world.store.read(artifact_id, tenant_id=TENANT)
    assert found is not None
    return found.state


def make_record(task_id: UUID, to_state: str) -> BusRecord:
    """What the bus carries when a task begins to run, or ends."""
    is_end = to_state != "running"
    event = make_event(
        task_id,
        5 if is_end else 4,
        tenant_id=TENANT,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        from_state="running" if is_end else "queued",
        to_state=to_state,
        members=({"task_hash": HASH} if is_end else {})
        | ({"failure_code": "TIMEOUT"} if to_state == "failed" else {}),
    )
    headers, value = encode(event)
    check(headers, str(task_id), value.encode(), TASK_EVENTS)
    return BusRecord(
        topic=TASK_EVENTS,
        position=1,
        key=str(task_id),
        headers=json.dumps(headers),
        value=value,
    )


async def publish(world: ArtifactWorld, record: BusRecord) -> None:
    await world.ask(
        """
        WITH t AS (UPDATE bus.topics SET last_position = last_position + 1
                   WHERE topic = %s RETURNING topic, last_position)
        INSERT INTO bus.records (topic, position, key, headers, value)
        SELECT topic, last_position, %s, %s, %s FROM t
        """,
        (record.topic, record.key, record.headers, record.value),
    )


async def test_put_stores_as_staged(world: ArtifactWorld) -> None:
    task_id, artifact_id = await staged(world)

    found = await world.store.read(artifact_id, tenant_id=TENANT)

    assert found is not None
    assert (found.state, found.data, found.size_bytes) == (ArtifactState.STAGED, '{"a":1}', 7)
    assert found.place == Place(tenant_id=TENANT, task_id=task_id, step_index=1, ordinal=0)


async def test_put_of_twenty_at_once_stores_one(world: ArtifactWorld) -> None:
    task_id = await world.task()
    new = make_artifact(task_id)

    stored = await asyncio.gather(*(world.store.put(new, artifact_id=new_id()) for _ in range(20)))

    assert len([one for one in stored if one is not None]) == 1


@pytest.mark.parametrize(
    "state", [TaskState.QUEUED, TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED]
)
async def test_put_stores_nothing_for_a_task_that_is_not_running(
    world: ArtifactWorld, state: TaskState
) -> None:
    task_id = await world.task(state)

    assert await world.store.put(make_artifact(task_id), artifact_id=new_id()) is None
    assert await world.store.put(make_artifact(new_id()), artifact_id=new_id()) is None


async def test_read_binds_the_tenant(world: ArtifactWorld) -> None:
    task_id, artifact_id = await staged(world, state=TaskState.SUCCEEDED)
    await world.store.settle(task_id, tenant_id=TENANT, state=ArtifactState.AVAILABLE)

    assert await world.store.read(artifact_id, tenant_id=OTHER_TENANT) is None
    assert (
        await world.store.settle(task_id, tenant_id=OTHER_TENANT, state=ArtifactState.DISCARDED)
        == 0
    )
    assert not await world.store.list_available(
        task_id, tenant_id=OTHER_TENANT, after=(0, -1), count=9
    )


async def test_settle_is_final_and_repeatable(world: ArtifactWorld) -> None:
    task_id, artifact_id = await staged(world)

    counts = [
        await world.store.settle(task_id, tenant_id=TENANT, state=state)
        for state in (
            ArtifactState.AVAILABLE,
            ArtifactState.AVAILABLE,
            ArtifactState.DISCARDED,
        )
    ]

    assert counts == [1, 0, 0]
    assert await state_of(world, artifact_id) is ArtifactState.AVAILABLE


FORBIDDEN = [
    "UPDATE artifact.artifacts SET data = '{\"a\":2}'",
    "UPDATE artifact.artifacts SET data = NULL",
    "UPDATE artifact.artifacts SET blob_key = 'x'",
    "UPDATE artifact.artifacts SET sha256 = repeat('0', 64)",
    "UPDATE artifact.artifacts SET tenant_id = gen_random_uuid()",
    "UPDATE artifact.artifacts SET task_id = gen_random_uuid()",
    "UPDATE artifact.artifacts SET step_index = 2",
    "UPDATE artifact.artifacts SET ordinal = 2",
    "UPDATE artifact.artifacts SET type = 'other'",
    "UPDATE artifact.artifacts SET size_bytes = 8",
    "UPDATE artifact.artifacts SET created_at = now()",
    "UPDATE artifact.artifacts SET id = gen_random_uuid()",
    "UPDATE artifact.artifacts SET state = 'staged'",
    "UPDATE artifact.artifacts SET state = 'gone'",
    "UPDATE artifact.artifacts SET state = 'available'",
    "DELETE FROM artifact.artifacts",
    "TRUNCATE artifact.artifacts",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_the_owner_too_cannot_change_what_is_stored(
    world: ArtifactWorld, statement: str
) -> None:
    await staged(world)
    before = await world.ask("SELECT * FROM artifact.artifacts")

    with pytest.raises(errors.CheckViolation):
        await world.ask("SET session_replication_role = replica; " + statement)

    assert await world.ask("SELECT * FROM artifact.artifacts") == before


@pytest.mark.parametrize(
    ("before", "after", "is_allowed"),
    [
        ("staged", "staged", False),
        ("staged", "available", True),
        ("staged", "discarded", True),
        ("available", "staged", False),
        ("available", "available", False),
        ("available", "discarded", False),
        ("discarded", "staged", False),
        ("discarded", "available", False),
        ("discarded", "discarded", False),
    ],
)
async def test_the_state_goes_one_way(
    world: ArtifactWorld, before: str, after: str, is_allowed: bool
) -> None:
    task_id, _ = await staged(world)
    if before != "staged":
        await world.store.settle(task_id, tenant_id=TENANT, state=ArtifactState(before))
    settled_at = "NULL" if after == "staged" else "now()"
    change = f"UPDATE artifact.artifacts SET state = '{after}', settled_at = {settled_at}"

    async with world.pool.connection() as connection:
        if is_allowed:
            await connection.execute(change.encode())
        else:
            with pytest.raises(errors.CheckViolation):
                await connection.execute(change.encode())


def make_row() -> dict[str, object]:
    new = make_artifact(new_id())
    return {
        "id": new_id(),
        "tenant_id": TENANT,
        "task_id": new.place.task_id,
        "step_index": 1,
        "ordinal": 0,
        "type": new.type,
        "data": new.content.data,
        "sha256": new.content.sha256,
        "size_bytes": new.content.size_bytes,
        "state": "staged",
    }


async def insert(world: ArtifactWorld, row: dict[str, object]) -> None:
    columns, values = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    async with world.pool.connection() as connection:
        await connection.execute(
            f"INSERT INTO artifact.artifacts ({columns}) VALUES ({values})".encode(), row
        )


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "0" * 64},
        {"size_bytes": 3},
        {"state": "available"},
        {"data": "{}"},
        {"data": None},
        {"blob_key": "x"},
    ],
)
async def test_an_insert_must_be_whole(world: ArtifactWorld, change: dict[str, object]) -> None:
    with pytest.raises(errors.CheckViolation):
        await insert(world, make_row() | change)


SHA256 = "ab" * 32
KEY = f"{TENANT}/sha256/ab/{SHA256}"


async def test_a_blob_takes_the_place_of_the_data(world: ArtifactWorld) -> None:
    row = make_row() | {"data": None, "blob_key": KEY, "sha256": SHA256, "size_bytes": 2**20}

    await insert(world, row)

    found = await world.ask("SELECT data, blob_key FROM artifact.artifacts")
    assert found == [(None, KEY)]


@pytest.mark.parametrize(
    "change",
    [
        {"data": "{}"},
        {"blob_key": None},
        {"blob_key": KEY.replace(str(TENANT), str(OTHER_TENANT))},
        {"blob_key": f"{TENANT}/sha256/cd/{SHA256}"},
        {"blob_key": f"{TENANT}/sha256/ab/{'ab' * 31}cd"},
        {"sha256": "../" * 10, "blob_key": f"{TENANT}/sha256/../{'../' * 10}"},
        {"state": "available"},
        {"size_bytes": 2**20 + 1},
    ],
)
async def test_a_row_names_no_blob_but_its_own(
    world: ArtifactWorld, change: dict[str, object]
) -> None:
    row = make_row() | {"data": None, "blob_key": KEY, "sha256": SHA256, "size_bytes": 2**20}

    with pytest.raises(errors.CheckViolation):
        await insert(world, row | change)


async def test_the_blob_of_a_row_never_changes(world: ArtifactWorld) -> None:
    row = make_row() | {"data": None, "blob_key": KEY, "sha256": SHA256, "size_bytes": 2**20}
    await insert(world, row)

    for change in ("blob_key = NULL, data = '1'", f"blob_key = '{KEY}'", "sha256 = 'cd'"):
        with pytest.raises(errors.CheckViolation):
            await world.ask(
                f"SET session_replication_role = replica; UPDATE artifact.artifacts SET {change}"
            )


async def test_the_role_of_the_service_owns_nothing(world: ArtifactWorld) -> None:
    async with world.pool.connection() as connection:
        for statement in (
            b"DELETE FROM artifact.artifacts",
            b"UPDATE artifact.artifacts SET data = ''",
            b"SELECT * FROM scheduler.tasks",
            b"SELECT * FROM scheduler.task_events",
            b"ALTER TABLE artifact.artifacts DISABLE TRIGGER ALL",
        ):
            with pytest.raises((errors.InsufficientPrivilege, errors.CheckViolation)):
                await connection.execute(statement)


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ("succeeded", ArtifactState.AVAILABLE),
        ("failed", ArtifactState.DISCARDED),
        ("cancelled", ArtifactState.DISCARDED),
    ],
)
async def test_consumer_settles_when_a_task_ends(
    world: ArtifactWorld, ended: str, expected: ArtifactState
) -> None:
    task_id, artifact_id = await staged(world)
    going_on, other_id = await staged(world)
    await publish(world, make_record(going_on, "running"))
    await publish(world, BusRecord(topic=TASK_EVENTS, position=1, key="", headers="", value=""))
    await publish(world, make_record(task_id, ended))
    await publish(world, make_record(task_id, ended))

    wakeups = Wakeups(world.database.dsn("artifact"), name="test", channels=[CHANNEL])
    consumer = make_consumer(PostgresBus(world.pool, wakeups=wakeups), pool=world.pool)
    stop = asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))

    async def is_settled() -> bool:
        return await state_of(world, artifact_id) is expected

    await eventually(is_settled)
    stop.set()
    await running
    assert await state_of(world, other_id) is ArtifactState.STAGED
    letters = await world.ask("SELECT 1 FROM bus.records WHERE topic = %s", (DEAD_LETTERS,))
    assert len(letters) == 1


def test_an_event_that_ends_no_task_is_refused() -> None:
    with pytest.raises(UnreadableEventError):
        end_from_event(decode(make_record(new_id(), "running")))


async def test_task_state_follows_the_committed_events(world: ArtifactWorld) -> None:
    task_id, _ = await staged(world)
    async with await psycopg.AsyncConnection.connect(world.database.owner_dsn) as owner:
        await owner.execute("ALTER TABLE scheduler.task_events DISABLE TRIGGER ALL")
        await owner.commit()
        await owner.execute(
            "INSERT INTO scheduler.task_events VALUES"
            " (%s, 5, 'status_transition', 'running', 'succeeded', now(), '{}')",
            (task_id,),
        )

        uncommitted = await world.store.state_if_staged(task_id, tenant_id=TENANT)
        await owner.commit()
        committed = await world.store.state_if_staged(task_id, tenant_id=TENANT)

    assert (uncommitted, committed) == (TaskState.RUNNING, TaskState.SUCCEEDED)
