"""The gRPC clients of the services behind the gateway, made once and shared by all requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.core.errors import PawlError
from libs.core.sandboxes import SANDBOXES, health_name
from libs.pb.pawl.auth.v1 import auth_service_pb2_grpc
from libs.pb.pawl.planner.v1 import planner_service_pb2_grpc
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2_grpc
from libs.rpc.client import RpcChannel
from libs.rpc.tls import TlsFiles
from libs.rpc.tokens import ServiceTokens

HEALTH_SECONDS = 1.0
BUS = "pawl.bus"
"""Under this name the scheduler's health says whether events can leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """One client per service. Every call has a deadline and fails with PawlError."""

    auth: auth_service_pb2_grpc.AuthServiceAsyncStub
    planner: planner_service_pb2_grpc.PlannerServiceAsyncStub
    scheduler: scheduler_service_pb2_grpc.SchedulerServiceAsyncStub
    health: Mapping[str, Any]
    channels: tuple[RpcChannel, ...]

    async def close(self) -> None:
        """Close all channels at once."""
        await asyncio.gather(*(channel.close() for channel in self.channels))


def open_clients(
    targets: Mapping[str, str],
    *,
    tokens: ServiceTokens | None = None,
    tls: TlsFiles | None = None,
) -> Clients:
    """Clients for `targets`: service → host:port, for auth, planner, scheduler and artifact.

    Connections are made when first needed. Calls carry a caller's token or none at all: the gateway
    acts for its callers only. But for permits: auth hears of them with the gateway's own `tokens`.
    """
    channels = {
        name: RpcChannel(target, audience=name, tokens=tokens if name == "auth" else None, tls=tls)
        for name, target in targets.items()
    }
    return Clients(
        auth=channels["auth"].stub(auth_service_pb2_grpc.AuthServiceStub),
        planner=channels["planner"].stub(planner_service_pb2_grpc.PlannerServiceStub),
        scheduler=channels["scheduler"].stub(scheduler_service_pb2_grpc.SchedulerServiceStub),
        health={name: ch.stub(health_pb2_grpc.HealthStub) for name, ch in channels.items()},
        channels=tuple(channels.values()),
    )


async def unready(clients: Clients) -> dict[str, str]:
    """Which services do not serve now, and why; all are asked at once, for at most a second."""
    names = sorted(clients.health)
    reasons = await asyncio.gather(*(_reason(clients, name) for name in names))
    return {name: reason for name, reason in zip(names, reasons, strict=True) if reason}


async def degraded(clients: Clients) -> dict[str, str]:
    """What services can do without for a while and have to now, and what that means."""
    try:
        answer = await clients.health["scheduler"].Check(
            health_pb2.HealthCheckRequest(service=BUS), timeout=HEALTH_SECONDS
        )
    except PawlError as error:
        if error.code == "not_found":
            return {}
        return {"bus": error.message}
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return {}
    return {"bus": "it cannot be reached: tasks run, and their events are published later"}


async def sandboxes(clients: Clients) -> list[str]:
    """The kinds of sandbox that run code steps now; none when the planner does not say."""
    answers = await asyncio.gather(*(_runs(clients, name) for name in SANDBOXES))
    return [name for name, runs in zip(SANDBOXES, answers, strict=True) if runs]


async def _runs(clients: Clients, sandbox: str) -> bool:
    asked = health_pb2.HealthCheckRequest(service=health_name(sandbox))
    try:
        answer = await clients.health["planner"].Check(asked, timeout=HEALTH_SECONDS)
    except PawlError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _reason(clients: Clients, name: str) -> str:
    try:
        answer = await clients.health[name].Check(
            health_pb2.HealthCheckRequest(), timeout=HEALTH_SECONDS
        )
    except PawlError as error:
        return error.message
    serving = health_pb2.HealthCheckResponse.SERVING
    return "" if answer.status == serving else f"{name} says that it does not serve"
