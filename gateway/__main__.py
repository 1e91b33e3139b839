"""Runs the gateway: `python -m gateway`."""

from __future__ import annotations

import asyncio
import os

from gateway.app import create_app
from gateway.call import Gateway
from gateway.caller import Callers
from gateway.clients import open_clients
from gateway.config import Settings
from gateway.http_server import HttpServer, allow_many_connections
from gateway.shares import Load, share_of
from libs.core.clock import SystemClock
from libs.process.logs import configure_logs, get_logger
from libs.process.metrics import serve_metrics, set_ready
from libs.process.run import run
from libs.rpc.tokens import ServiceTokens, load_private_key

log = get_logger(__name__)


async def main(stop: asyncio.Event) -> None:
    """Serve HTTP until `stop`."""
    settings = Settings.from_env(os.environ)
    configure_logs("gateway", level=settings.log_level)
    if settings.metrics_listen:
        serve_metrics(settings.metrics_listen)
    allow_many_connections()
    clients = open_clients(
        {
            "auth": settings.auth_target,
            "planner": settings.planner_target,
            "scheduler": settings.scheduler_target,
            "artifact": settings.artifact_target,
        },
        tokens=ServiceTokens("gateway", load_private_key(settings.service_key_file)),
        tls=settings.tls,
    )
    clock = SystemClock()
    callers = Callers(clients.auth, clock=clock, max_waiting=share_of(settings.max_in_flight))
    gateway = Gateway(
        clients=clients,
        callers=callers,
        clock=clock,
        version=settings.version_label,
        load=Load.of(max_in_flight=settings.max_in_flight, max_body_bytes=settings.max_body_bytes),
    )
    server = HttpServer(
        create_app(gateway, max_in_flight=settings.max_in_flight), listen=settings.listen
    )
    giving_back = asyncio.create_task(callers.run())
    log.info("serving", address=settings.listen, port=server.port)
    set_ready(True)
    try:
        await server.run_until(stop)
    finally:
        set_ready(False)
        giving_back.cancel()
        await callers.give_back(everything=True)
        await clients.close()


if __name__ == "__main__":
    run(main, service="gateway")
