"""One executor's stream: what it runs, what it is sent, what becomes of its reports."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from uuid import UUID

from libs.core.errors import PawlError
from libs.db.outage import Outage, is_outage
from libs.db.wakeups import Wakeup
from libs.process.crash_points import pass_crash_point
from libs.process.logs import get_logger
from libs.process.tracing import trace_id_of
from services.scheduler.limit_watch import LimitWatch
from services.scheduler.metrics import CLAIMS, TASKS
from services.scheduler.model import (
    Assigned,
    Fate,
    Renewal,
    Report,
    ReportRow,
    StopOrder,
    Stream,
    Verdict,
)
from services.scheduler.report_writers import ReportRefusedError, ReportWriters
from services.scheduler.reports import (
    MalformedReportError,
    Progress,
    broken_form,
    judged_form,
    progress_of,
    written_form,
)
from services.scheduler.wakeups import Signals
from services.scheduler.work_messages import Incoming, Outgoing
from services.scheduler.work_store import WorkStore

LOOK_SECONDS = 10.0
"""How often an executor with free slots looks at the queue without being told to."""
SILENT_SECONDS = 4.5
"""An executor beats every 3 s; one that was silent for longer gets no task until it is heard."""

log = get_logger(__name__)


class WorkSession:
    """A live stream: `claim_loop` gives it work, `handle` takes reports, `take` what to send."""

    def __init__(
        self,
        stream: Stream,
        *,
        store: WorkStore,
        writers: ReportWriters,
        signals: Signals,
        limits: LimitWatch,
    ) -> None:
        self.stream = stream
        self.is_leaving = False
        """Whether the executor has said that this boot is over."""
        self.is_behind = False
        """Whether there may be work that it had no slot for: a slot that frees looks for it."""
        self.queue = Wakeup()
        self.offers = frozenset(stream.offers)
        self._store = store
        self._writers = writers
        self._signals = signals
        self._limits = limits
        self._running: dict[UUID, tuple[Assigned, Progress]] = {}
        self._handling: set[asyncio.Task[None]] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._assignments: list[Assigned] = []
        self._acks: list[tuple[int, str, Verdict]] = []
        self._stops: list[StopOrder] = []
        self._news = asyncio.Event()
        self._is_draining = False
        self._tell_drain = False
        self._is_over = False
        self._error: PawlError | None = None
        # Also asked from the thread that serves the metrics, where no loop runs.
        self._now = asyncio.get_running_loop().time
        self._heard_at = self._now()

    @property
    def free_slots(self) -> int:
        """How many more tasks the executor would take now."""
        if self._is_draining or self._is_over or self._is_silent():
            return 0
        return max(0, self.stream.slots - len(self._running))

    def keep(self, tasks: Iterable[Assigned]) -> None:
        """Note tasks that the executor runs already."""
        for task in tasks:
            self._running[task.task_id] = (task, progress_of(task))

    def assign(self, tasks: Iterable[Assigned]) -> None:
        """Send tasks that are leased to this boot."""
        tasks = tuple(tasks)
        self.keep(tasks)
        self._assignments.extend(tasks)
        for task in tasks:
            log.debug(
                "task assigned",
                executor_id=self.stream.executor_id,
                trace_id=trace_id_of(task.traceparent),
                **_ids(task),
            )
        self._news.set()

    def lose(self, task: Assigned, row: ReportRow) -> None:
        """End a task that nobody runs any more, though its step is open."""
        log.error("open step that its executor does not know", **_ids(task))
        self._spawn(self._end_quietly(row))

    def cancel(self, task_ids: Iterable[UUID]) -> None:
        """Have the steps of tasks killed that run here; their end is reported."""
        for task_id in task_ids:
            if (held := self._running.get(task_id)) is not None:
                self._order_stop(held[0], "it is being cancelled", is_cancel=True)

    def revoke(self, tokens: Mapping[UUID, int]) -> None:
        """Have tasks forgotten that run here under these lease tokens, or older ones."""
        for task_id, token in tokens.items():
            held = self._running.get(task_id)
            if held is not None and held[0].lease_token <= token:
                self._order_stop(held[0], "this boot holds it no more", is_cancel=False)
                self._free(task_id)

    def reconcile(self) -> None:
        """Look what the boot holds: orders to stop may have been missed."""
        self._spawn(self._reconcile())

    def handle(self, incoming: Incoming) -> None:
        """Take one report; its ack follows once it is committed, or judged."""
        self._spawn(self._answer(incoming))

    def heard(self) -> None:
        """Note that the executor lives; what came while it was silent waits for it."""
        was_silent, self._heard_at = self._is_silent(), self._now()
        if was_silent:
            self.queue.set()

    def heartbeat(self) -> None:
        """Renew the lease, unless that is under way; a stream that is not the newest ends."""
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())

    def drain(self) -> None:
        """Give no more work, and say so."""
        self._is_draining = self._tell_drain = True
        self._news.set()

    def end(self, error: PawlError | None = None) -> None:
        """End the stream, with an error or well, when what is ready to be sent is sent."""
        if not self._is_over:
            self._is_over, self._error = True, error
        self._news.set()
        self.queue.set()

    async def finish(self, error: PawlError | None = None) -> None:
        """End the stream as `end` does, once every report that has come is answered."""
        if self._handling:
            await asyncio.wait(set(self._handling))
        self.end(error)

    def close(self) -> None:
        """Forget what is still being answered: the stream is gone."""
        self._is_over = True
        for task in (*self._handling, *((self._renewing,) if self._renewing else ())):
            task.cancel()

    async def take(self) -> Outgoing | None:
        """All that is ready to be sent, waiting for some; None at a good end, else PawlError."""
        while True:
            self._news.clear()
            if self._assignments or self._acks or self._stops or self._tell_drain:
                out = Outgoing(
                    assignments=tuple(self._assignments),
                    acks=tuple(self._acks),
                    stops=tuple(self._stops),
                    drain=self._tell_drain,
                )
                self._assignments.clear()
                self._acks.clear()
                self._stops.clear()
                self._tell_drain = False
                return out
            if self._is_over:
                if self._error is not None:
                    raise self._error
                return None
            await self._news.wait()

    async def claim_loop(self) -> None:
        """Fill free slots whenever there may be work, until the stream is over."""
        outage = Outage(log, "claims")
        unsure = False
        while not self._is_over:
            self.queue.clear()
            try:
                if unsure:
                    await self._find_lost_claims()
                    unsure = False
                await self._fill()
            except Exception as error:
                if not is_outage(error):
                    raise
                # A claim may have been committed whose answer was lost.
                unsure = True
                await asyncio.sleep(outage.failed(error))
                continue
            outage.over()
            await self.queue.wait(LOOK_SECONDS)

    async def _renew(self) -> None:
        outage = Outage(log, "lease renewals")
        while not self._is_over:
            try:
                renewal = await self._store.renew(self.stream)
            except Exception as error:
                if not is_outage(error):
                    log.exception("lease not renewed", executor_id=self.stream.executor_id)
                    return
                # The executor has shown that it lives: it shall not lose its tasks for a database
                # that was away for less than what a sweep makes up for.
                await asyncio.sleep(outage.failed(error))
                continue
            outage.over()
            self._renewed(renewal)
            return

    def _renewed(self, renewal: Renewal) -> None:
        if renewal is Renewal.REFUSED:
            self.end(unavailable("this boot has a newer stream, or has ended; connect again"))
        elif renewal is Renewal.AFTER_LAPSE:
            # While the lease had lapsed, claims found nothing.
            log.warning("lease had lapsed", executor_id=self.stream.executor_id)
            self.queue.set()

    async def _fill(self) -> None:
        while (free := self.free_slots) > 0:
            self.is_behind = False
            ends = self._limits.ends
            claimed = await self._store.claim(self.stream, slots=free)
            tasks = claimed.tasks
            CLAIMS.labels("yes" if tasks else "no").inc()
            is_worth_asking = claimed.is_limited and self._limits.limited(ends_before=ends)
            if tasks:
                pass_crash_point("queue.after_claim")
                TASKS.labels("running").inc(len(tasks))
                self._signals.committed(changed=[task.task_id for task in tasks])
                self.assign(tasks)
            if len(tasks) == free:
                # There may be more. Who was woken for it, here too, may have been this one alone.
                self._signals.work_has_come()
            elif not (is_worth_asking or (tasks and claimed.is_limited)):
                # That was all there is for it; what comes later says so.
                return
        self.is_behind = True

    async def _reconcile(self) -> None:
        before = {task_id: task.lease_token for task_id, (task, _) in self._running.items()}
        try:
            held = {task.task_id: task for task in await self._store.held(self.stream.boot_id)}
        except Exception as error:
            if not is_outage(error):
                raise
            # Until the end of this outage executors find out by their acks.
            return
        # What was claimed meanwhile is not in `held`, nor in `before`.
        self.revoke({task_id: token for task_id, token in before.items() if task_id not in held})
        self.cancel(task_id for task_id, task in held.items() if task.is_cancelling)

    def _is_silent(self) -> bool:
        return self._now() - self._heard_at > SILENT_SECONDS

    def _free(self, task_id: UUID) -> None:
        """Forget a task; its slot is free."""
        if self._running.pop(task_id, None) is not None and self.is_behind:
            self.queue.set()

    def _order_stop(self, task: Assigned, reason: str, *, is_cancel: bool) -> None:
        order = StopOrder(
            task_id=task.task_id,
            lease_token=task.lease_token,
            reason=reason,
            is_cancel=is_cancel,
        )
        self._stops.append(order)
        self._news.set()

    async def _find_lost_claims(self) -> None:
        held = await self._store.held(self.stream.boot_id)
        self.assign(
            task for task in held if task.task_id not in self._running and not task.is_step_open
        )

    async def _answer(self, incoming: Incoming) -> None:
        try:
            verdict = await self._verdict(incoming)
        except Exception as error:
            if not is_outage(error):
                log.exception("report not handled", task_id=incoming.task_id)
                verdict = Verdict.STALE_LEASE
            else:
                # Unanswered reports come again on the executor's next stream.
                self.end(unavailable("the database is away; connect again"))
                return
        report, known = incoming.report, incoming.known_id
        is_over = verdict not in {Verdict.OK, Verdict.SEEN} or (report and report.end is not None)
        if is_over and known is not None and (report is None or self._holds(known, report)):
            self._free(known)
        self._acks.append((incoming.report_id, incoming.task_id, verdict))
        self._news.set()

    async def _verdict(self, incoming: Incoming) -> Verdict:
        task_id, report = incoming.known_id, incoming.report
        if task_id is None:
            log.error("report of no task", executor_id=self.stream.executor_id)
            return Verdict.STALE_LEASE
        held = self._running.get(task_id) or await self._held_unknowingly(task_id)
        if held is None:
            return await self._judged(report)
        task, progress = held
        try:
            if report is None:
                raise MalformedReportError(incoming.flaw)
            if report.lease_token != task.lease_token:
                return Verdict.STALE_LEASE
            row = written_form(report, task=task, progress=progress, boot_id=self.stream.boot_id)
            if report.end is not None:
                pass_crash_point("finish.before_commit")
            fate: Fate = await self._writers.put(row)
        except (MalformedReportError, ReportRefusedError) as error:
            return await self._broken(task, progress, error)
        # It may have been revoked, and even claimed again, before the answer came.
        if fate.verdict in {Verdict.OK, Verdict.SEEN} and self._holds(task_id, report):
            # SEEN: it was written after this stream had looked what its boot holds.
            self._running[task_id] = (task, progress.after(report))
        return fate.verdict

    def _holds(self, task_id: UUID, report: Report) -> bool:
        """Whether it runs here under the lease that the report names."""
        held = self._running.get(task_id)
        return held is not None and held[0].lease_token == report.lease_token

    async def _held_unknowingly(self, task_id: UUID) -> tuple[Assigned, Progress] | None:
        """A task of this boot that the stream does not know; asked for only when one comes up."""
        for task in await self._store.held(self.stream.boot_id):
            if task.task_id == task_id:
                return self._running.setdefault(task_id, (task, progress_of(task)))
        return None

    async def _judged(self, report: Report | None) -> Verdict:
        """What the database says of a report whose task this boot no longer runs."""
        if report is None:
            return Verdict.STALE_LEASE
        try:
            fate = await self._writers.put(judged_form(report, boot_id=self.stream.boot_id))
        except ReportRefusedError:
            return Verdict.STALE_LEASE
        return fate.verdict

    async def _broken(self, task: Assigned, progress: Progress, error: Exception) -> Verdict:
        """Fail a task whose executor reports what cannot be written; else it would not end."""
        log.error(
            "report cannot be recorded, the task fails",
            executor_id=self.stream.executor_id,
            error=str(error),
            **_ids(task),
        )
        row = broken_form(task, boot_id=self.stream.boot_id, progress=progress)
        try:
            fate = await self._writers.put(row)
        except ReportRefusedError:
            return Verdict.STALE_LEASE
        return Verdict.TERMINAL if fate.verdict is not Verdict.STALE_LEASE else fate.verdict

    async def _end_quietly(self, row: ReportRow) -> None:
        try:
            await self._writers.put(row)
        except ReportRefusedError:
            log.exception("task could not be ended")

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)


def unavailable(message: str) -> PawlError:
    """Why a stream ends that an executor should open again."""
    return PawlError("unavailable", message, retry_after_seconds=1)


def _ids(task: Assigned) -> dict[str, str]:
    """What a line about a task in the log says of it: a stream belongs to no request."""
    return {"task_id": str(task.task_id), "request_id": task.request_id}
