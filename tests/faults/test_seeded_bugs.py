"""Small wrong programs on the real schema: the judge must find each, and pass its right twin."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio

from libs.bus.postgres import PostgresPublisher
from libs.cli.stack import Stack
from libs.cli.up.ready_file import PostgresEntry, ReadyFile
from libs.db.engine import transaction
from services.scheduler.model import Assigned, Stream, Verdict
from services.scheduler.rows import submit_parameters
from services.scheduler.store import QUERIES
from tests.faults import client_promises, promises
from tests.faults.dump import read_dump
from tests.faults.judge import Promise
from tests.faults.records import Dump, Effect, History
from tests.scheduler_world import TENANT
from tests.servers import Database
from tests.store.scheduler_rows import Stores, make_task, scheduler_stores

pytestmark = [pytest.mark.faults, pytest.mark.db]


@pytest_asyncio.fixture
async def stores(database: Database) -> AsyncIterator[Stores]:
    async with scheduler_stores(database) as stores:
        yield stores


async def dump_of(stores: Stores) -> Dump:
    ready = ReadyFile(
        url="",
        api_key="",
        pid=os.getpid(),
        data_dir="",
        version="",
        postgres=PostgresEntry(pid=None, dsn=stores.database.inspector_dsn),
        services={},
    )
    return await read_dump(Stack(data_dir=Path(), ready=ready, ready_seconds=0))


def is_kept(promise: Promise, dump: Dump, **more: Any) -> bool:
    return not list(promise(History(operations=(), dump=dump, **more)))


async def check_then_insert(stores: Stores, key: str) -> None:
    if await stores.tasks.read_key(TENANT, "live", key) is None:
        await stores.tasks.submit(make_task(task_input=f'{{"mark":"{key}"}}'))


async def insert_first(stores: Stores, key: str) -> None:
    await stores.tasks.submit(make_task(key=key, task_input=f'{{"mark":"{key}"}}'))


@pytest.mark.parametrize(("submit", "kept"), [(check_then_insert, False), (insert_first, True)])
async def test_key_that_is_looked_up_before_it_is_taken_is_found(
    stores: Stores, submit: Callable[[Stores, str], Awaitable[None]], *, kept: bool
) -> None:
    await asyncio.gather(*(submit(stores, "k") for _ in range(20)))

    assert is_kept(client_promises.one_key_is_one_task, await dump_of(stores)) is kept


_NUMBERED = """
CREATE TABLE public.numbered (n bigserial, task_id uuid, seq integer);
CREATE FUNCTION public.number() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$
BEGIN
  INSERT INTO public.numbered (task_id, seq) VALUES (NEW.task_id, NEW.seq);
  RETURN NULL;
END $body$;
CREATE TRIGGER number AFTER INSERT ON scheduler.task_events FOR EACH ROW
  EXECUTE FUNCTION public.number()"""


class PollerOfASequence:
    """Reads events by the number that they got when they were written, not when committed."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._after = 0
        self.published: list[tuple[UUID, int]] = []

    async def prepare(self) -> None:
        await owner_does(self._stores, _NUMBERED)

    async def poll(self) -> None:
        rows = await self._stores.ask(
            "SELECT * FROM public.numbered WHERE n > %s ORDER BY n", (self._after,)
        )
        for row in rows:
            self._after = row["n"]
            self.published.append((row["task_id"], row["seq"]))


async def owner_does(stores: Stores, statement: str) -> None:
    connect = psycopg.AsyncConnection.connect
    async with await connect(stores.database.owner_dsn, autocommit=True) as owner:
        await owner.execute(statement)


async def commit_late(stores: Stores, poll: Callable[[], Awaitable[object]]) -> None:
    """One task is written first and committed last, with a look at the events between."""
    late = make_task()
    async with transaction(stores.hot) as connection:
        await connection.execute(QUERIES["submit"], submit_parameters(late))
        await stores.insert_task()
        await poll()
    await poll()


async def test_poller_of_a_sequence_is_found(stores: Stores) -> None:
    poller = PollerOfASequence(stores)
    await poller.prepare()

    await commit_late(stores, poller.poll)

    dump = replace(await dump_of(stores), published=tuple(poller.published))
    assert not is_kept(promises.every_event_is_published_in_order, dump)


async def test_relay_of_the_outbox_publishes_what_was_committed_late(stores: Stores) -> None:
    await commit_late(stores, PostgresPublisher(stores.hot).move)

    assert is_kept(promises.every_event_is_published_in_order, await dump_of(stores))


class Executor:
    """Runs the first step of a task: the record before, the call, noted as an effect."""

    def __init__(self, stores: Stores, stream: Stream, effects: list[Effect]) -> None:
        self.stores = stores
        self.stream = stream
        self._effects = effects

    async def run(self, task: Assigned) -> None:
        if await self.stores.report(self.stream, task, begins=1) in {Verdict.OK, Verdict.SEEN}:
            self.call(task)

    def call(self, task: Assigned) -> None:
        boot = str(self.stream.boot_id)
        at = float(len(self._effects))
        effect = Effect(task_id=task.task_id, step_index=1, kind="began", boot=boot, pid=1, at=at)
        self._effects.append(effect)


class WithoutToken(Executor):
    """Writes under whatever lease stands in the row."""

    async def run(self, task: Assigned) -> None:
        (row,) = await self.stores.ask("SELECT boot_id, lease_token FROM scheduler.tasks")
        self.stream = replace(self.stream, boot_id=row["boot_id"])
        await super().run(replace(task, lease_token=row["lease_token"]))


class WithoutRecord(Executor):
    """Calls the tool first and writes later."""

    async def run(self, task: Assigned) -> None:
        self.call(task)


@pytest.mark.parametrize(
    ("kind", "kept"), [(Executor, True), (WithoutToken, False), (WithoutRecord, False)]
)
async def test_executor_that_goes_on_with_what_was_taken_from_it_is_found(
    stores: Stores, kind: type[Executor], *, kept: bool
) -> None:
    effects: list[Effect] = []
    stream, task = await stores.start(steps=1)
    sleeper = kind(stores, stream, effects)
    await owner_does(stores, "UPDATE scheduler.tasks SET boot_id = NULL")
    other = await stores.connect(executor_id="ex-2")
    (again,) = (await stores.work.claim(other, slots=1)).tasks

    await Executor(stores, other, effects).run(again)
    await sleeper.run(task)

    dump = await dump_of(stores)
    assert is_kept(promises.no_step_runs_twice, dump, effects=tuple(effects)) is kept


@pytest.mark.parametrize("together", [True, False])
async def test_consumer_that_commits_its_position_apart_is_found(
    stores: Stores, *, together: bool
) -> None:
    for _ in range(3):
        await stores.insert_task()
    await PostgresPublisher(stores.hot).move()
    await owner_does(stores, "CREATE TABLE public.place AS SELECT 0 AS position, 0 AS counted")

    for dies in (True, False):
        await _consume(stores, together=together, dies=dies)

    (row,) = await stores.ask("SELECT counted FROM public.place")
    dump = replace(await dump_of(stores), used={TENANT: (row["counted"], 0)})
    assert is_kept(client_promises.use_is_what_was_accepted, dump) is together


async def _consume(stores: Stores, *, together: bool, dies: bool) -> None:
    """Count the tasks that are new; one that dies does so between position and effect."""
    connect = psycopg.AsyncConnection.connect
    async with await connect(stores.database.owner_dsn) as owner:
        cursor = await owner.execute(
            "SELECT position FROM bus.records, (SELECT position AS after FROM public.place) p"
            " WHERE position > after AND CAST(headers AS json) ->> 'ce_sequence' = '1'"
        )
        new = [position for (position,) in await cursor.fetchall()]
        if new:
            await owner.execute("UPDATE public.place SET position = %s", (max(new),))
        if not together:
            await owner.commit()
        if dies:
            await owner.rollback()
            return
        await owner.execute("UPDATE public.place SET counted = counted + %s", (len(new),))


@pytest.mark.parametrize("locked", [True, False])
async def test_limit_that_is_counted_before_it_is_used_up_is_found(
    stores: Stores, *, locked: bool
) -> None:
    for _ in range(10):
        await stores.insert_task()
    streams = [await stores.connect(executor_id=f"ex-{n}") for n in range(10)]
    lock, all_counted = asyncio.Lock(), asyncio.Barrier(10)

    async def count_then_claim(stream: Stream) -> None:
        rows = await stores.ask("SELECT id FROM scheduler.tasks WHERE state = 'running'")
        if not locked:
            await all_counted.wait()
        if len(rows) < 2:
            await stores.work.claim(stream, slots=1)

    async def with_the_lock(stream: Stream) -> None:
        async with lock:
            await count_then_claim(stream)

    claim = with_the_lock if locked else count_then_claim
    await asyncio.gather(*(claim(stream) for stream in streams))

    dump = await dump_of(stores)
    limit = {TENANT: 2}
    kept = is_kept(client_promises.concurrency_stays_within_limits, dump, most_running=limit)
    assert kept is locked
