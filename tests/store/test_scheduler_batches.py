"""Batches against real PostgreSQL: all or nothing, one key for all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from libs.core.ids import new_id
from libs.core.lifecycle import TaskState
from services.scheduler.batch_model import Entry
from services.scheduler.model import IdempotencyKey, StoredTask
from tests.scheduler_world import OTHER_TENANT, TENANT
from tests.servers import Database
from tests.store.scheduler_rows import BROKE, Stores, make_task, scheduler_stores

pytestmark = pytest.mark.db

FINGERPRINT = "f" * 64


@pytest.fixture
async def stores(database: Database) -> AsyncIterator[Stores]:
    """The stores on a fresh database."""
    async with scheduler_stores(database) as stores:
        yield stores


def make_entries(count: int, *, key: str | None = None, **changes: Any) -> list[Entry]:
    """A batch of planned tasks."""
    tasks = [make_task(**changes) for _ in range(count)]
    if key is not None:
        named = IdempotencyKey(key=key, fingerprint=FINGERPRINT)
        tasks[0] = replace(tasks[0], idempotency=named)
    return [Entry(task=task, failure=None) for task in tasks]


async def counts(stores: Stores) -> dict[str, int]:
    rows = await stores.ask(
        "SELECT (SELECT count(*) FROM scheduler.tasks) AS tasks,"
        " (SELECT count(*) FROM scheduler.task_events) AS events,"
        " (SELECT count(*) FROM scheduler.outbox) AS outbox,"
        " (SELECT count(*) FROM scheduler.idempotency) AS keys"
    )
    return rows[0]


def ids(tasks: Sequence[StoredTask]) -> tuple[UUID, ...]:
    return tuple(task.id for task in tasks)


async def test_all_are_stored_in_order_with_their_events(stores: Stores) -> None:
    entries = make_entries(5, key="k")

    stored = await stores.tasks.submit_batch(entries)

    assert stored is not None
    assert ids(stored) == tuple(entry.task.id for entry in entries)
    assert {(task.state, task.seq) for task in stored} == {(TaskState.QUEUED, 3)}
    assert await counts(stores) == {"tasks": 5, "events": 15, "outbox": 5, "keys": 1}
    holder = await stores.tasks.read_key(TENANT, "live", "k")
    assert holder is not None
    assert (holder.task_ids, holder.is_batch) == (ids(stored), True)
    assert holder.fingerprint == FINGERPRINT
    assert await stores.tasks.read_key(OTHER_TENANT, "live", "k") is None


async def test_tasks_of_a_batch_wait_one_behind_the_other(stores: Stores) -> None:
    entries = make_entries(4)
    await stores.tasks.submit_batch(entries)
    await stores.insert_task(tenant_id=OTHER_TENANT)
    stream = await stores.connect()

    claimed = await stores.claim(stream, slots=5)

    ours = [task.task_id for task in claimed if task.tenant_id == TENANT]
    assert ours == [entry.task.id for entry in entries]
    # The other tenant does not wait for all of them.
    assert [task.tenant_id for task in claimed][:2].count(OTHER_TENANT) == 1


async def test_one_that_cannot_be_stored_leaves_nothing_of_any(stores: Stores) -> None:
    entries = make_entries(3, key="k")
    entries.append(Entry(task=replace(entries[2].task, id=entries[1].task.id), failure=None))

    with pytest.raises(psycopg.errors.UniqueViolation):
        await stores.tasks.submit_batch(entries)

    assert await counts(stores) == {"tasks": 0, "events": 0, "outbox": 0, "keys": 0}


async def test_task_that_nobody_could_plan_fails_beside_the_others(stores: Stores) -> None:
    entries = make_entries(3, key="k")
    entries[0] = Entry(task=replace(entries[0].task, frozen=None), failure=BROKE)

    stored = await stores.tasks.submit_batch(entries)

    assert stored is not None
    states = [task.state for task in stored]
    assert states == [TaskState.FAILED, TaskState.QUEUED, TaskState.QUEUED]
    assert await stores.history(stored[0].id) == [
        "status_transition:created",
        "status_transition:failed",
    ]


async def test_twenty_batches_with_one_key_make_one(stores: Stores) -> None:
    batches = [make_entries(3, key="k") for _ in range(20)]

    stored = await asyncio.gather(*(stores.tasks.submit_batch(batch) for batch in batches))

    (winner,) = [one for one in stored if one is not None]
    assert await counts(stores) == {"tasks": 3, "events": 9, "outbox": 3, "keys": 1}
    holder = await stores.tasks.read_key(TENANT, "live", "k")
    assert holder is not None
    assert holder.task_ids == ids(winner)


async def test_a_batch_and_a_task_with_one_key_make_one_of_them(stores: Stores) -> None:
    batches = [stores.tasks.submit_batch(make_entries(3, key="k")) for _ in range(5)]
    singles = [stores.tasks.submit(make_task(key="k")) for _ in range(5)]

    done = await asyncio.gather(*batches, *singles)

    (winner,) = [one for one in done if one is not None]
    holder = await stores.tasks.read_key(TENANT, "live", "k")
    assert holder is not None
    assert holder.is_batch is isinstance(winner, list)
    assert (await counts(stores))["tasks"] == len(holder.task_ids)


async def test_expired_key_of_a_batch_names_the_task_that_takes_it(stores: Stores) -> None:
    await stores.tasks.submit_batch(make_entries(3, key="k"))
    await stores.ask(
        "UPDATE scheduler.idempotency SET created_at = now() - interval '24 hours 1 second'"
    )

    assert await stores.tasks.read_key(TENANT, "live", "k") is None
    task = await stores.insert_task(key="k")

    holder = await stores.tasks.read_key(TENANT, "live", "k")
    assert holder is not None
    assert (holder.task_ids, holder.is_batch) == ((task.id,), False)


async def test_a_batch_begins_with_the_task_of_its_key(stores: Stores) -> None:
    await stores.tasks.submit_batch(make_entries(2, key="k"))

    with pytest.raises(psycopg.errors.CheckViolation):
        await stores.ask("UPDATE scheduler.idempotency SET batch = ARRAY[%s::uuid]", (new_id(),))
