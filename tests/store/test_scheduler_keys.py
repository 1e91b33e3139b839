"""Idempotency keys of live and of test mode, and what became of the keys from before."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator

import pytest

from tests.scheduler_world import TENANT
from tests.servers import Database
from tests.store.scheduler_rows import Stores, make_task, scheduler_stores

pytestmark = pytest.mark.db

BEFORE = """
ALTER TABLE scheduler.idempotency DROP COLUMN mode;
ALTER TABLE scheduler.idempotency ADD CONSTRAINT idempotency_pkey PRIMARY KEY (tenant_id, key);
"""


@pytest.fixture
async def stores(database: Database) -> AsyncIterator[Stores]:
    """The stores on a fresh database."""
    async with scheduler_stores(database) as stores:
        yield stores


async def named(stores: Stores, mode: str, key: str) -> list[object]:
    """The tasks that a key names in a mode."""
    holder = await stores.tasks.read_key(TENANT, mode, key)
    return [] if holder is None else list(holder.task_ids)


async def test_key_of_the_other_mode_is_another_key(stores: Stores) -> None:
    live = await stores.insert_task(key="k")

    test = await stores.insert_task(key="k", mode="test")
    again = [await stores.tasks.submit(make_task(key="k", mode=mode)) for mode in ("live", "test")]

    assert again == [None, None]
    assert await named(stores, "live", "k") == [live.id]
    assert await named(stores, "test", "k") == [test.id]


async def test_keys_from_before_keep_to_the_mode_of_their_task(stores: Stores) -> None:
    live = await stores.insert_task(key="of a live key")
    test = await stores.insert_task(key="of a test key", mode="test")
    migration = importlib.import_module("services.scheduler.migrations.0007_keys_by_mode")

    for statement in (BEFORE + migration.KEYS_BY_MODE).split(";"):
        if statement.strip():
            await stores.ask(statement)

    found = {
        (mode, key): await named(stores, mode, f"of a {key} key")
        for mode in ("live", "test")
        for key in ("live", "test")
    }
    assert found == {
        ("live", "live"): [live.id],
        ("test", "test"): [test.id],
        ("live", "test"): [],
        ("test", "live"): [],
    }
