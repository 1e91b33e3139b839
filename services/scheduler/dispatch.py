"""Who gets the next task: the streams of the executors that are connected here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from libs.core.errors import PawlError
from libs.db.outage import Outage, is_outage, pause
from libs.process.logs import get_logger
from services.scheduler.leases import reunite
from services.scheduler.metrics import SLOTS_FREE, STREAMS, WAITING
from services.scheduler.model import ExecutorHello, Stream
from services.scheduler.report_writers import ReportWriters
from services.scheduler.reports import lost_form
from services.scheduler.wakeups import Signals
from services.scheduler.work_session import WorkSession, unavailable
from services.scheduler.work_store import WorkStore

GAUGE_SECONDS = 15.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A stream that stands, and what its executor is told of the tasks that it named."""

    session: WorkSession
    keep: tuple[UUID, ...]
    stop: tuple[UUID, ...]


class Dispatcher:
    """Opens streams, wakes the right one when work comes, and drains them all."""

    def __init__(self, store: WorkStore, *, writers: ReportWriters, signals: Signals) -> None:
        self._store = store
        self._writers = writers
        self._signals = signals
        self._sessions: dict[UUID, WorkSession] = {}
        self._is_draining = False
        signals.on_queue(self.look)
        STREAMS.set_function(lambda: len(self._sessions))
        SLOTS_FREE.set_function(lambda: sum(s.free_slots for s in self._sessions.values()))

    def queued(self, offers: tuple[str, ...]) -> None:
        """A task that needs these tools was queued: wake the stream with most room for it.

        When nobody here has room, the other schedulers are told.
        """
        needed = set(offers)
        able = [s for s in self._sessions.values() if s.free_slots and needed.issubset(s.offers)]
        if able:
            max(able, key=lambda session: session.free_slots).queue.set()
        else:
            self._signals.work_waits()

    def look(self) -> None:
        """Make every stream look at the queue."""
        for session in self._sessions.values():
            session.queue.set()

    @asynccontextmanager
    async def open(self, hello: ExecutorHello) -> AsyncIterator[Opened]:
        """A stream for the block; it gets work from its beginning.

        PawlError: unavailable while draining, conflict when this boot has ended.
        """
        if self._is_draining:
            raise unavailable("this scheduler is stopping; connect again")
        opened = await self._opened(hello)
        session = opened.session
        boot_id = session.stream.boot_id
        claiming = asyncio.create_task(session.claim_loop())
        claiming.add_done_callback(lambda task: _claims_ended(task, session))
        try:
            yield opened
        finally:
            if self._sessions.get(boot_id) is session:
                del self._sessions[boot_id]
            session.close()
            claiming.cancel()
            await asyncio.gather(claiming, return_exceptions=True)
            log.info("executor disconnected", executor_id=session.stream.executor_id)

    async def _opened(self, hello: ExecutorHello) -> Opened:
        """The session of a hello, as its boot's newest, with what it holds already."""
        stream = Stream(
            boot_id=hello.boot_id,
            stream_id=uuid4(),
            executor_id=hello.executor_id,
            slots=hello.slots,
            offers=hello.offers,
        )
        former = self._sessions.pop(stream.boot_id, None)
        if former is not None:
            former.end(unavailable("this boot has a newer stream"))
        if not await self._store.hello(stream):
            raise PawlError(
                "conflict",
                f"boot {stream.boot_id} of executor {stream.executor_id} has ended; "
                "start again under a new boot id",
            )
        # After the hello: no older stream of this boot can claim any more.
        found = reunite(hello.running, await self._store.held(stream.boot_id))
        session = WorkSession(
            stream, store=self._store, writers=self._writers, signals=self._signals
        )
        session.keep(found.keep)
        session.assign(found.again)
        for task in found.lost:
            session.lose(task, lost_form(task, boot_id=stream.boot_id))
        self._sessions[stream.boot_id] = session
        log.info(
            "executor connected",
            executor_id=stream.executor_id,
            boot_id=str(stream.boot_id),
            slots=stream.slots,
            kept=len(found.keep),
            stopped=len(found.stop),
            assigned_again=len(found.again),
            lost=len(found.lost),
        )
        return Opened(session=session, keep=tuple(t.task_id for t in found.keep), stop=found.stop)

    async def drain(self) -> None:
        """Give no more work, write and acknowledge what has come, then end every stream."""
        self._is_draining = True
        sessions = tuple(self._sessions.values())
        for session in sessions:
            session.drain()
        stopping = unavailable("this scheduler is stopping; connect again")
        await asyncio.gather(*(session.finish(stopping) for session in sessions))

    async def gauge(self, stop: asyncio.Event) -> None:
        """Keep the gauge of waiting tasks true until `stop` is set."""
        outage = Outage(log, "queue gauge")
        while not stop.is_set():
            try:
                WAITING.set(await self._store.count_waiting())
                outage.over()
                await pause(stop, GAUGE_SECONDS)
            except Exception as error:
                if not is_outage(error):
                    raise
                await pause(stop, outage.failed(error))


def _claims_ended(task: asyncio.Task[None], session: WorkSession) -> None:
    if task.cancelled() or task.exception() is None:
        return
    log.error("claims failed", executor_id=session.stream.executor_id, exc_info=task.exception())
    session.end(PawlError("internal", "the scheduler could not claim; its log says why"))
