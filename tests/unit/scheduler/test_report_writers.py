"""Natural batching: what waits is written together, a task's reports one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import psycopg
import pytest

from libs.core.lifecycle import TaskState
from services.scheduler.model import Fate, Report, ReportRow, TaskEnd, Verdict
from services.scheduler.report_writers import MOST_REPORTS, ReportRefusedError, ReportWriters
from services.scheduler.wakeups import Signals

BOOT = UUID(int=7)


class Database:
    """Answers OK to every report, when it is let; remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[ReportRow]] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.away = 0
        self.poison: UUID | None = None

    async def write(self, rows: Sequence[ReportRow], *, writer: int) -> dict[UUID, Fate]:
        del writer
        await self.is_open.wait()
        if self.away:
            self.away -= 1
            raise psycopg.OperationalError("away")
        if any(row.report.task_id == self.poison for row in rows):
            raise psycopg.errors.CheckViolation("no")
        self.batches.append(list(rows))
        return {row.report.task_id: Fate(verdict=Verdict.OK) for row in rows}


async def announce(_channel: str, _payload: str) -> None:
    """Nobody listens."""


@asynccontextmanager
async def running(
    database: Database, *, writers: int = 1
) -> AsyncIterator[tuple[ReportWriters, Signals]]:
    signals = Signals(uuid4(), announce=announce)
    made = ReportWriters(database.write, signals=signals, writers=writers)
    stop = asyncio.Event()
    task = asyncio.create_task(made.run(stop))
    await asyncio.sleep(0)
    try:
        yield made, signals
    finally:
        database.is_open.set()
        stop.set()
        await task


def make_row(number: int, *, begins: int = 1, ends: TaskState | None = None) -> ReportRow:
    end = None if ends is None else TaskEnd(state=ends, failure=None)
    report = Report(task_id=UUID(int=number), lease_token=1, begins=begins, end=end)
    return ReportRow(report=report, boot_id=BOOT, closed_tool=None, begins_tool="math")


async def test_what_waits_for_the_last_statement_is_written_together() -> None:
    database = Database()
    async with running(database) as (writers, _):
        database.is_open.clear()
        fates = [writers.put(make_row(1))]
        await asyncio.sleep(0)
        fates += [writers.put(make_row(n)) for n in range(2, 12)]
        database.is_open.set()
        await asyncio.gather(*fates)

    assert [len(batch) for batch in database.batches] == [1, 10]


async def test_reports_of_one_task_are_written_in_order_one_per_batch() -> None:
    database = Database()
    async with running(database) as (writers, _):
        database.is_open.clear()
        rows = [make_row(n, begins=k) for k in (1, 2, 3) for n in (1, 2)]
        fates = [writers.put(row) for row in rows]
        database.is_open.set()
        await asyncio.gather(*fates)

    told = [[(row.report.task_id.int, row.report.begins) for row in b] for b in database.batches]
    assert told == [[(1, 1), (2, 1)], [(1, 2), (2, 2)], [(1, 3), (2, 3)]]


async def test_batches_are_bounded() -> None:
    database = Database()
    async with running(database) as (writers, _):
        database.is_open.clear()
        fates = [writers.put(make_row(n)) for n in range(1, MOST_REPORTS + 11)]
        database.is_open.set()
        await asyncio.gather(*fates)

    assert [len(batch) for batch in database.batches] == [MOST_REPORTS, 10]


async def test_report_that_a_guard_refuses_does_not_take_others_with_it() -> None:
    database = Database()
    database.poison = UUID(int=2)
    async with running(database) as (writers, _):
        fates = await asyncio.gather(
            *(writers.put(make_row(n)) for n in (1, 2, 3)), return_exceptions=True
        )

    assert [isinstance(fate, ReportRefusedError) for fate in fates] == [False, True, False]


async def test_reports_wait_for_a_database_that_is_away() -> None:
    database = Database()
    database.away = 2
    async with running(database) as (writers, _):
        fate = await writers.put(make_row(1))

    assert fate.verdict is Verdict.OK
    assert len(database.batches) == 1


async def test_stop_writes_what_waits() -> None:
    database = Database()
    async with running(database, writers=2) as (writers, _):
        fates = [writers.put(make_row(n)) for n in range(1, 21)]

    assert all(fate.done() for fate in fates)


async def test_end_of_a_task_wakes_those_who_wait_for_it() -> None:
    database = Database()
    async with running(database) as (writers, signals):
        with signals.ended.flag(UUID(int=1)) as ended, signals.changed.flag(UUID(int=2)) as changed:
            await writers.put(make_row(1, ends=TaskState.SUCCEEDED))
            await writers.put(make_row(2))
            assert await ended.wait(0)
            assert await changed.wait(0)


@pytest.mark.parametrize("writers", [1, 2])
async def test_unknown_task_is_stale(writers: int) -> None:
    class Empty(Database):
        async def write(self, rows: Sequence[ReportRow], *, writer: int) -> dict[UUID, Fate]:
            del rows, writer
            return {}

    async with running(Empty(), writers=writers) as (made, _):
        fate = await made.put(make_row(1))

    assert fate.verdict is Verdict.STALE_LEASE
