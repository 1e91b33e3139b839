"""Certificates and streams, and what the log of a client says when there is no connection."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from libs.core.errors import PawlError
from libs.core.tiers import TIERS
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2 as pb
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2_grpc as pb_grpc
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as work_pb
from libs.pb.pawl.scheduler.v1 import work_service_pb2_grpc as work_grpc
from libs.rpc.certs import make_certificates
from libs.rpc.client import RpcChannel, caller_token
from libs.rpc.context import Caller
from libs.rpc.server import RpcServer
from libs.rpc.tls import TlsFiles
from libs.rpc.tokens import CallerTokens, KeyRing, ServiceTokens, TokenVerifier
from tests.certificates import files_of

TASKS = "pawl.scheduler.v1.SchedulerService"
WORK = "pawl.scheduler.v1.WorkService"
RING = KeyRing.generate()
ACCESS = {
    f"/{TASKS}/SubmitTask": frozenset({"gateway"}),
    f"/{TASKS}/SubmitTasks": frozenset({"caller"}),
    f"/{TASKS}/ReplayTask": frozenset({"caller"}),
    f"/{TASKS}/ListTasks": frozenset({"caller"}),
    f"/{TASKS}/CountTasks": frozenset({"caller"}),
    f"/{TASKS}/GetTask": frozenset({"caller"}),
    f"/{TASKS}/CancelTask": frozenset({"caller"}),
    f"/{TASKS}/GetTrace": frozenset({"executor"}),
    f"/{TASKS}/WatchEvents": frozenset({"anyone"}),
    f"/{TASKS}/RepublishEvents": frozenset({"caller"}),
    f"/{WORK}/Work": frozenset({"executor"}),
    f"/{WORK}/JudgeBoots": frozenset({"executor"}),
    f"/{WORK}/RecallStep": frozenset({"executor"}),
}
TENANT = UUID("01900000-0000-7000-8000-000000000001")


class Tasks(pb_grpc.SchedulerServiceServicer):
    """Answers whoever gets through."""

    async def SubmitTask(
        self, request: pb.SubmitTaskRequest, context: object
    ) -> pb.SubmitTaskResponse:
        del request, context
        return pb.SubmitTaskResponse(replayed=True)

    async def ReplayTask(
        self, request: pb.ReplayTaskRequest, context: object
    ) -> pb.ReplayTaskResponse:
        del request, context
        return pb.ReplayTaskResponse()

    async def GetTask(self, request: pb.GetTaskRequest, context: object) -> pb.GetTaskResponse:
        del request, context
        return pb.GetTaskResponse()

    async def CancelTask(
        self, request: pb.CancelTaskRequest, context: object
    ) -> pb.CancelTaskResponse:
        del request, context
        return pb.CancelTaskResponse()

    async def GetTrace(
        self, request: pb.GetTraceRequest, context: object
    ) -> AsyncIterator[pb.GetTraceResponse]:
        del request, context
        for _ in range(3):
            yield pb.GetTraceResponse()

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: object
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        del request, context
        yield pb.WatchEventsResponse()

    async def RepublishEvents(
        self, request: pb.RepublishEventsRequest, context: object
    ) -> pb.RepublishEventsResponse:
        del request, context
        return pb.RepublishEventsResponse()


class Work(work_grpc.WorkServiceServicer):
    """Sends an order for every report."""

    async def Work(
        self, request_iterator: AsyncIterator[work_pb.WorkRequest], context: object
    ) -> AsyncIterator[work_pb.WorkResponse]:
        del context
        async for _ in request_iterator:
            yield work_pb.WorkResponse()


def make_server(tls: TlsFiles | None) -> RpcServer:
    server = RpcServer(
        service="scheduler",
        address="127.0.0.1:0",
        verifier=TokenVerifier(RING.public, audience="scheduler"),
        access=ACCESS,
        tls=tls,
        drain_seconds=1,
    )
    # What no test calls they do not answer.
    tasks = Tasks()  # type: ignore[abstract]
    server.add(pb_grpc.add_SchedulerServiceServicer_to_server, tasks, TASKS)
    servicer = Work()  # type: ignore[abstract]
    server.add(work_grpc.add_WorkServiceServicer_to_server, servicer, WORK)
    return server


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certs")
    make_certificates(directory)
    return directory


@pytest.fixture
async def server(certs: Path) -> AsyncIterator[RpcServer]:
    server = make_server(files_of(certs, "scheduler"))
    await server.start()
    yield server
    await server.stop()


async def channel_of(
    service: str, target: str, tls: TlsFiles | None, *, audience: str = "scheduler"
) -> AsyncIterator[RpcChannel]:
    tokens = ServiceTokens(service, RING.private[service])
    channel = RpcChannel(target, audience=audience, tokens=tokens, tls=tls)
    yield channel
    await channel.close()


@pytest.fixture
async def executor(server: RpcServer, certs: Path) -> AsyncIterator[RpcChannel]:
    target = f"127.0.0.1:{server.port}"
    async for channel in channel_of("executor", target, files_of(certs, "executor")):
        yield channel


async def read_trace(channel: RpcChannel) -> int:
    """A call that executors may make; how many messages came."""
    stub: Any = channel.stub(pb_grpc.SchedulerServiceStub)
    return len([page async for page in stub.GetTrace(pb.GetTraceRequest(), timeout=5)])


@contextmanager
def refused_connection() -> Iterator[list[str]]:
    """The block fails as if nobody were there; the reasons that the log then has."""
    reasons: list[str] = []
    with capture_logs() as logs, pytest.raises(PawlError) as failed:
        yield reasons
    assert (failed.value.code, failed.value.message) == (
        "unavailable",
        "a part of Pawl cannot be reached",
    )
    reasons += [line["error"] for line in logs if line["event"] == "call found no connection"]


async def test_certificates_of_the_authority_serve_calls_and_streams(
    server: RpcServer, executor: RpcChannel, certs: Path
) -> None:
    work: Any = executor.stub(work_grpc.WorkServiceStub)
    stream = work.Work(timeout=5)
    await stream.write(work_pb.WorkRequest())
    order = await stream.read()
    await stream.done_writing()
    assert (order, await stream.read()) == (work_pb.WorkResponse(), None)

    assert await read_trace(executor) == 3
    target = f"localhost:{server.port}"
    async for gateway in channel_of("gateway", target, files_of(certs, "gateway")):
        stub = gateway.stub(pb_grpc.SchedulerServiceStub)
        assert (await stub.SubmitTask(pb.SubmitTaskRequest(), timeout=5)).replayed


@pytest.mark.parametrize("form", ["ipv4:127.0.0.1:1,127.0.0.1:{}", "dns:///localhost:{}"])
async def test_the_name_that_counts_is_the_service_whatever_the_address(
    server: RpcServer, certs: Path, form: str
) -> None:
    target = form.format(server.port)

    async for channel in channel_of("executor", target, files_of(certs, "executor")):
        assert await read_trace(channel) == 3


async def test_callers_and_anyone_need_any_certificate_of_the_authority(
    server: RpcServer, certs: Path
) -> None:
    caller = Caller(
        key_id=TENANT,
        tenant_id=TENANT,
        tier="free",
        scopes=frozenset(),
        mode="live",
        limits=TIERS["free"],
        expires_at=time.time() + 60,
    )
    token, _ = CallerTokens(RING.private["auth"]).issue(caller)
    channel = RpcChannel(
        f"127.0.0.1:{server.port}", audience="scheduler", tls=files_of(certs, "client")
    )
    stub: Any = channel.stub(pb_grpc.SchedulerServiceStub)

    with caller_token(token):
        answer = await stub.GetTask(pb.GetTaskRequest(), timeout=5)
    events = [event async for event in stub.WatchEvents(pb.WatchEventsRequest(), timeout=5)]

    assert (answer, len(events)) == (pb.GetTaskResponse(), 1)
    await channel.close()


async def test_a_service_token_over_anothers_certificate_is_refused(
    server: RpcServer, certs: Path
) -> None:
    target = f"127.0.0.1:{server.port}"
    async for channel in channel_of("executor", target, files_of(certs, "planner")):
        with pytest.raises(PawlError) as streamed:
            await read_trace(channel)
        work: Any = channel.stub(work_grpc.WorkServiceStub)
        with pytest.raises(PawlError) as both_ways:
            await work.Work(timeout=5).read()
    async for channel in channel_of("gateway", target, files_of(certs, "executor")):
        stub = channel.stub(pb_grpc.SchedulerServiceStub)
        with pytest.raises(PawlError) as once:
            await stub.SubmitTask(pb.SubmitTaskRequest(), timeout=5)

    assert streamed.value.code == both_ways.value.code == once.value.code == "unauthenticated"
    assert "of executor, the certificate of the connection of planner" in streamed.value.message
    assert "of gateway, the certificate of the connection of executor" in once.value.message


async def test_plaintext_is_refused_when_certificates_are_on(server: RpcServer) -> None:
    async for channel in channel_of("executor", f"127.0.0.1:{server.port}", None):
        with refused_connection() as reasons:
            await read_trace(channel)

    assert len(reasons) == 1


async def test_certificates_against_plaintext_fail_and_say_why(certs: Path) -> None:
    server = make_server(None)
    await server.start()
    target = f"127.0.0.1:{server.port}"

    async for channel in channel_of("executor", target, files_of(certs, "executor")):
        with refused_connection() as reasons:
            await read_trace(channel)

    assert "handshake failed" in reasons[0]
    await server.stop()


async def test_a_strangers_certificate_is_refused_by_both_sides(
    server: RpcServer, certs: Path, tmp_path: Path
) -> None:
    make_certificates(tmp_path, ["executor"])
    target = f"127.0.0.1:{server.port}"
    # The stranger believes our server, so that it is the server who refuses.
    stranger = files_of(tmp_path, "executor")
    believer = TlsFiles(ca=certs / "ca.crt", certificate=stranger.certificate, key=stranger.key)

    async for channel in channel_of("executor", target, believer):
        with refused_connection():
            await read_trace(channel)
    async for channel in channel_of("executor", target, stranger):
        with refused_connection() as reasons:
            await read_trace(channel)

    assert "CERTIFICATE_VERIFY_FAILED" in reasons[0]


async def test_a_server_with_anothers_certificate_is_refused_by_the_client(
    server: RpcServer, certs: Path
) -> None:
    target = f"127.0.0.1:{server.port}"

    async for channel in channel_of(
        "executor", target, files_of(certs, "executor"), audience="planner"
    ):
        with refused_connection() as reasons:
            await read_trace(channel)

    assert "Hostname Verification" in reasons[0]
