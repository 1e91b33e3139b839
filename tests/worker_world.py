"""A worker, its scheduler a fake behind real gRPC, its tool a gate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from libs.core.canonical import Json, canonical_text
from libs.core.clock import SystemClock
from libs.core.ids import new_id
from libs.core.prices import FREE
from libs.pb.pawl.plan.v1 import plan_pb2
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as pb
from libs.pb.pawl.scheduler.v1.work_service_pb2_grpc import add_WorkServiceServicer_to_server
from libs.rpc.client import RpcChannel
from libs.rpc.convert import to_timestamp, tool_ref_to_proto
from libs.rpc.server import RpcServer
from libs.rpc.tokens import KeyRing, ServiceTokens, TokenVerifier
from services.executor.boot import Boot
from services.executor.clients import SchedulerClient
from services.executor.service import ExecutorService
from services.executor.step_runner import StepRunner
from services.executor.tools.registry import ToolRegistry
from services.executor.tools.tool import Tool
from services.executor.worker import Identity, Pace, Worker
from tests.executor_world import (
    CREATED_AT,
    PLAN_HASH,
    TENANT_ID,
    FakeArtifacts,
    FakeTool,
    Gate,
    make_registry,
)
from tests.fake_scheduler import METHODS, WORK, FakeScheduler, Session
from tests.waiting import eventually

FAST = Pace(heartbeat=0.02, hello=0.2, first_delay=0.01, longest_delay=0.02, drain=1.0)
BOOT_IDS = [f"0193f9c8-0000-7000-8000-00000000b00{n}" for n in range(1, 5)]
BOOT_ID = BOOT_IDS[0]


@dataclass
class World:
    """A scheduler that is a fake, a worker, and a tool named `fake` that waits at a gate."""

    scheduler: FakeScheduler
    registry: ToolRegistry
    gate: Gate
    worker: Worker
    server: RpcServer
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.running = asyncio.create_task(self.worker.run(self.stop))

    async def begun(self, order: pb.Assignment) -> Session:
        """Assign a task whose first step is `fake`; the session, once the tool is called."""
        session = await self.scheduler.session()
        session.send(assignments=[order])
        session.ack(await session.report(1))
        await eventually(self.gate.entered.is_set)
        return session

    async def end(self) -> None:
        self.stop.set()
        if self.running is not None:
            await self.running

    def assignment(
        self, *steps: tuple[str, Json], lease_token: int = 1, task_id: str | None = None
    ) -> pb.Assignment:
        return make_order(self.registry, *steps, lease_token=lease_token, task_id=task_id)


def make_order(
    registry: ToolRegistry,
    *steps: tuple[str, Json],
    lease_token: int = 1,
    task_id: str | None = None,
) -> pb.Assignment:
    """The assignment of a task of these steps (tool, input), with the tools of `registry`."""
    names = {tool for tool, _ in steps}
    return pb.Assignment(
        task_id=task_id or str(new_id()),
        tenant_id=str(TENANT_ID),
        lease_token=lease_token,
        plan=plan_pb2.Plan(
            steps=[
                plan_pb2.Step(step_index=index, tool=tool, input_json=canonical_text(value))
                for index, (tool, value) in enumerate(steps, start=1)
            ],
            limits=plan_pb2.Limits(),
        ),
        tool_set=[tool_ref_to_proto(ref) for ref in registry.refs if ref.name in names],
        task_input_json="{}",
        plan_hash=PLAN_HASH,
        created_at=to_timestamp(CREATED_AT),
        mode="live",
        request_id="req_1",
    )


@asynccontextmanager
async def open_world(keys: KeyRing, *tools: Tool) -> AsyncIterator[World]:
    """A world whose worker runs, with these tools beside `fake`; ended at its end."""
    # What no test calls it does not answer.
    scheduler, gate = FakeScheduler(), Gate()  # type: ignore[abstract]
    registry = make_registry(FakeTool(gate.call), *tools)
    server = RpcServer(
        service="scheduler",
        address="127.0.0.1:0",
        verifier=TokenVerifier(keys.public, audience="scheduler"),
        access={f"/{WORK}/{name}": frozenset({"executor"}) for name in METHODS},
        drain_seconds=0.1,
    )
    server.add(add_WorkServiceServicer_to_server, scheduler, WORK)
    port = await server.start()
    channel = RpcChannel(
        f"127.0.0.1:{port}",
        audience="scheduler",
        tokens=ServiceTokens("executor", keys.private["executor"]),
    )
    clock = SystemClock()
    client = SchedulerClient(channel)
    worker = Worker(
        ExecutorService(
            registry,
            runner=StepRunner(
                artifacts=FakeArtifacts(), clock=clock, prices=FREE, grace_seconds=0.05
            ),
            recordings=client,
            clock=clock,
        ),
        open_stream=client.open_work,
        identity=Identity(executor_id="e1", slots=4, tools=registry),
        boot=Boot(iter(BOOT_IDS).__next__),
        clock=clock,
        pace=FAST,
    )
    world = World(scheduler, registry, gate, worker, server)
    world.begin()
    try:
        yield world
    finally:
        gate.open.set()
        scheduler.acknowledge_all()
        await world.end()
        await channel.close()
        await server.stop()
