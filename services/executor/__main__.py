"""Runs the executor: `python -m services.executor`."""

from __future__ import annotations

import asyncio
import os

from libs.core.clock import SystemClock
from libs.core.ids import new_id
from libs.process.env import ConfigError
from libs.process.logs import configure_logs, get_logger
from libs.process.metrics import serve_metrics, set_ready
from libs.process.run import run
from libs.rpc.server import RpcServer
from libs.rpc.tokens import ServiceTokens, TokenVerifier, load_private_key, load_public_keys
from services.executor.boot import Boot
from services.executor.clients import (
    ArtifactClient,
    Channels,
    PlannerClient,
    SchedulerClient,
    open_channels,
)
from services.executor.config import Settings
from services.executor.registration import Registration
from services.executor.server import ExecutorServer, make_server
from services.executor.service import ExecutorService
from services.executor.step_runner import StepRunner
from services.executor.tools.registry import BadTool, ToolRegistry, load_tools
from services.executor.worker import Identity, Pace, Worker

log = get_logger(__name__)


async def serve(stop: asyncio.Event) -> None:
    """Work until `stop` is set, then drain."""
    settings = Settings.from_env(os.environ)
    configure_logs("executor", level=settings.log_level)
    serve_metrics(settings.metrics_listen)
    try:
        registry = load_tools(egress=settings.egress)
    except BadTool as error:
        raise ConfigError(str(error)) from error
    channels = open_channels(
        scheduler=settings.scheduler_target,
        planner=settings.planner_target,
        artifact=settings.artifact_target,
        tokens=ServiceTokens("executor", load_private_key(settings.service_key_file)),
        tls=settings.tls,
    )
    try:
        await _work(settings, registry, channels, stop)
    finally:
        await channels.close()


async def _work(
    settings: Settings, registry: ToolRegistry, channels: Channels, stop: asyncio.Event
) -> None:
    identity = Identity(
        executor_id=settings.executor_id,
        slots=settings.slots,
        tools=registry,
    )
    boot = Boot(lambda: str(new_id()))
    worker = _worker(settings, registry, channels, identity=identity, boot=boot)
    planner = PlannerClient(
        channels.planner, executor_id=identity.executor_id, boot_id=lambda: boot.id
    )
    registration = Registration(planner, registry=registry, boot=boot)
    server = make_server(
        ExecutorServer(identity=identity, registry=registry, worker=worker),
        address=settings.listen,
        verifier=TokenVerifier(load_public_keys(settings.public_keys_file), audience="executor"),
        tls=settings.tls,
    )
    await server.start()
    log.info("executor starts", executor_id=identity.executor_id, boot_id=boot.id)
    announcing = asyncio.create_task(_announce_ready(server, registration, worker))
    try:
        # A loop that fails ends the group and with it the process: nothing runs half.
        async with asyncio.TaskGroup() as loops:
            loops.create_task(worker.run(stop))
            loops.create_task(registration.run(stop))
    finally:
        announcing.cancel()
        set_ready(False)
        await server.stop()


def _worker(
    settings: Settings,
    registry: ToolRegistry,
    channels: Channels,
    *,
    identity: Identity,
    boot: Boot,
) -> Worker:
    clock = SystemClock()
    runner = StepRunner(artifacts=ArtifactClient(channels.artifact), clock=clock)
    scheduler = SchedulerClient(channels.scheduler)
    return Worker(
        ExecutorService(registry, runner=runner, recordings=scheduler, clock=clock),
        open_stream=scheduler.open_work,
        identity=identity,
        boot=boot,
        clock=clock,
        pace=Pace(drain=settings.drain_seconds),
    )


async def _announce_ready(server: RpcServer, registration: Registration, worker: Worker) -> None:
    """Ready is: the planner knows the tools, and a scheduler has answered hello."""
    await server.set_serving(serving=False)
    await registration.registered.wait()
    await worker.connected.wait()
    await server.set_serving(serving=True)
    set_ready(True)


if __name__ == "__main__":
    run(serve, service="executor")
