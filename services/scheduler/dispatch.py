"""Who gets the next task: the streams of the executors that are connected here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from libs.core.errors import PawlError
from libs.db.outage import Outage, is_outage, pause
from libs.process.logs import get_logger
from services.scheduler.judgement import RECONNECT_SECONDS
from services.scheduler.leases import reunite
from services.scheduler.limit_watch import LimitWatch
from services.scheduler.metrics import SLOTS_FREE, STREAMS, WAITING
from services.scheduler.model import ExecutorHello, Stream
from services.scheduler.report_writers import ReportWriters
from services.scheduler.reports import lost_form
from services.scheduler.sweeper import Sweeper
from services.scheduler.wakeups import Signals
from services.scheduler.work_session import WorkSession, unavailable
from services.scheduler.work_store import WorkStore

GAUGE_SECONDS = 15.0
# A sweep on the very moment would find the time not yet over by a hair.
_SURELY_SECONDS = 0.02

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A stream that stands, and what its executor is told of the tasks that it named."""

    session: WorkSession
    keep: tuple[UUID, ...]
    stop: tuple[UUID, ...]


class Dispatcher:
    """Opens streams, wakes the right one when work comes, and drains them all."""

    def __init__(
        self, store: WorkStore, *, writers: ReportWriters, signals: Signals, sweeper: Sweeper
    ) -> None:
        self._store = store
        self._writers = writers
        self._signals = signals
        self._sweeper = sweeper
        self._limits = LimitWatch(self.look)
        self._sessions: dict[UUID, WorkSession] = {}
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._is_draining = False
        signals.on_queue(self.look)
        signals.on_end(self._limits.task_ended)
        signals.on_cancel(self._cancel)
        signals.on_revoke(self._revoke)
        signals.on_missed(self._reconcile)
        STREAMS.set_function(lambda: len(self._sessions))
        SLOTS_FREE.set_function(lambda: sum(s.free_slots for s in self._sessions.values()))

    def queued(self, offers: tuple[str, ...]) -> None:
        """A task that needs these tools was queued: wake the stream with most room for it.

        When nobody here has room, the other schedulers are told.
        """
        needed = set(offers)
        able = [
            session
            for session in self._sessions.values()
            # Who offers nothing is about to leave.
            if session.free_slots and session.offers and needed.issubset(session.offers)
        ]
        if able:
            max(able, key=lambda session: session.free_slots).queue.set()
        else:
            for session in self._sessions.values():
                session.is_behind = True
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
            raise _stopping()
        opened = await self._opened(hello)
        session = opened.session
        if self._is_draining:
            # It said hello while the others were drained.
            session.drain()
            session.end(_stopping())
        boot_id = session.stream.boot_id
        claiming = asyncio.create_task(session.claim_loop())
        claiming.add_done_callback(lambda task: _claims_ended(task, session))
        try:
            yield opened
        finally:
            if self._sessions.get(boot_id) is session:
                del self._sessions[boot_id]
                self._say_goodbye(session)
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
        ended = await self._store.hello(stream)
        if ended is None:
            raise PawlError(
                "conflict",
                f"boot {stream.boot_id} of executor {stream.executor_id} has ended; "
                "start again under a new boot id",
            )
        if ended:
            # Earlier boots of this executor: what they held is judged at once.
            self._sweeper.wake()
        # After the hello: no older stream of this boot can claim any more.
        found = reunite(hello.running, await self._store.held(stream.boot_id))
        session = WorkSession(
            stream,
            store=self._store,
            writers=self._writers,
            signals=self._signals,
            limits=self._limits,
        )
        session.keep(found.keep)
        session.cancel(task.task_id for task in found.keep if task.is_cancelling)
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
        await asyncio.gather(*(session.finish(_stopping()) for session in sessions))

    async def part(self) -> None:
        """Return once the end of every stream is noted."""
        await asyncio.gather(*self._goodbyes)

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

    def _cancel(self, task_ids: Iterable[UUID]) -> None:
        for session in self._sessions.values():
            session.cancel(task_ids)

    def _revoke(self, tokens: Mapping[UUID, int]) -> None:
        for session in self._sessions.values():
            session.revoke(tokens)

    def _reconcile(self) -> None:
        for session in self._sessions.values():
            session.reconcile()

    def _say_goodbye(self, session: WorkSession) -> None:
        goodbye = asyncio.create_task(self._note_end(session))
        self._goodbyes.add(goodbye)
        goodbye.add_done_callback(self._goodbyes.discard)

    async def _note_end(self, session: WorkSession) -> None:
        stream = session.stream
        try:
            if session.is_leaving:
                await self._store.end_boot(stream)
                self._sweeper.wake()
            else:
                await self._store.end_stream(stream)
                self._sweeper.wake_in(RECONNECT_SECONDS + _SURELY_SECONDS)
        except Exception as error:
            if not is_outage(error):
                raise
            # Its lease ends by itself.
            log.warning("end of a stream not noted", executor_id=stream.executor_id)


def _stopping() -> PawlError:
    return unavailable("this scheduler is stopping; connect again")


def _claims_ended(task: asyncio.Task[None], session: WorkSession) -> None:
    if task.cancelled() or task.exception() is None:
        return
    log.error("claims failed", executor_id=session.stream.executor_id, exc_info=task.exception())
    session.end(PawlError("internal", "the scheduler could not claim; its log says why"))
