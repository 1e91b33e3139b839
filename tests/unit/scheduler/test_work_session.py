"""What a stream takes for running when answers and revocations cross."""

from __future__ import annotations

import asyncio
from typing import cast
from uuid import UUID

import psycopg

from services.scheduler.limit_watch import LimitWatch
from services.scheduler.model import Fate, Renewal, Report, ReportRow, Stream, Verdict
from services.scheduler.report_writers import ReportWriters
from services.scheduler.wakeups import Signals
from services.scheduler.work_messages import Incoming
from services.scheduler.work_session import WorkSession
from services.scheduler.work_store import WorkStore
from tests.unit.scheduler.test_reports import make_assigned
from tests.waiting import eventually


class SlowWriters:
    """Answers a report when the test says so."""

    def __init__(self) -> None:
        self.fates: list[asyncio.Future[Fate]] = []

    def put(self, row: ReportRow) -> asyncio.Future[Fate]:
        del row
        self.fates.append(asyncio.get_running_loop().create_future())
        return self.fates[-1]


async def announce(channel: str, payload: str) -> None:
    """Nobody listens."""
    del channel, payload


class AwayStore:
    """Fails so many renewals, then renews."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.renewals = 0

    async def renew(self, stream: Stream) -> Renewal:
        del stream
        if self.failures:
            self.failures -= 1
            raise psycopg.OperationalError("away")
        self.renewals += 1
        return Renewal.IN_TIME


def make_session(writers: SlowWriters, *, store: AwayStore | None = None) -> WorkSession:
    """A session of two slots; without a store nothing is asked of it."""
    stream = Stream(
        boot_id=UUID(int=1), stream_id=UUID(int=2), executor_id="ex-1", slots=2, offers=()
    )
    return WorkSession(
        stream,
        store=cast("WorkStore", store),
        writers=cast("ReportWriters", writers),
        signals=Signals(UUID(int=3), announce=announce),
        limits=LimitWatch(lambda: None),
    )


def incoming(task_id: UUID, *, token: int) -> Incoming:
    """The first step begins."""
    report = Report(task_id=task_id, lease_token=token, begins=1)
    return Incoming(report_id=1, task_id=str(task_id), known_id=task_id, report=report)


async def test_task_that_was_revoked_before_its_report_was_answered_takes_no_slot() -> None:
    writers = SlowWriters()
    session = make_session(writers)
    task = make_assigned()
    session.assign([task])
    session.handle(incoming(task.task_id, token=task.lease_token))
    await eventually(lambda: bool(writers.fates))

    session.revoke({task.task_id: task.lease_token})
    writers.fates[0].set_result(Fate(verdict=Verdict.OK))
    out = await session.take()
    while out is not None and not out.acks:
        out = await session.take()

    assert session.free_slots == 2


async def test_report_of_an_older_lease_frees_no_slot_of_a_newer_one() -> None:
    session = make_session(SlowWriters())
    task = make_assigned()
    session.assign([task])

    session.handle(incoming(task.task_id, token=task.lease_token - 1))
    out = await session.take()
    while out is not None and not out.acks:
        out = await session.take()

    assert session.free_slots == 1


async def test_renewal_that_failed_is_tried_again_before_the_next_heartbeat() -> None:
    store = AwayStore(2)
    session = make_session(SlowWriters(), store=store)

    session.heartbeat()

    await eventually(lambda: store.renewals == 1)
    assert store.failures == 0


async def test_free_slots_can_be_asked_for_by_the_thread_of_the_metrics() -> None:
    session = make_session(SlowWriters())

    assert await asyncio.to_thread(lambda: session.free_slots) == 2
