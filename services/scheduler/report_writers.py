"""Writes reports as they pile up: one statement, one commit for all that waited for the last one.

There is no timer. A task's reports always go through the same writer, in order, one at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from uuid import UUID

import psycopg

from libs.db.outage import Outage, is_outage
from libs.process.crash_points import pass_crash_point
from libs.process.logs import get_logger
from services.scheduler.metrics import REPORT_BATCH, REPORTS, TASKS
from services.scheduler.model import Fate, ReportRow, Verdict
from services.scheduler.wakeups import Signals

MOST_REPORTS = 256
WRITERS = 2


class Write(Protocol):
    """Writes reports in one commit; each of the writers has a number, from 0."""

    def __call__(self, rows: Sequence[ReportRow], *, writer: int) -> Awaitable[dict[UUID, Fate]]:
        """The fate of each report whose task exists."""
        ...


log = get_logger(__name__)

_UNKNOWN = Fate(verdict=Verdict.STALE_LEASE)


class ReportRefusedError(Exception):
    """A guard of the database refused this report; nothing of it was written."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    row: ReportRow
    fate: asyncio.Future[Fate]


class ReportWriters:
    """`put` a report, await its fate; `run` must be running."""

    def __init__(self, write: Write, *, signals: Signals, writers: int = WRITERS) -> None:
        self._writers = [_Writer(partial(write, writer=n), signals) for n in range(writers)]

    def put(self, row: ReportRow) -> asyncio.Future[Fate]:
        """The fate of a report, once committed; ReportRefusedError when a guard stopped it."""
        writer = self._writers[row.report.task_id.int % len(self._writers)]
        return writer.put(row)

    async def run(self, stop: asyncio.Event) -> None:
        """Write until `stop` is set and nothing waits."""
        async with asyncio.TaskGroup() as group:
            for writer in self._writers:
                group.create_task(writer.run(stop))


class _Writer:
    def __init__(
        self,
        write: Callable[[Sequence[ReportRow]], Awaitable[dict[UUID, Fate]]],
        signals: Signals,
    ) -> None:
        self._write = write
        self._signals = signals
        self._waiting: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._outage = Outage(log, "reports")

    def put(self, row: ReportRow) -> asyncio.Future[Fate]:
        fate: asyncio.Future[Fate] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(row, fate))
        self._news.set()
        return fate

    async def run(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._news.set())
        try:
            while not stop.is_set() or self._waiting:
                await self._news.wait()
                self._news.clear()
                while self._waiting:
                    await self._write_batch(self._take())
        finally:
            stopping.cancel()

    def _take(self) -> list[_Waiting]:
        """What waits, at most one report of a task: an UPDATE applies one row of several."""
        batch: dict[UUID, _Waiting] = {}
        later: list[_Waiting] = []
        while self._waiting and len(batch) < MOST_REPORTS:
            one = self._waiting.popleft()
            if one.row.report.task_id in batch:
                later.append(one)
            else:
                batch[one.row.report.task_id] = one
        self._waiting.extendleft(reversed(later))
        return list(batch.values())

    async def _write_batch(self, batch: list[_Waiting]) -> None:
        try:
            fates = await self._written([one.row for one in batch])
        except psycopg.Error as error:
            if len(batch) > 1:
                # One of them is at fault, and nothing was written: each for itself.
                for one in batch:
                    await self._write_batch([one])
                return
            task_id = batch[0].row.report.task_id
            log.exception("report refused by the database", task_id=str(task_id))
            if not batch[0].fate.done():
                batch[0].fate.set_exception(ReportRefusedError(str(error)))
            return
        REPORT_BATCH.observe(len(batch))
        self._tell(batch, fates)

    async def _written(self, rows: list[ReportRow]) -> dict[UUID, Fate]:
        """Write `rows`, as often as the database is away.

        Whether a statement was committed whose connection broke, nobody knows; written again, it
        says SEEN of what was.
        """
        while True:
            try:
                fates = await self._write(rows)
            except Exception as error:
                if not is_outage(error):
                    raise
                await asyncio.sleep(self._outage.failed(error))
            else:
                self._outage.over()
                return fates

    def _tell(self, batch: list[_Waiting], fates: dict[UUID, Fate]) -> None:
        changed: list[UUID] = []
        ended: list[UUID] = []
        for one in batch:
            task_id = one.row.report.task_id
            fate = fates.get(task_id, _UNKNOWN)
            REPORTS.labels(fate.verdict.value).inc()
            if fate.ended is not None:
                pass_crash_point("finish.after_commit_before_event_publish")
                TASKS.labels(fate.ended.value).inc()
            if fate.verdict in {Verdict.OK, Verdict.LATE, Verdict.SEEN}:
                is_end = fate.ended is not None or one.row.report.end is not None
                (ended if is_end else changed).append(task_id)
            if not one.fate.done():
                one.fate.set_result(fate)
        if changed or ended:
            self._signals.committed(changed=changed, ended=ended)
