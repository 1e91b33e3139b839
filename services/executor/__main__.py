"""Runs the executor: `python -m services.executor`."""

from __future__ import annotations

import asyncio
import os

from libs.core.clock import SystemClock
from libs.core.ids import new_id
from libs.process.env import ConfigError
from libs.process.logs import configure_logs, get_logger
from libs.process.metrics import serve_metrics, set_ready
from libs.process.run import leave_at_once, run
from libs.rpc.client import RpcChannel
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
from services.executor.code_steps import CodeSteps
from services.executor.config import Settings
from services.executor.registration import Registration
from services.executor.sandbox.companion import CompanionSandbox
from services.executor.sandbox.docker import DockerOwner
from services.executor.sandbox.installation import installation_of
from services.executor.sandbox.model import Sandbox
from services.executor.sandbox_choice import NONE, SandboxOpener
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
        registry = load_tools(egress=settings.egress, most_children=settings.children)
    except BadTool as error:
        raise ConfigError(str(error)) from error
    tokens = ServiceTokens("executor", load_private_key(settings.service_key_file))
    channels = open_channels(
        scheduler=settings.scheduler_target,
        planner=settings.planner_target,
        artifact=settings.artifact_target,
        tokens=tokens,
        tls=settings.tls,
    )
    try:
        await _work(settings, registry, channels, tokens, stop)
    finally:
        await channels.close()


async def _work(
    settings: Settings,
    registry: ToolRegistry,
    channels: Channels,
    tokens: ServiceTokens,
    stop: asyncio.Event,
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
    code_steps = _code_steps(settings, registry, channels, tokens=tokens, boot=boot)
    server = make_server(
        ExecutorServer(identity=identity, registry=registry, worker=worker),
        address=settings.listen,
        verifier=TokenVerifier(load_public_keys(settings.public_keys_file), audience="executor"),
        tls=settings.tls,
    )
    await server.start()
    log.info("executor starts", executor_id=identity.executor_id, boot_id=boot.id)
    announcing = asyncio.create_task(_announce_ready(server, registration, worker, code_steps))
    try:
        # A loop that fails ends the group and with it the process: nothing runs half.
        async with asyncio.TaskGroup() as loops:
            loops.create_task(_work_and_close(worker, code_steps, stop))
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
    runner = StepRunner(
        artifacts=ArtifactClient(channels.artifact), clock=clock, prices=settings.prices
    )
    scheduler = SchedulerClient(channels.scheduler)
    return Worker(
        ExecutorService(registry, runner=runner, recordings=scheduler, clock=clock),
        open_stream=scheduler.open_work,
        identity=identity,
        boot=boot,
        clock=clock,
        pace=Pace(drain=settings.drain_seconds),
    )


def _code_steps(
    settings: Settings,
    registry: ToolRegistry,
    channels: Channels,
    *,
    tokens: ServiceTokens,
    boot: Boot,
) -> CodeSteps:
    scheduler = SchedulerClient(channels.scheduler)
    opener = SandboxOpener(
        settings=settings.sandbox,
        owner=DockerOwner(
            installation_id=installation_of(settings.public_keys_file),
            executor_id=settings.executor_id,
        ),
        boot_id=lambda: boot.id,
    )

    async def ask_companion() -> Sandbox:
        channel = RpcChannel(
            settings.sandbox_target, audience="sandbox", tokens=tokens, tls=settings.tls
        )
        try:
            return await CompanionSandbox.open(channel, boot_id=lambda: boot.id)
        except BaseException:
            await channel.close()
            raise

    return CodeSteps(
        ask_companion if settings.sandbox_target else opener.open,
        registry=registry,
        own_boot=lambda: boot.id,
        judge_boots=scheduler.judge_boots,
        clock=SystemClock(),
        is_off=settings.sandbox.choice == NONE,
    )


async def _work_and_close(worker: Worker, code_steps: CodeSteps, stop: asyncio.Event) -> None:
    """Work until `stop`; the sandbox is there for as long as anything may run in it."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as both:
        both.create_task(code_steps.run(over))
        try:
            await worker.run(stop)
        finally:
            over.set()


async def _announce_ready(
    server: RpcServer, registration: Registration, worker: Worker, code_steps: CodeSteps
) -> None:
    """Ready is: whether there is a sandbox is known, the planner has taken all tools, and a
    scheduler has answered hello.
    """
    await server.set_serving(serving=False)
    await code_steps.settled.wait()
    await registration.wait_current()
    await worker.connected.wait()
    await server.set_serving(serving=True)
    set_ready(True)


if __name__ == "__main__":
    # Monty, where it runs code, has threads that come to Python when they like.
    run(serve, service="executor", leave=leave_at_once)
