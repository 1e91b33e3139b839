"""Pools: whom they refuse, what they set, how they come back."""

from __future__ import annotations

import time

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from libs.db.engine import ANSWER_SECONDS, open_pool, refuse_privileged, transaction, unavailable
from libs.process.env import ConfigError
from tests.servers import Database
from tests.waiting import eventually

pytestmark = pytest.mark.db


async def test_pool_gives_autocommit_connections_with_bounds(database: Database) -> None:
    pool = await open_pool(database.dsn("auth"), name="pawl-auth")
    async with pool.connection() as connection:
        cursor = await connection.execute(
            """
            SELECT current_setting('statement_timeout') AS statement_timeout,
              current_setting('application_name') AS name, current_setting('jit') AS jit
            """
        )
        row = await cursor.fetchone()
        autocommit = connection.autocommit
    await pool.close()

    assert autocommit
    assert row == {"statement_timeout": "2500ms", "name": "pawl-auth", "jit": "on"}


async def test_hot_pool_plans_with_indexes_only(database: Database) -> None:
    pool = await open_pool(database.dsn("auth"), name="hot", hot=True)
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT name, setting FROM pg_settings WHERE source = 'client' AND name <> 'TimeZone'"
        )
        found = {row["name"]: row["setting"] for row in await cursor.fetchall()}
    await pool.close()

    assert (
        found.items()
        >= {
            "enable_seqscan": "off",
            "enable_mergejoin": "off",
            "enable_hashjoin": "off",
            "enable_bitmapscan": "off",
            "enable_sort": "off",
            "jit": "off",
            "plan_cache_mode": "force_generic_plan",
            "statement_timeout": "2500",
        }.items()
    )


async def test_owner_and_superuser_are_refused(database: Database) -> None:
    pool = await open_pool(database.owner_dsn, name="x")

    with pytest.raises(ConfigError, match="superuser"):
        await refuse_privileged(pool, "auth")

    await pool.close()


async def test_role_that_owns_the_schema_is_refused(database: Database) -> None:
    with psycopg.connect(database.owner_dsn, autocommit=True) as owner:
        owner.execute("CREATE SCHEMA own AUTHORIZATION pawl_planner")
    pool = await open_pool(database.dsn("planner"), name="x")

    with pytest.raises(ConfigError, match="owns the schema own"):
        await refuse_privileged(pool, "own")
    with pytest.raises(ConfigError, match="no schema nowhere"):
        await refuse_privileged(pool, "nowhere")

    await pool.close()


async def test_transaction_is_all_or_nothing(database: Database) -> None:
    pool = await open_pool(database.owner_dsn, name="x")
    async with transaction(pool) as connection:
        await connection.execute("CREATE TABLE public.kept (n int)")

    async def insert_and_fail() -> None:
        async with transaction(pool) as connection:
            await connection.execute("INSERT INTO public.kept VALUES (1)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await insert_and_fail()

    async with pool.connection() as connection:
        rows = await (await connection.execute("SELECT n FROM public.kept")).fetchall()
    await pool.close()

    assert rows == []


async def test_pool_serves_again_after_its_sessions_were_ended(database: Database) -> None:
    pool = await open_pool(database.dsn("auth"), name="victim", max_size=2)
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")
    async with await psycopg.AsyncConnection.connect(database.owner_dsn) as owner:
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'victim' AND datname = current_database()"
        )

    async def answers() -> bool:
        try:
            async with pool.connection() as connection:
                await connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    assert await eventually(answers)
    await pool.close()


async def test_sessions_that_ended_while_they_were_idle_reach_no_caller(database: Database) -> None:
    pool = await open_pool(database.dsn("auth"), name="idle", min_size=4, max_size=4)
    await pool.wait()
    async with await psycopg.AsyncConnection.connect(database.owner_dsn, autocommit=True) as owner:
        await owner.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name = 'idle' AND datname = current_database()"
        )

    for _ in range(4):
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")

    await pool.close()


async def test_server_that_does_not_answer_is_given_up(database: Database) -> None:
    pool = await open_pool(database.dsn("auth"), name="silent")

    async def ask_in_vain() -> None:
        async with pool.connection() as connection:
            # As with a server that stands still: its own timeout never comes.
            await connection.execute("SET statement_timeout = 0")
            await connection.execute("SELECT pg_sleep(60)")

    began = time.monotonic()
    with pytest.raises(psycopg.OperationalError, match=f"not answered within {ANSWER_SECONDS} s"):
        await ask_in_vain()
    took = time.monotonic() - began
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")
    await pool.close()

    assert ANSWER_SECONDS <= took < ANSWER_SECONDS + 2


def test_lost_database_is_told_with_a_time_to_come_back() -> None:
    refusal = unavailable(PoolTimeout("none free"))

    assert refusal.code == "unavailable"
    assert refusal.retry_after_seconds == 1
    assert isinstance(refusal.__cause__, PoolTimeout)
