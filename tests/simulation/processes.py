"""A scheduler and an executor in the simulation: the real parts, wired as their processes do."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Protocol
from uuid import UUID

from libs.bus.relay import Relay
from libs.core.canonical import Json, read_canonical
from libs.core.errors import Failure, FailureCode, StepFailed
from libs.core.hashing import plan_hash
from libs.core.plan import plan_from_json
from libs.core.prices import FREE
from libs.core.tool_spec import ToolRef, ToolSpec
from services.executor.boot import Boot
from services.executor.service import ExecutorService
from services.executor.step_runner import StepRunner
from services.executor.tools.recorded import RecordedAnswer
from services.executor.tools.registry import ToolRegistry
from services.executor.tools.tool import NewArtifact, ToolContext
from services.executor.worker import Identity, Worker
from services.scheduler.cancelling import CancelService
from services.scheduler.clients import PlannerClient
from services.scheduler.dispatch import Dispatcher
from services.scheduler.model import FrozenPlan
from services.scheduler.report_writers import ReportWriters
from services.scheduler.service import TaskService
from services.scheduler.sweeper import Sweeper
from services.scheduler.wakeups import Signals
from services.scheduler.work_server import WorkServicer
from tests.simulation.memory_store import (
    LEASE_SECONDS,
    MemoryPool,
    MemoryPublisher,
    MemoryServer,
    MemorySweepStore,
    MemoryTaskStore,
    MemoryWorkStore,
)
from tests.simulation.streams import SimulatedStream
from tests.simulation.virtual_loop import Process, VirtualClock, VirtualLoop

SLOTS = 3
GRACE_SECONDS = 10.0
"""How long a server that stops lets calls go on."""
ANYTHING: dict[str, Json] = {}
SPEC = ToolSpec(
    name="work",
    version="1",
    description="Takes so many seconds, then succeeds or fails.",
    input_schema=ANYTHING,
    output_schema=ANYTHING,
)
TOOL = ToolRef(SPEC.name, SPEC.version, SPEC.digest())


class Ids:
    """Ids that a seed decides; their order is not the order in which they are made."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def new(self) -> UUID:
        """Another id."""
        return UUID(int=self._random.getrandbits(128), version=4)


class Surroundings(Protocol):
    """What a process sees of the world around it."""

    @property
    def loop(self) -> VirtualLoop:
        """The one loop of all processes."""
        ...

    @property
    def random(self) -> Random:
        """Every random choice comes from here."""
        ...

    @property
    def server(self) -> MemoryServer:
        """The database."""
        ...

    def notify(self, payload: str) -> None:
        """Send a notification to every scheduler that listens."""
        ...

    def open_stream(self, executor: SimulatedExecutor) -> SimulatedStream:
        """Connect an executor to some scheduler."""
        ...

    def begin_step(self, executor: SimulatedExecutor, context: ToolContext) -> None:
        """Note that a tool is called: this is the step's side effect."""
        ...


class PlannedByCaller(PlannerClient):
    """Takes every plan as it was given."""

    def __init__(self, tool: ToolRef) -> None:
        self._tool = tool

    async def build(self, *, plan_json: str | None, **_rest: Any) -> FrozenPlan | Failure:
        """As PlannerClient.build."""
        plan = plan_from_json(read_canonical(plan_json or "{}"))
        return FrozenPlan(
            plan=plan,
            tool_set=(self._tool,),
            plan_hash=plan_hash(plan, tools=[self._tool], task_input={}),
            planned_by="caller",
            note=None,
        )


class OneTool:
    """What the executors here offer."""

    available = (TOOL,)

    def watch(self) -> asyncio.Event:
        return asyncio.Event()


class SimulatedScheduler:
    """One life of a scheduler process, as services.scheduler.__main__ wires and serves it."""

    def __init__(self, name: str, world: Surroundings, ids: Ids) -> None:
        self.process = Process(name)
        self.is_listening = False
        clock = VirtualClock(world.loop)
        pool = MemoryPool(world.server)
        work = MemoryWorkStore(pool, notify=world.notify)
        tasks = MemoryTaskStore(pool, world.random)
        self.signals = Signals(ids.new(), announce=work.announce, monotonic=clock.monotonic)
        self._relay = Relay(MemoryPublisher(pool))
        self.signals.on_commit(self._relay.wake)
        self._writers = ReportWriters(work.report, signals=self.signals)
        sweeps = MemorySweepStore(pool)
        self._sweeper = Sweeper(sweeps, signals=self.signals, clock=clock)
        self.dispatcher = Dispatcher(
            work, writers=self._writers, signals=self.signals, sweeper=self._sweeper
        )
        self.tasks = TaskService(
            tasks,
            planner=PlannedByCaller(TOOL),
            signals=self.signals,
            on_queued=self.dispatcher.queued,
            clock=clock,
            new_id=ids.new,
        )
        self.cancels = CancelService(tasks, signals=self.signals, clock=clock)
        self._servicer = WorkServicer(
            self.dispatcher, sweeps=sweeps, work=work, lease_seconds=LEASE_SECONDS
        )
        self._stop = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self.serving = world.loop.create_task(self._serve(), context=self.process.context.copy())

    def stop(self) -> None:
        """SIGTERM."""
        self._stop.set()

    def take(self, stream: SimulatedStream) -> None:
        """Serve a Work stream."""
        call = stream.serve(self._servicer)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _serve(self) -> None:
        written, told = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writers.run(written))
            group.create_task(self._relay.run(told))
            group.create_task(self.signals.run(told))
            group.create_task(self._sweeper.run(self._stop))
            await self._stop.wait()
            await self.dispatcher.drain()
            self.signals.close()
            await self._end_calls()
            await self.dispatcher.part()
            written.set()
            told.set()

    async def _end_calls(self) -> None:
        """As grpc's server does when it is stopped."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=GRACE_SECONDS)
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)


class NoArtifacts:
    """No step emits one."""

    async def put(self, artifact: NewArtifact) -> str:
        """As ArtifactSink.put."""
        raise NotImplementedError


class NoRecordings:
    """Nothing is replayed from a record."""

    async def recall(
        self, *, task_id: UUID, lease_token: int, step_index: int, input_sha256: str
    ) -> RecordedAnswer:
        """As Recordings.recall."""
        raise NotImplementedError


class SimulatedExecutor:
    """One life of an executor process."""

    spec = SPEC
    service: type[ExecutorService] = ExecutorService

    def __init__(self, name: str, world: Surroundings, ids: Ids) -> None:
        self.name = name
        self.process = Process(name)
        self.is_leaving = False
        self._world = world
        self._ids = ids
        clock = VirtualClock(world.loop)
        runner = StepRunner(artifacts=NoArtifacts(), clock=clock, prices=FREE)
        service = self.service(
            ToolRegistry([self]), runner=runner, recordings=NoRecordings(), clock=clock
        )
        self.boots: set[UUID] = set()
        """Every boot under which it has held tasks."""
        self._boot = Boot(self._new_boot)
        self.worker = Worker(
            service,
            open_stream=lambda: world.open_stream(self),
            identity=Identity(executor_id=name, slots=SLOTS, tools=OneTool()),
            boot=self._boot,
            clock=clock,
        )
        self._stop = asyncio.Event()
        self.working = world.loop.create_task(
            self.worker.run(self._stop), context=self.process.context.copy()
        )

    def stop(self) -> None:
        """SIGTERM."""
        self.is_leaving = True
        self._stop.set()

    def _new_boot(self) -> str:
        boot_id = self._ids.new()
        self.boots.add(boot_id)
        return str(boot_id)

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """The one tool: its input says how long it takes and whether it fails."""
        self._world.begin_step(self, context)
        said: Any = arguments
        await asyncio.sleep(said["seconds"])
        if said.get("fails"):
            raise StepFailed(FailureCode.TOOL_ERROR, "it was to fail")
        return {"done": context.step_index}
