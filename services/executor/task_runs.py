"""The tasks that run here: begun, stopped, cancelled, and known to be over."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from structlog.contextvars import bind_contextvars

from libs.core.clock import Clock
from libs.core.errors import Failure, FailureCode
from libs.core.lifecycle import TaskState
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as pb
from libs.process.logs import get_logger
from libs.process.tracing import Span, span, trace_id_of
from libs.rpc.context import CallContext, enter
from services.executor.cancellation import Cancellation
from services.executor.convert import (
    assignment_from_proto,
    report_to_proto,
    unreadable_assignment,
)
from services.executor.model import AckStatus, Report, TaskEnd
from services.executor.outbox import Outbox
from services.executor.service import ExecutorService

log = get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Running:
    """One task that runs here. `report_id` is that of its one unacknowledged report, 0 without."""

    task_id: str
    lease_token: int
    request_id: str = ""
    cancellation: Cancellation = field(default_factory=Cancellation)
    run: asyncio.Task[None] | None = None
    report_id: int = 0
    last_acked: int = 0
    is_stopping: bool = False

    @property
    def ids(self) -> dict[str, str]:
        """What a line about it in the log says, where it is not its own run that logs."""
        return {"task_id": self.task_id, "request_id": self.request_id}


class _TaskReporter:
    def __init__(self, outbox: Outbox, running: _Running) -> None:
        self._outbox = outbox
        self._running = running

    async def report(self, report: Report) -> AckStatus:
        """Send a report and wait for its acknowledgement, over as many streams as it takes."""
        running = self._running
        report_id = self._outbox.next_id()
        message = report_to_proto(
            report, report_id=report_id, task_id=running.task_id, lease_token=running.lease_token
        )
        running.report_id = report_id
        try:
            status = await self._outbox.post(message)
        finally:
            running.report_id = 0
            self._outbox.drop(report_id)
        running.last_acked = report_id
        return status


class TaskRuns:
    """Runs each assigned task as an asyncio task of its own; its reports go into the outbox."""

    def __init__(self, service: ExecutorService, *, outbox: Outbox, clock: Clock) -> None:
        self._service = service
        self._outbox = outbox
        self._clock = clock
        self._running: dict[str, _Running] = {}
        self._hands_over = False
        self.idle = asyncio.Event()
        """Set while nothing runs."""
        self.idle.set()

    @property
    def task_ids(self) -> tuple[str, ...]:
        """The tasks that run now."""
        return tuple(self._running)

    @property
    def live_calls(self) -> int:
        """How many calls of tools have not ended, those that outlived their task included."""
        return self._service.live_calls

    def held(self) -> list[pb.RunningTask]:
        """What a hello says of the tasks that go on here."""
        return [
            pb.RunningTask(
                task_id=one.task_id,
                lease_token=one.lease_token,
                last_acked_report_id=one.last_acked,
            )
            for one in self._running.values()
            if not one.is_stopping
        ]

    def begin(self, message: pb.Assignment) -> None:
        """Run an assigned task, in place of an older assignment of it."""
        if self._hands_over:
            # The lease goes back when we leave; no step of the task has begun.
            return
        before = self._running.get(message.task_id)
        if before is not None:
            self._stop(before, "assigned anew")
        running = _Running(
            task_id=message.task_id,
            lease_token=message.lease_token,
            request_id=message.request_id,
        )
        self._running[message.task_id] = running
        self.idle.clear()
        running.run = asyncio.create_task(self._run(running, message))
        running.run.add_done_callback(lambda _: self._forget(running))

    def obey(self, order: pb.Stop) -> None:
        """Cancel or stop the task that the order names, if it runs here under that token."""
        found = self._running.get(order.task_id)
        if found is None or found.lease_token != order.lease_token:
            return
        if not order.cancel:
            self._stop(found, order.reason)
        elif not found.cancellation.is_asked:
            log.info("task is cancelled", reason=order.reason, **found.ids)
            found.cancellation.ask()

    def keep_only(self, task_ids: Collection[str]) -> None:
        """Stop every task but these: the scheduler has given them away or ended them."""
        for running in list(self._running.values()):
            if running.task_id not in task_ids:
                self._stop(running, "not kept after a broken stream")

    def hand_over(self) -> None:
        """From now on begin no task and no further step; what is open goes on to its close."""
        self._hands_over = True

    def stop_all(self, reason: str) -> None:
        """Stop every task: its tool is cancelled, nothing more is reported."""
        for running in list(self._running.values()):
            self._stop(running, reason)

    async def wait_stopped(self) -> None:
        """Return when no task runs; one whose tool does not end is given up after its grace."""
        runs = {running.run for running in self._running.values() if running.run is not None}
        if runs:
            await asyncio.wait(runs)

    async def _run(self, running: _Running, message: pb.Assignment) -> None:
        ids = {
            "task_id": message.task_id,
            "tenant_id": message.tenant_id,
            "request_id": message.request_id,
        }
        with span(
            "run_task",
            traceparent=message.traceparent,
            attributes={f"pawl.{name}": text for name, text in ids.items()},
            kind="consumer",
        ) as run:
            bind_contextvars(**ids, trace_id=trace_id_of(run.traceparent))
            enter(CallContext(request_id=message.request_id, traceparent=run.traceparent))
            await self._run_assigned(running, message, run)

    async def _run_assigned(self, running: _Running, message: pb.Assignment, run: Span) -> None:
        reporter = _TaskReporter(self._outbox, running)
        try:
            assignment = assignment_from_proto(message, received_at=self._clock.monotonic())
        except ValueError:
            log.exception("assignment cannot be read")
            run.fail(FailureCode.INTERNAL)
            await reporter.report(unreadable_assignment(message))
            return
        log.debug("task begins", lease_token=running.lease_token)
        try:
            await self._service.run_task(
                assignment,
                reporter,
                cancellation=running.cancellation,
                hands_over=lambda: self._hands_over,
            )
        except Exception:
            log.exception("task run failed")
            run.fail(FailureCode.INTERNAL)
            await reporter.report(_INTERNAL)
        log.debug("task run over", lease_token=running.lease_token)

    def _stop(self, running: _Running, reason: str) -> None:
        if not running.is_stopping:
            log.info("task stopped", reason=reason, **running.ids)
            running.is_stopping = True
            self._outbox.drop(running.report_id)
            if running.run is not None:
                running.run.cancel()

    def _forget(self, running: _Running) -> None:
        if self._running.get(running.task_id) is running:
            del self._running[running.task_id]
        if not self._running:
            self.idle.set()


_INTERNAL = Report(
    end=TaskEnd(
        state=TaskState.FAILED,
        failure=Failure(
            code=FailureCode.INTERNAL,
            message="the executor failed; its log says why",
        ),
    )
)
