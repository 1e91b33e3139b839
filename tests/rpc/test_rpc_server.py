"""The mesh library over a real socket: tokens, the error table, deadlines, context, drain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from libs.core.errors import ERRORS, FieldError, PawlError
from libs.core.tiers import TIERS
from libs.pb.pawl.planner.v1 import planner_service_pb2 as planner_pb
from libs.pb.pawl.planner.v1 import planner_service_pb2_grpc as planner_grpc
from libs.process.tracing import is_traceparent
from libs.rpc.client import RpcChannel, caller_token, on_behalf
from libs.rpc.context import CallContext, Caller, Service, bind, current
from libs.rpc.server import RpcServer
from libs.rpc.tokens import CallerTokens, KeyRing, ServiceTokens, TokenVerifier

NAME = "pawl.planner.v1.PlannerService"
RING = KeyRing.generate()
ACCESS = {
    f"/{NAME}/BuildPlan": frozenset({"scheduler"}),
    f"/{NAME}/AdmitPlan": frozenset({"scheduler"}),
    f"/{NAME}/RegisterTools": frozenset({"executor"}),
    f"/{NAME}/WithdrawTools": frozenset({"anyone"}),
    f"/{NAME}/ListTools": frozenset({"caller"}),
}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TENANT = UUID("01900000-0000-7000-8000-000000000001")


class Planner(planner_grpc.PlannerServiceServicer):
    """Fails as it is told to; answers with what it saw."""

    def __init__(self) -> None:
        self.contexts: list[CallContext] = []
        self.release = asyncio.Event()

    async def BuildPlan(
        self, request: planner_pb.BuildPlanRequest, context: object
    ) -> planner_pb.BuildPlanResponse:
        del context
        self.contexts.append(current())
        said = request.task_input_json
        if said in ERRORS:
            field = FieldError(field="plan.steps[0].tool", code="unknown_tool", detail="no “x”")
            raise PawlError(said, f"it is {said}", errors=(field,), retry_after_seconds=1.5)
        if said == "long":
            many = tuple(
                FieldError(field="é" * 500, code="unknown_tool", detail="ü" * 500)
                for _ in range(1000)
            )
            raise PawlError("plan_invalid", "ö" * 5000, errors=many)
        if said == "bug":
            raise RuntimeError("secret detail")
        if said == "database":
            raise ConnectionError("gone")
        if said == "hang":
            await self.release.wait()
        return planner_pb.BuildPlanResponse()

    async def AdmitPlan(
        self, request: planner_pb.AdmitPlanRequest, context: object
    ) -> planner_pb.AdmitPlanResponse:
        del request, context
        return planner_pb.AdmitPlanResponse()

    async def RegisterTools(
        self, request: planner_pb.RegisterToolsRequest, context: object
    ) -> planner_pb.RegisterToolsResponse:
        del request, context
        return planner_pb.RegisterToolsResponse()

    async def WithdrawTools(
        self, request: planner_pb.WithdrawToolsRequest, context: object
    ) -> planner_pb.WithdrawToolsResponse:
        del request, context
        return planner_pb.WithdrawToolsResponse()

    async def ListTools(
        self, request: planner_pb.ListToolsRequest, context: object
    ) -> planner_pb.ListToolsResponse:
        del request, context
        self.contexts.append(current())
        return planner_pb.ListToolsResponse()


@pytest.fixture
async def planner() -> Planner:
    return Planner()


@pytest.fixture
async def server(planner: Planner) -> AsyncIterator[RpcServer]:
    def translate(error: Exception) -> PawlError | None:
        away = isinstance(error, ConnectionError)
        return PawlError("unavailable", "the database is away") if away else None

    server = RpcServer(
        service="planner",
        address="127.0.0.1:0",
        verifier=TokenVerifier(RING.public, audience="planner"),
        access=ACCESS,
        translate=translate,
        drain_seconds=5,
    )
    server.add(planner_grpc.add_PlannerServiceServicer_to_server, planner, NAME)
    await server.start()
    yield server
    planner.release.set()
    await server.stop()


@pytest.fixture
async def channel(server: RpcServer) -> AsyncIterator[RpcChannel]:
    tokens = ServiceTokens("scheduler", RING.private["scheduler"])
    channel = RpcChannel(f"127.0.0.1:{server.port}", audience="planner", tokens=tokens)
    yield channel
    await channel.close()


def issue() -> str:
    caller = Caller(
        key_id=TENANT,
        tenant_id=TENANT,
        tier="free",
        scopes=frozenset({"tasks:read"}),
        mode="live",
        limits=TIERS["free"],
        expires_at=time.time() + 60,
    )
    return CallerTokens(RING.private["auth"]).issue(caller)[0]


async def build(channel: RpcChannel, text: str, *, timeout: float | None = None) -> None:
    stub = channel.stub(planner_grpc.PlannerServiceStub)
    await stub.BuildPlan(planner_pb.BuildPlanRequest(task_input_json=text), timeout=timeout)


@pytest.mark.parametrize("code", sorted(ERRORS))
async def test_every_row_of_the_error_table_survives_the_wire(
    channel: RpcChannel, code: str
) -> None:
    with pytest.raises(PawlError) as refused:
        await build(channel, code)

    error = refused.value
    assert (error.code, error.message, error.retry_after_seconds) == (code, f"it is {code}", 1.5)
    assert error.errors[0].pointer == "/plan/steps/0/tool"
    assert error.errors[0].code == "unknown_tool"


async def test_a_refusal_of_any_length_fits_into_the_trailers(channel: RpcChannel) -> None:
    with pytest.raises(PawlError) as refused:
        await build(channel, "long")

    assert refused.value.code == "plan_invalid"
    assert refused.value.message.endswith("…")
    assert 1 <= len(refused.value.errors) < 20


async def test_what_is_no_protobuf_is_a_bad_request(server: RpcServer) -> None:
    token = ServiceTokens("scheduler", RING.private["scheduler"]).token_for("planner")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as raw:
        call: Any = raw.unary_unary(f"/{NAME}/BuildPlan")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(b"\xff\xff", metadata=(("authorization", f"Bearer {token}"),), timeout=5)

    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "DecodeError" not in (failed.value.details() or "")


async def test_raw_status_carries_the_code_of_the_table(server: RpcServer) -> None:
    token = ServiceTokens("scheduler", RING.private["scheduler"]).token_for("planner")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as raw:
        stub = planner_grpc.PlannerServiceStub(raw)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.BuildPlan(
                planner_pb.BuildPlanRequest(task_input_json="step_limit"),
                metadata=(("authorization", f"Bearer {token}"),),
                timeout=5,
            )

    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_unexpected_error_says_nothing_of_its_cause(channel: RpcChannel) -> None:
    with pytest.raises(PawlError) as failed:
        await build(channel, "bug")

    assert failed.value.code == "internal"
    assert "secret" not in failed.value.message


async def test_an_adapter_error_is_translated(channel: RpcChannel) -> None:
    with pytest.raises(PawlError) as failed:
        await build(channel, "database")

    assert failed.value.code == "unavailable"


async def test_a_call_ends_at_its_deadline(channel: RpcChannel) -> None:
    with pytest.raises(PawlError) as failed:
        await build(channel, "hang", timeout=0.2)

    assert failed.value.code == "deadline_exceeded"


async def test_a_call_inherits_the_deadline_of_the_call_it_serves(channel: RpcChannel) -> None:
    began = time.monotonic()

    with (
        bind(CallContext(request_id="r", deadline=began + 0.2)),
        pytest.raises(PawlError) as failed,
    ):
        await build(channel, "hang", timeout=30)

    assert failed.value.code == "deadline_exceeded"
    assert time.monotonic() - began < 10


async def test_context_travels(channel: RpcChannel, planner: Planner) -> None:
    with (
        bind(CallContext(request_id="req_1", traceparent=PARENT)),
        on_behalf(tenant_id=TENANT),
    ):
        await build(channel, "fine")

    seen = planner.contexts[0]
    assert (seen.request_id, seen.traceparent) == ("req_1", PARENT)
    assert seen.principal == Service(name="scheduler", tenant_id=TENANT)
    assert seen.deadline is not None


@pytest.mark.parametrize("sent", ["", "x" * 129])
async def test_a_request_id_that_is_none_is_replaced(
    channel: RpcChannel, planner: Planner, sent: str
) -> None:
    with bind(CallContext(request_id=sent)):
        await build(channel, "fine")

    assert planner.contexts[0].request_id.startswith("req_")


@pytest.mark.parametrize("sent", ["", "00-a-b-01"])
async def test_a_call_without_a_traceparent_begins_a_trace(
    channel: RpcChannel, planner: Planner, sent: str
) -> None:
    with bind(CallContext(request_id="req_1", traceparent=sent)):
        await build(channel, "fine")

    assert is_traceparent(planner.contexts[0].traceparent)


async def test_a_caller_token_replaces_the_service_token(
    channel: RpcChannel, planner: Planner
) -> None:
    stub = channel.stub(planner_grpc.PlannerServiceStub)

    with caller_token(issue()):
        await stub.ListTools(planner_pb.ListToolsRequest())

    assert isinstance(planner.contexts[0].principal, Caller)


async def test_access_is_by_method(channel: RpcChannel) -> None:
    stub = channel.stub(planner_grpc.PlannerServiceStub)

    with pytest.raises(PawlError) as service_refused:
        await stub.ListTools(planner_pb.ListToolsRequest())
    with caller_token(issue()), pytest.raises(PawlError) as caller_refused:
        await build(channel, "fine")

    assert service_refused.value.code == caller_refused.value.code == "permission_denied"


@pytest.mark.parametrize("value", ["", "Bearer ", "Bearer x.y.z", "Basic abc"])
async def test_no_or_bad_token_is_unauthenticated(server: RpcServer, value: str) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as raw:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await planner_grpc.PlannerServiceStub(raw).BuildPlan(
                planner_pb.BuildPlanRequest(),
                metadata=(("authorization", value),) if value else (),
                timeout=5,
            )

    assert failed.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_service_that_is_away_is_unavailable() -> None:
    channel = RpcChannel("127.0.0.1:1", audience="planner")

    with pytest.raises(PawlError) as failed:
        await build(channel, "fine")
    with pytest.raises(PawlError):
        await channel.ready(0.2)

    assert (failed.value.code, failed.value.retry_after_seconds) == ("unavailable", 1)
    await channel.close()


async def test_health_and_reflection_need_no_token(server: RpcServer) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as raw:
        health_stub: Any = health_pb2_grpc.HealthStub(raw)  # its stubs know the blocking face only
        reflection_stub: Any = reflection_pb2_grpc.ServerReflectionStub(raw)  # type: ignore[arg-type]
        health = await health_stub.Check(health_pb2.HealthCheckRequest(service=NAME), timeout=5)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = reflection_stub.ServerReflectionInfo(iter([asked]), timeout=5)
        listed = [
            service.name async for a in answers for service in a.list_services_response.service
        ]

    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert NAME in listed


async def test_stop_lets_running_calls_end(
    server: RpcServer, channel: RpcChannel, planner: Planner
) -> None:
    running = asyncio.create_task(build(channel, "hang"))
    while not planner.contexts:
        await asyncio.sleep(0)

    stopping = asyncio.create_task(server.stop())
    planner.release.set()

    await running
    await stopping


async def test_a_method_without_access_is_refused_at_start() -> None:
    server = RpcServer(
        service="planner",
        address="127.0.0.1:0",
        verifier=TokenVerifier(RING.public, audience="planner"),
        access={},
    )
    server.add(planner_grpc.add_PlannerServiceServicer_to_server, Planner(), NAME)

    with pytest.raises(ValueError, match="BuildPlan"):
        await server.start()

    await server.stop()
