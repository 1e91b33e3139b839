"""Describe, registration and the artifact client, over real gRPC; the executor as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from libs.core.clock import SystemClock
from libs.core.errors import FailureCode, PawlError, StepFailed
from libs.pb.pawl.artifact.v1 import artifact_pb2
from libs.pb.pawl.artifact.v1 import artifact_service_pb2 as artifact_pb
from libs.pb.pawl.artifact.v1.artifact_service_pb2_grpc import (
    ArtifactServiceServicer,
    add_ArtifactServiceServicer_to_server,
)
from libs.pb.pawl.executor.v1 import executor_service_pb2 as executor_pb
from libs.pb.pawl.executor.v1.executor_service_pb2_grpc import ExecutorServiceStub
from libs.pb.pawl.planner.v1 import planner_service_pb2 as planner_pb
from libs.pb.pawl.planner.v1.planner_service_pb2_grpc import (
    PlannerServiceServicer,
    add_PlannerServiceServicer_to_server,
)
from libs.pb.pawl.scheduler.v1.work_service_pb2_grpc import add_WorkServiceServicer_to_server
from libs.rpc.client import RpcChannel
from libs.rpc.context import Service, current_service
from libs.rpc.convert import tool_spec_to_proto
from libs.rpc.server import RpcServer
from libs.rpc.tokens import (
    KeyRing,
    ServiceTokens,
    TokenVerifier,
    private_key_file,
    public_keys_file,
)
from services.executor.boot import Boot
from services.executor.clients import (
    ArtifactClient,
    Channels,
    PlannerClient,
    SchedulerClient,
    open_channels,
)
from services.executor.registration import Registration
from services.executor.server import ExecutorServer, make_server
from services.executor.tools.tool import NewArtifact
from services.executor.worker import Identity, Worker
from tests.executor_world import TASK_ID, TENANT_ID, make_registry, make_service
from tests.fake_scheduler import METHODS, WORK, FakeScheduler
from tests.waiting import eventually
from tests.worker_world import make_order

PLANNER = "pawl.planner.v1.PlannerService"
ARTIFACT = "pawl.artifact.v1.ArtifactService"
BOOT_IDS = [f"0193f9c8-0000-7000-8000-00000000b00{n}" for n in (1, 2)]
BOOT_ID = BOOT_IDS[0]
ROOT = Path(__file__).resolve().parents[2]


class FakePlanner(PlannerServiceServicer):
    """Remembers offers; refuses the first `refusals` of them."""

    def __init__(self) -> None:
        self.offers: list[planner_pb.RegisterToolsRequest] = []
        self.withdrawn: list[planner_pb.WithdrawToolsRequest] = []
        self.refusals = 0

    async def RegisterTools(
        self, request: planner_pb.RegisterToolsRequest, context: Any
    ) -> planner_pb.RegisterToolsResponse:
        del context
        if self.refusals:
            self.refusals -= 1
            raise PawlError("unavailable", "the planner is busy")
        self.offers.append(request)
        return planner_pb.RegisterToolsResponse()

    async def WithdrawTools(
        self, request: planner_pb.WithdrawToolsRequest, context: Any
    ) -> planner_pb.WithdrawToolsResponse:
        del context
        self.withdrawn.append(request)
        return planner_pb.WithdrawToolsResponse()


class FakeArtifactService(ArtifactServiceServicer):
    """Stores nothing, says who called; refuses when it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Service, artifact_pb.PutArtifactRequest]] = []
        self.refusal: PawlError | None = None

    async def PutArtifact(
        self, request: artifact_pb.PutArtifactRequest, context: Any
    ) -> artifact_pb.PutArtifactResponse:
        del context
        if self.refusal is not None:
            raise self.refusal
        self.calls.append((current_service(), request))
        return artifact_pb.PutArtifactResponse(artifact=artifact_pb2.Artifact(sha256="ab" * 32))


@dataclass
class Mesh:
    """The three services that an executor calls, as fakes on real sockets."""

    scheduler: FakeScheduler = field(default_factory=FakeScheduler)
    planner: FakePlanner = field(default_factory=FakePlanner)
    artifact: FakeArtifactService = field(default_factory=FakeArtifactService)
    servers: list[RpcServer] = field(default_factory=list)

    async def start(self, keys: KeyRing) -> None:
        executor = frozenset({"executor"})
        parts: tuple[tuple[str, str, Any, object, tuple[str, ...]], ...] = (
            ("scheduler", WORK, add_WorkServiceServicer_to_server, self.scheduler, METHODS),
            (
                "planner",
                PLANNER,
                add_PlannerServiceServicer_to_server,
                self.planner,
                ("BuildPlan", "AdmitPlan", "RegisterTools", "WithdrawTools", "ListTools"),
            ),
            (
                "artifact",
                ARTIFACT,
                add_ArtifactServiceServicer_to_server,
                self.artifact,
                ("PutArtifact", "GetArtifact", "ListArtifacts"),
            ),
        )
        for name, service, register, servicer, methods in parts:
            server = RpcServer(
                service=name,
                address="127.0.0.1:0",
                verifier=TokenVerifier(keys.public, audience=name),
                access={f"/{service}/{method}": executor for method in methods},
                drain_seconds=0.1,
            )
            server.add(register, servicer, service)
            await server.start()
            self.servers.append(server)

    @property
    def targets(self) -> dict[str, str]:
        names = ("scheduler", "planner", "artifact")
        return {n: f"127.0.0.1:{s.port}" for n, s in zip(names, self.servers, strict=True)}

    def channels(self, keys: KeyRing) -> Channels:
        scheduler, planner, artifact = self.targets.values()
        return open_channels(
            scheduler=scheduler,
            planner=planner,
            artifact=artifact,
            tokens=ServiceTokens("executor", keys.private["executor"]),
        )


@pytest_asyncio.fixture
async def mesh(keys: KeyRing) -> AsyncIterator[Mesh]:
    mesh = Mesh()
    await mesh.start(keys)
    yield mesh
    for server in mesh.servers:
        await server.stop()


@pytest_asyncio.fixture
async def channels(mesh: Mesh, keys: KeyRing) -> AsyncIterator[Channels]:
    channels = mesh.channels(keys)
    yield channels
    await channels.close()


async def test_describe_says_what_is_offered_and_run(channels: Channels, keys: KeyRing) -> None:
    registry = make_registry()
    identity = Identity(executor_id="e1", slots=4, tools=registry)
    worker = Worker(
        make_service(registry),
        open_stream=SchedulerClient(channels.scheduler).open_work,
        identity=identity,
        boot=Boot(lambda: BOOT_ID),
        clock=SystemClock(),
    )
    server = make_server(
        ExecutorServer(identity=identity, registry=registry, worker=worker),
        address="127.0.0.1:0",
        verifier=TokenVerifier(keys.public, audience="executor"),
    )
    port = await server.start()
    tokens = ServiceTokens("gateway", keys.private["gateway"])
    channel = RpcChannel(f"127.0.0.1:{port}", audience="executor", tokens=tokens)

    answer = await channel.stub(ExecutorServiceStub).Describe(executor_pb.DescribeRequest())

    assert (answer.executor_id, answer.boot_id, answer.slots) == ("e1", BOOT_ID, 4)
    assert list(answer.tools) == [tool_spec_to_proto(spec) for spec in registry.specs]
    assert list(answer.running_task_ids) == []
    assert not answer.connected
    await channel.close()
    await server.stop()


async def test_registration_is_renewed_and_withdrawn(mesh: Mesh, channels: Channels) -> None:
    registry = make_registry()
    boot = Boot(lambda: BOOT_ID)
    planner = PlannerClient(channels.planner, executor_id="e1", boot_id=lambda: boot.id)
    registration = Registration(
        planner, registry=registry, boot=boot, renew_seconds=0.01, retry_seconds=0.01
    )
    mesh.planner.refusals = 2
    stop = asyncio.Event()
    running = asyncio.create_task(registration.run(stop))

    await eventually(lambda: len(mesh.planner.offers) >= 3)
    stop.set()
    await running

    offer = mesh.planner.offers[0]
    assert (offer.executor_id, offer.boot_id) == ("e1", BOOT_ID)
    assert [tool.digest for tool in offer.tools] == [ref.digest for ref in registry.refs]
    assert [(w.executor_id, w.boot_id) for w in mesh.planner.withdrawn] == [("e1", BOOT_ID)]


async def test_registration_follows_a_new_boot_at_once(mesh: Mesh, channels: Channels) -> None:
    registry = make_registry()
    boot = Boot(iter(BOOT_IDS).__next__)
    planner = PlannerClient(channels.planner, executor_id="e1", boot_id=lambda: boot.id)
    registration = Registration(planner, registry=registry, boot=boot, renew_seconds=60)
    stop = asyncio.Event()
    running = asyncio.create_task(registration.run(stop))
    await eventually(registration.registered.is_set)

    boot.again()
    await eventually(lambda: len(mesh.planner.offers) == 2)
    stop.set()
    await running

    assert [offer.boot_id for offer in mesh.planner.offers] == BOOT_IDS
    assert [withdrawn.boot_id for withdrawn in mesh.planner.withdrawn] == BOOT_IDS[1:]


ARTIFACT_1 = NewArtifact(
    task_id=TASK_ID, tenant_id=TENANT_ID, step_index=2, ordinal=0, type="a.b", data_json="1"
)


async def test_artifact_client_acts_for_task_and_tenant(mesh: Mesh, channels: Channels) -> None:
    stored = await ArtifactClient(channels.artifact).put(ARTIFACT_1)

    assert stored == "ab" * 32
    ((service, request),) = mesh.artifact.calls
    assert service == Service(name="executor", tenant_id=TENANT_ID, task_id=TASK_ID)
    assert (UUID(request.task_id), request.step_index, request.ordinal) == (TASK_ID, 2, 0)
    assert (request.type, request.data_json) == ("a.b", "1")


async def test_artifact_client_failure_fails_the_step(mesh: Mesh, channels: Channels) -> None:
    mesh.artifact.refusal = PawlError("already_exists", "other data is stored there")

    with pytest.raises(StepFailed) as failed:
        await ArtifactClient(channels.artifact).put(ARTIFACT_1)

    assert failed.value.code == FailureCode.ARTIFACT_STORE
    assert failed.value.reason == "ALREADY_EXISTS"
    assert "other data is stored there" in failed.value.message


async def _start(env: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.executor",
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **env},
        stderr=asyncio.subprocess.PIPE,
    )


async def test_process_names_every_bad_setting(tmp_path: Path) -> None:
    process = await _start({"PAWL_EXECUTOR_SLOTS": "0", "PAWL_SERVICE_KEY_FILE": str(tmp_path)})

    _, said = await asyncio.wait_for(process.communicate(), 20)

    assert process.returncode == 2
    assert b"PAWL_EXECUTOR_SLOTS" in said
    assert b"PAWL_SCHEDULER_TARGET" in said


@pytest_asyncio.fixture
async def process(
    mesh: Mesh, keys: KeyRing, tmp_path: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """An executor as a process, connected and registered."""
    keys.write(tmp_path)
    targets = {f"PAWL_{name.upper()}_TARGET": target for name, target in mesh.targets.items()}
    files = {
        "PAWL_SERVICE_KEY_FILE": str(private_key_file(tmp_path, "executor")),
        "PAWL_PUBLIC_KEYS_FILE": str(public_keys_file(tmp_path)),
    }
    process = await _start({**targets, **files, "PAWL_EXECUTOR_ID": "e7", "PAWL_SANDBOX": "none"})
    await eventually(lambda: mesh.scheduler.sessions, timeout=20)
    await eventually(lambda: mesh.planner.offers, timeout=20)
    yield process
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def test_process_works_and_stops_on_sigterm(
    mesh: Mesh, process: asyncio.subprocess.Process
) -> None:
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.communicate(), 20)

    (session,) = mesh.scheduler.sessions
    assert session.hello.executor_id == "e7"
    assert process.returncode == 0
    assert session.has_left
    assert [w.executor_id for w in mesh.planner.withdrawn] == ["e7"]


async def test_process_that_stood_still_past_a_step_s_time_does_not_call_it_done(
    mesh: Mesh, process: asyncio.subprocess.Process
) -> None:
    session = await mesh.scheduler.session()
    order = make_order(make_registry(), ("wait", {"seconds": 0.5}))
    order.plan.limits.max_step_seconds = 0.6
    session.send(assignments=[order])
    session.ack(await session.report(1))
    # That the next task begins says that the step of the first has begun.
    session.send(assignments=[make_order(make_registry(), ("wait", {"seconds": 0}))])
    await session.report(2)

    stopped_at = time.monotonic()
    process.send_signal(signal.SIGSTOP)
    await eventually(lambda: time.monotonic() > stopped_at + 0.8)
    process.send_signal(signal.SIGCONT)

    failure = (await session.report(3)).finished.failure
    assert (failure.code, failure.reason) == ("TIMEOUT", "STEP_TIMEOUT")


async def test_process_whose_boot_ended_while_it_stood_still_boots_again(
    mesh: Mesh, process: asyncio.subprocess.Process
) -> None:
    session = await mesh.scheduler.session()
    order = make_order(make_registry(), ("wait", {"seconds": 60}))
    session.send(assignments=[order])
    session.ack(await session.report(1))
    process.send_signal(signal.SIGSTOP)

    mesh.scheduler.ended_boots.add(session.hello.boot_id)
    session.end()
    process.send_signal(signal.SIGCONT)
    fresh = await mesh.scheduler.session(2)

    assert fresh.hello.boot_id != session.hello.boot_id
    assert list(fresh.hello.running) == []
    assert len(session.reports) == 1
    await eventually(lambda: mesh.planner.offers[-1].boot_id == fresh.hello.boot_id)
