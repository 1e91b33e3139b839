"""Notifications reach those who asked, also after the connection was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from libs.db.wakeups import Wakeups
from tests.servers import Database
from tests.waiting import eventually


@asynccontextmanager
async def running(wakeups: Wakeups) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(wakeups.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def notify(database: Database, channel: str, payload: str) -> None:
    async with await psycopg.AsyncConnection.connect(database.owner_dsn, autocommit=True) as owner:
        await owner.execute("SELECT pg_notify(%s, %s)", (channel, payload))


async def test_listeners_hear_their_channel(database: Database) -> None:
    heard: list[tuple[str, str | None]] = []
    wakeups = Wakeups(database.dsn("auth"), name="hear", channels=["one", "two"])
    with (
        wakeups.listen("one", lambda said: heard.append(("one", said))),
        wakeups.listen("two", lambda said: heard.append(("two", said))),
    ):
        async with running(wakeups):
            await eventually(lambda: len(heard) == 2)
            assert sorted(heard) == [("one", None), ("two", None)]

            await notify(database, "two", "x")

            await eventually(lambda: heard[2:] == [("two", "x")])


async def test_wakeup_hears_only_its_payload(database: Database) -> None:
    wakeups = Wakeups(database.dsn("auth"), name="payload", channels=["one"])
    with wakeups.wakeup("one", payload="mine") as mine, wakeups.wakeup("one") as any_of_them:
        async with running(wakeups):
            assert await mine.wait(5)
            mine.clear()
            any_of_them.clear()

            await notify(database, "one", "other")
            assert await any_of_them.wait(5)
            assert not await mine.wait(0)

            await notify(database, "one", "mine")
            assert await mine.wait(5)


async def test_a_lost_connection_wakes_everybody_when_it_is_back(database: Database) -> None:
    wakeups = Wakeups(database.dsn("auth"), name="lost", channels=["one"])
    with wakeups.wakeup("one") as wakeup:
        async with running(wakeups):
            assert await wakeup.wait(5)
            wakeup.clear()

            await notify_lost(database)

            assert await wakeup.wait(5)


async def test_a_listener_may_leave_while_others_are_called(database: Database) -> None:
    wakeups = Wakeups(database.dsn("auth"), name="leave", channels=["one"])
    async with running(wakeups):
        with wakeups.wakeup("one") as stays:
            with wakeups.wakeup("one") as leaves:
                await notify(database, "one", "x")
                await leaves.wait(5)
            stays.clear()
            await notify(database, "one", "y")

            assert await stays.wait(5)


async def notify_lost(database: Database) -> None:
    async with await psycopg.AsyncConnection.connect(database.owner_dsn, autocommit=True) as owner:
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lost'"
        )
