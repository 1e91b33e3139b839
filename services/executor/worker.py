"""The executor's end of the Work stream: takes orders, sends reports, outlives broken streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from libs.core.clock import Clock
from libs.core.errors import PawlError
from libs.core.tool_spec import ToolRef
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as pb
from libs.process.logs import get_logger
from libs.rpc.convert import tool_ref_to_proto
from services.executor.boot import Boot
from services.executor.clients import WorkStream, write_last
from services.executor.convert import ack_status_from_proto
from services.executor.outbox import Outbox
from services.executor.service import ExecutorService
from services.executor.task_runs import TaskRuns

# For the first part of the drain, tasks go on from step to step: ending one here is quicker than
# handing it over. Then open steps close, and a step may be long. The rest is for killing what still
# runs then, and for taking leave.
_WHOLE_TASKS_SHARE = 0.2
_OPEN_STEPS_SHARE = 0.6

log = get_logger(__name__)


class ToolsOnOffer(Protocol):
    """What a hello says of tools, as ToolRegistry has it."""

    @property
    def available(self) -> Sequence[ToolRef]:
        """The exact tools that can be called now."""
        ...

    def watch(self) -> asyncio.Event:
        """An event that is set whenever they may be others."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who says hello: the lasting name, how many tasks at once, what says which exact tools."""

    executor_id: str
    slots: int
    tools: ToolsOnOffer


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds. Reconnecting waits `first_delay`, then twice as long each time up to
    `longest_delay`. `drain` is for all of it, from the stop to the end; `leave` bounds its last
    part, in which a scheduler is told.
    """

    heartbeat: float = 3.0
    hello: float = 5.0
    first_delay: float = 0.1
    # Who is back within 3 s of a broken stream keeps its tasks.
    longest_delay: float = 0.4
    drain: float = 8.0
    leave: float = 0.5


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
        boot: Boot,
        clock: Clock,
        pace: Pace | None = None,
    ) -> None:
        self._open_stream = open_stream
        self._identity = identity
        self._boot = boot
        self._pace = pace or Pace()
        self._outbox = Outbox()
        self._runs = TaskRuns(service, outbox=self._outbox, clock=clock)
        self._other_tools = identity.tools.watch()
        self._draining = asyncio.Event()
        self._scheduler_drains = asyncio.Event()
        self._is_leaving = False
        self._has_left = False
        self.connected = asyncio.Event()
        """Set while a stream is open whose hello was answered."""

    @property
    def boot_id(self) -> str:
        """Under which id this executor holds its leases."""
        return self._boot.id

    @property
    def running_task_ids(self) -> tuple[str, ...]:
        """The tasks that run now."""
        return self._runs.task_ids

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
            self._runs.hand_over()
            self._runs.stop_all("the executor stops")
            await self._runs.wait_stopped()
            await self._leave(working)
            working.cancel()
            await asyncio.wait({working, stopped})
        if not working.cancelled():
            working.result()

    async def _drain(self) -> None:
        """Take no new task; let the running ones end, later only their open steps."""
        if self._runs.idle.is_set():
            return
        self._draining.set()
        if await self._is_idle_within(self._pace.drain * _WHOLE_TASKS_SHARE):
            return
        log.info("open steps end, further ones are handed over", tasks=len(self._runs.task_ids))
        self._runs.hand_over()
        if not await self._is_idle_within(self._pace.drain * _OPEN_STEPS_SHARE):
            log.warning("tasks still run at the end of the drain", tasks=len(self._runs.task_ids))

    async def _is_idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._runs.idle.wait()
        except TimeoutError:
            return False
        return True

    async def _leave(self, working: asyncio.Task[None]) -> None:
        """Say that nothing of this boot runs any more; no scheduler is waited for longer than
        `Pace.leave`.
        """
        if self._runs.live_calls:
            # What it does may still have effects; only our end is the end of it.
            log.error("tools outlive the drain", calls=self._runs.live_calls)
            return
        self._is_leaving = True
        self._outbox.leave()
        await asyncio.wait({working}, timeout=self._pace.leave)

    async def _work(self) -> None:
        delay = self._pace.first_delay
        while not self._has_left:
            try:
                await self._hold_stream()
                log.info("work stream ended")
            except PawlError as error:
                log.warning("work stream failed", code=error.code, error=error.message)
                if error.code == "conflict":
                    self._boot_again()
                    delay = self._pace.first_delay
            if self.connected.is_set():
                self.connected.clear()
                delay = self._pace.first_delay
            if not self._has_left:
                await asyncio.sleep(delay)
                delay = min(2 * delay, self._pace.longest_delay)

    async def _hold_stream(self) -> None:
        """Open a stream, say hello, work on it until it ends. Raises PawlError when it fails."""
        stream = self._open_stream()
        self._scheduler_drains.clear()
        # Who drains offers no tools, so it gets no new task, and reports the running ones.
        offers_nothing = self._draining.is_set() or self._is_leaving
        try:
            self._other_tools.clear()
            hello = self._hello(() if offers_nothing else self._identity.tools.available)
            await stream.write(pb.WorkRequest(hello=hello))
            self._resume(await self._hello_reply(stream))
            self.connected.set()
            log.info("work stream open", running=len(self._runs.task_ids))
            await _first_of(
                self._read(stream),
                self._write(stream),
                self._beat(),
                self._leave_drained(),
                *(
                    ()
                    if offers_nothing
                    else (_until(self._draining), self._until_other_tools(hello))
                ),
            )
        finally:
            stream.cancel()

    def _hello(self, tools: Sequence[ToolRef]) -> pb.Hello:
        return pb.Hello(
            executor_id=self._identity.executor_id,
            boot_id=self._boot.id,
            slots=self._identity.slots,
            tools=[tool_ref_to_proto(tool) for tool in tools],
            running=self._runs.held(),
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
        self._runs.keep_only(set(reply.keep_task_ids))
        self._outbox.rewind()

    async def _write(self, stream: WorkStream) -> None:
        while not self._has_left:
            request = await self._outbox.next_request()
            if not request.leaving:
                await stream.write(request)
                continue
            await write_last(stream, request)
            self._has_left = True
        # Whoever has read our last word ends the stream.
        await asyncio.Event().wait()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._pace.heartbeat)
            self._outbox.beat()

    async def _read(self, stream: WorkStream) -> None:
        while (response := await stream.read()) is not None:
            for ack in response.acks:
                self._outbox.acknowledge(ack.report_id, ack_status_from_proto(ack.status))
            for assignment in response.assignments:
                self._runs.begin(assignment)
            for order in response.stops:
                self._runs.obey(order)
            if response.drain:
                log.info("the scheduler drains", running=len(self._runs.task_ids))
                self._scheduler_drains.set()

    async def _until_other_tools(self, hello: pb.Hello) -> None:
        """Return once other tools are on offer than the hello said: a new one is to be said."""
        said = {(tool.name, tool.version, tool.digest) for tool in hello.tools}
        while {(r.name, r.version, r.digest) for r in self._identity.tools.available} == said:
            await self._other_tools.wait()
            self._other_tools.clear()

    async def _leave_drained(self) -> None:
        """Return once the scheduler drains and nothing runs here: another one may have work."""
        await self._scheduler_drains.wait()
        await self._runs.idle.wait()

    def _boot_again(self) -> None:
        """The scheduler has ended this boot: its leases are gone, it goes on under a new id."""
        self._runs.stop_all("the boot has ended")
        self._boot.again()
        log.warning("boots again", boot_id=self._boot.id)


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
