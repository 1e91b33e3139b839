"""The gateway over a real socket, in front of fake services over real gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from google.protobuf import descriptor_pool

from gateway.app import create_app
from gateway.call import Gateway
from gateway.caller import Callers
from gateway.clients import open_clients
from gateway.http_server import HttpServer
from gateway.shares import Load
from libs.core.clock import SystemClock
from libs.pb.pawl.auth.v1 import auth_service_pb2_grpc
from libs.pb.pawl.planner.v1 import planner_service_pb2_grpc
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2_grpc
from libs.rpc.server import RpcServer
from libs.rpc.tokens import CallerTokens, KeyRing, ServiceTokens, TokenVerifier
from tests.gateway_fakes import FakeAuth, FakeScheduler
from tests.gateway_planner_fake import FakePlanner

VERSION = "pawl-test"
NAMES = {
    "auth": "pawl.auth.v1.AuthService",
    "planner": "pawl.planner.v1.PlannerService",
    "scheduler": "pawl.scheduler.v1.SchedulerService",
    "artifact": "pawl.artifact.v1.ArtifactService",
}


ALLOWED = {"Authenticate": "anyone", "ReturnPermits": "gateway"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayWorld:
    """The gateway's address and a client with a good key; the fakes behind it."""

    port: int
    key: str
    http: httpx2.AsyncClient
    auth: FakeAuth
    planner: FakePlanner
    scheduler: FakeScheduler
    servers: dict[str, RpcServer]
    gateway: Gateway
    http_server: HttpServer

    def forget(self) -> None:
        """Begin anew with the same servers, for the next test."""
        self.auth.forget()
        self.scheduler.forget()
        self.planner.requests.clear()

    async def send(self, data: bytes) -> bytes:
        """What the server answers to these bytes until it closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := await asyncio.wait_for(reader.read(65536), 5):
                answer += chunk
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()
        return answer


@asynccontextmanager
async def gateway_world(
    keys: KeyRing, *, max_in_flight: int = 1000, max_body_bytes: int = 64 * 2**20
) -> AsyncIterator[GatewayWorld]:
    """Everything started, and stopped at the end."""
    # The generated types call every method abstract; what no test calls, no fake has.
    auth = FakeAuth(tokens=CallerTokens(keys.private["auth"]))
    planner, scheduler = FakePlanner(), FakeScheduler()  # type: ignore[abstract]
    servers = {name: _server(name, keys) for name in NAMES}
    servers["auth"].add(
        auth_service_pb2_grpc.add_AuthServiceServicer_to_server, auth, NAMES["auth"]
    )
    servers["planner"].add(
        planner_service_pb2_grpc.add_PlannerServiceServicer_to_server, planner, NAMES["planner"]
    )
    servers["scheduler"].add(
        scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server,
        scheduler,
        NAMES["scheduler"],
    )
    targets = {name: f"127.0.0.1:{await server.start()}" for name, server in servers.items()}
    clients = open_clients(targets, tokens=ServiceTokens("gateway", keys.private["gateway"]))
    clock = SystemClock()
    gateway = Gateway(
        clients=clients,
        callers=Callers(clients.auth, clock=clock),
        clock=clock,
        version=VERSION,
        load=Load.of(max_in_flight=max_in_flight, max_body_bytes=max_body_bytes),
    )
    http_server = HttpServer(create_app(gateway, max_in_flight=max_in_flight), listen="127.0.0.1:0")
    serving = asyncio.create_task(http_server.serve(sockets=[http_server.socket]))
    key = auth.new_key()
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{http_server.port}",
        headers={"Authorization": f"Bearer {key}"},
        trust_env=False,
    ) as http:
        yield GatewayWorld(
            port=http_server.port,
            key=key,
            http=http,
            auth=auth,
            planner=planner,
            scheduler=scheduler,
            servers=servers,
            gateway=gateway,
            http_server=http_server,
        )
    http_server.should_exit = True
    await serving
    await clients.close()
    await asyncio.gather(*(server.stop() for server in servers.values()))


def problem_of(answer: httpx2.Response) -> dict[str, Any]:
    """The body of a refusal, once it has every member of one."""
    problem: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert list(problem) == ["type", "title", "status", "detail", "code", "request_id", "errors"]
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


def _server(name: str, keys: KeyRing) -> RpcServer:
    service = (
        descriptor_pool.Default().FindServiceByName(NAMES[name]) if name != "artifact" else None
    )
    access = {
        f"/{NAMES[name]}/{method.name}": frozenset({ALLOWED.get(method.name, "caller")})
        for method in (service.methods if service else ())
    }
    verifier = TokenVerifier(keys.public, audience=name)
    return RpcServer(
        service=name, address="127.0.0.1:0", verifier=verifier, access=access, drain_seconds=0.1
    )
