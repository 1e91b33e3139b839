"""The executor's end of the Work stream: takes orders, runs tasks, reports, outlives broken
streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from structlog.contextvars import bind_contextvars

from libs.core.clock import Clock
from libs.core.errors import Failure, FailureCode, PawlError
from libs.core.lifecycle import TaskState
from libs.core.tool_spec import ToolRef
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as pb
from libs.process.logs import get_logger
from libs.process.tracing import Span, span, trace_id_of
from libs.rpc.context import CallContext, enter
from libs.rpc.convert import tool_ref_to_proto
from services.executor.clients import WorkStream
from services.executor.convert import (
    ack_status_from_proto,
    assignment_from_proto,
    report_to_proto,
    unreadable_assignment,
)
from services.executor.model import AckStatus, Report, TaskEnd
from services.executor.outbox import Outbox
from services.executor.service import ExecutorService

# For this part of the drain, tasks go on from step to step: ending one here is quicker than handing
# it over, which takes other executors some seconds.
_WHOLE_TASKS_SHARE = 0.75

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who says hello: the lasting name, how many tasks at once, the exact tools on offer."""

    executor_id: str
    slots: int
    tools: Sequence[ToolRef]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds. Reconnecting waits `first_delay`, then twice as long each time up to
    `longest_delay`.
    """

    heartbeat: float = 3.0
    hello: float = 5.0
    first_delay: float = 0.1
    longest_delay: float = 2.0
    drain: float = 8.0


@dataclass(slots=True, eq=False)
class _Running:
    """One task that runs here. `report_id` is that of its one unacknowledged report, 0 without."""

    task_id: str
    lease_token: int
    run: asyncio.Task[None] | None = None
    report_id: int = 0
    last_acked: int = 0
    is_stopping: bool = False


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


class Worker:
    """Keeps one Work stream open and runs what it assigns.

    The lease token of an assignment goes into its reports; a task ends here without a word when an
    acknowledgement or a stop says that it is no longer ours.
    """

    def __init__(
        self,
        service: ExecutorService,
        *,
        open_stream: Callable[[], WorkStream],
        identity: Identity,
        new_boot_id: Callable[[], str],
        clock: Clock,
        pace: Pace | None = None,
    ) -> None:
        self._service = service
        self._open_stream = open_stream
        self._identity = identity
        self._clock = clock
        self._pace = pace or Pace()
        self._outbox = Outbox()
        self._running: dict[str, _Running] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._new_boot_id = new_boot_id
        self._draining = asyncio.Event()
        self._hands_over = False
        self._scheduler_drains = asyncio.Event()
        self.boot_id = new_boot_id()
        """Under which id this executor holds its leases; a new one when the scheduler ended it."""
        self.connected = asyncio.Event()
        """Set while a stream is open whose hello was answered."""

    @property
    def running_task_ids(self) -> tuple[str, ...]:
        """The tasks that run now."""
        return tuple(self._running)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set and the drain is over; reconnects as often as needed."""
        working = asyncio.create_task(self._work())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                await self._drain()
        finally:
            stopped.cancel()
            working.cancel()
            runs = {running.run for running in self._running.values() if running.run is not None}
            for running in list(self._running.values()):
                self._stop(running, "the executor stops")
            await asyncio.wait({working, stopped, *runs})
        if not working.cancelled():
            working.result()

    async def _drain(self) -> None:
        """Take no new task; let the running ones end, later only their open steps."""
        self._draining.set()
        if await self._is_idle_within(self._pace.drain * _WHOLE_TASKS_SHARE):
            return
        log.info("open steps end, further ones are handed over", tasks=len(self._running))
        self._hands_over = True
        if not await self._is_idle_within(self._pace.drain * (1 - _WHOLE_TASKS_SHARE)):
            log.warning("tasks still run at the end of the drain", tasks=len(self._running))

    async def _is_idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _work(self) -> None:
        delay = self._pace.first_delay
        while True:
            try:
                await self._hold_stream()
                log.info("work stream ended")
            except PawlError as error:
                log.warning("work stream failed", code=error.code, error=error.message)
                if error.code == "conflict":
                    self._boot_again()
            if self.connected.is_set():
                self.connected.clear()
                delay = self._pace.first_delay
            await asyncio.sleep(delay)
            delay = min(2 * delay, self._pace.longest_delay)

    async def _hold_stream(self) -> None:
        """Open a stream, say hello, work on it until it ends. Raises PawlError when it fails."""
        stream = self._open_stream()
        self._scheduler_drains.clear()
        # Who drains offers no tools, so it gets no new task, and reports the running ones.
        offers_nothing = self._draining.is_set()
        try:
            hello = self._hello(() if offers_nothing else self._identity.tools)
            await stream.write(pb.WorkRequest(hello=hello))
            self._resume(await self._hello_reply(stream))
            self.connected.set()
            log.info("work stream open", running=len(self._running))
            await _first_of(
                self._read(stream),
                self._write(stream),
                self._beat(),
                self._leave(),
                *(() if offers_nothing else (_until(self._draining),)),
            )
        finally:
            stream.cancel()

    def _hello(self, tools: Sequence[ToolRef]) -> pb.Hello:
        running = [
            pb.RunningTask(
                task_id=one.task_id,
                lease_token=one.lease_token,
                last_acked_report_id=one.last_acked,
            )
            for one in self._running.values()
            if not one.is_stopping
        ]
        return pb.Hello(
            executor_id=self._identity.executor_id,
            boot_id=self.boot_id,
            slots=self._identity.slots,
            tools=[tool_ref_to_proto(tool) for tool in tools],
            running=running,
        )

    async def _hello_reply(self, stream: WorkStream) -> pb.HelloReply:
        try:
            async with asyncio.timeout(self._pace.hello):
                first = await stream.read()
        except TimeoutError as error:
            raise PawlError("deadline_exceeded", "the scheduler did not answer hello") from error
        if first is None or not first.HasField("hello"):
            raise PawlError("unavailable", "the scheduler ended the stream without a hello")
        return first.hello

    def _resume(self, reply: pb.HelloReply) -> None:
        """Go on with what the scheduler lets us keep; all else is no longer ours."""
        kept = set(reply.keep_task_ids)
        for running in list(self._running.values()):
            if running.task_id not in kept:
                self._stop(running, "not kept after a broken stream")
        self._outbox.rewind()

    async def _write(self, stream: WorkStream) -> None:
        while True:
            await stream.write(await self._outbox.next_request())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._pace.heartbeat)
            self._outbox.beat()

    async def _read(self, stream: WorkStream) -> None:
        while (response := await stream.read()) is not None:
            for ack in response.acks:
                self._outbox.acknowledge(ack.report_id, ack_status_from_proto(ack.status))
            for order in response.stops:
                found = self._running.get(order.task_id)
                if found is not None and found.lease_token == order.lease_token:
                    self._stop(found, order.reason)
            for assignment in response.assignments:
                self._begin(assignment)
            if response.drain:
                log.info("the scheduler drains", running=len(self._running))
                self._scheduler_drains.set()

    async def _leave(self) -> None:
        """Return once the scheduler drains and nothing runs here: another one may have work."""
        await self._scheduler_drains.wait()
        await self._idle.wait()

    def _boot_again(self) -> None:
        """The scheduler has ended this boot: its leases are gone, it goes on under a new id."""
        for running in list(self._running.values()):
            self._stop(running, "the boot has ended")
        self.boot_id = self._new_boot_id()

    def _begin(self, message: pb.Assignment) -> None:
        if self._hands_over:
            # The lease goes back when our stream ends; no step of the task has begun.
            return
        before = self._running.get(message.task_id)
        if before is not None:
            self._stop(before, "assigned anew")
        running = _Running(task_id=message.task_id, lease_token=message.lease_token)
        self._running[message.task_id] = running
        self._idle.clear()
        running.run = asyncio.create_task(self._run(running, message))
        running.run.add_done_callback(lambda _: self._forget(running))

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
            await self._service.run_task(assignment, reporter, hands_over=lambda: self._hands_over)
        except Exception:
            log.exception("task run failed")
            run.fail(FailureCode.INTERNAL)
            await reporter.report(_INTERNAL)
        log.debug("task run over", lease_token=running.lease_token)

    def _stop(self, running: _Running, reason: str) -> None:
        """Stop a task: its tool is cancelled, nothing more is reported."""
        if not running.is_stopping:
            log.info("task stopped", task_id=running.task_id, reason=reason)
            running.is_stopping = True
            self._outbox.drop(running.report_id)
            if running.run is not None:
                running.run.cancel()

    def _forget(self, running: _Running) -> None:
        if self._running.get(running.task_id) is running:
            del self._running[running.task_id]
        if not self._running:
            self._idle.set()


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _first_of(*parts: Coroutine[Any, Any, None]) -> None:
    """Run the parts until one of them ends; end the others; raise what it raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


_INTERNAL = Report(
    end=TaskEnd(
        state=TaskState.FAILED,
        failure=Failure(
            code=FailureCode.INTERNAL,
            message="the executor failed; its log says why",
        ),
    )
)
