"""A connection that is kept between statements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from libs.db.engine import Pool, open_pool
from libs.db.kept import KeptConnection
from libs.db.queries import Queries, load_queries
from tests.scheduler_world import ask
from tests.servers import Database

pytestmark = pytest.mark.db

FILE = """
-- whose --
-- Which connection this is.
SELECT pg_backend_pid() AS pid, CAST(:n AS integer) AS n;

-- wrong --
-- Fails.
SELECT 1 / CAST(:n AS integer) AS n;

-- slow --
-- Takes its time.
SELECT pg_sleep(:n), pg_backend_pid() AS pid;
"""


@pytest.fixture
def queries(tmp_path: Path) -> Queries:
    path = tmp_path / "queries.sql"
    path.write_text(FILE)
    return load_queries(path)


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    pool = await open_pool(database.dsn("auth"), name="kept", min_size=1, max_size=2)
    yield pool
    await pool.close()


@pytest.fixture
async def kept(pool: Pool) -> AsyncIterator[KeptConnection]:
    kept = KeptConnection(pool)
    yield kept
    await kept.give_back()


async def test_statements_share_one_connection(kept: KeptConnection, queries: Queries) -> None:
    found = [(await kept.rows(queries.block("whose"), {"n": n}))[0] for n in range(5)]

    assert [row["n"] for row in found] == list(range(5))
    assert len({row["pid"] for row in found}) == 1


async def test_statements_asked_for_at_once_take_turns(
    kept: KeptConnection, queries: Queries
) -> None:
    found = await asyncio.gather(*(kept.rows(queries.block("whose"), {"n": n}) for n in range(20)))

    assert [rows[0]["n"] for rows in found] == list(range(20))


async def test_failure_gives_the_connection_back(
    kept: KeptConnection, queries: Queries, pool: Pool
) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        await kept.rows(queries.block("wrong"), {"n": 0})

    # All that the pool may have can be had.
    async with pool.connection(), pool.connection():
        pass
    assert (await kept.rows(queries.block("whose"), {"n": 1}))[0]["n"] == 1


async def test_connection_that_was_ended_meanwhile_is_replaced(
    kept: KeptConnection, queries: Queries, database: Database
) -> None:
    (before,) = await kept.rows(queries.block("whose"), {"n": 1})
    await ask(database.owner_dsn, "SELECT pg_terminate_backend(%s, 5000)", (before["pid"],))

    (after,) = await kept.rows(queries.block("whose"), {"n": 2})

    assert after["pid"] != before["pid"]


async def test_statement_that_is_given_up_leaves_a_clean_connection(
    kept: KeptConnection, queries: Queries
) -> None:
    slow = asyncio.create_task(kept.rows(queries.block("slow"), {"n": 30}))
    waiting = asyncio.create_task(kept.rows(queries.block("whose"), {"n": 7}))
    await asyncio.sleep(0.1)
    slow.cancel()

    assert (await waiting)[0]["n"] == 7
    with pytest.raises(asyncio.CancelledError):
        await slow
