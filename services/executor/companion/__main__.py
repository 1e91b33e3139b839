"""Runs the sandbox beside executors: `python -m services.executor.companion`."""

from __future__ import annotations

import asyncio
import os

from libs.core.ids import new_id
from libs.process.logs import configure_logs, get_logger
from libs.process.metrics import serve_metrics, set_ready
from libs.process.run import run
from libs.rpc.server import RpcServer
from libs.rpc.tokens import TokenVerifier, load_public_keys
from services.executor.companion.config import Settings
from services.executor.companion.server import SandboxServer, make_server
from services.executor.sandbox.docker import DockerBackend, DockerOwner
from services.executor.sandbox.docker_engine import Engine
from services.executor.sandbox.installation import installation_of
from services.executor.sandbox.model import Sandbox, SandboxIdentity, SandboxUnavailable

NAME = "sandbox"
LOOK_SECONDS = 1.0
PREPARE_PAUSE_SECONDS = 5.0

log = get_logger(__name__)


async def serve(stop: asyncio.Event) -> None:
    """Run code until `stop` is set, then drain."""
    settings = Settings.from_env(os.environ)
    configure_logs(NAME, level=settings.log_level)
    serve_metrics(settings.metrics_listen)
    owner = DockerOwner(
        installation_id=installation_of(settings.public_keys_file), executor_id=NAME
    )
    backend = DockerBackend(Engine(settings.engine), owner=owner, runtime=settings.runtime)
    boot_id = str(new_id())
    identity = await _prepared(backend, stop)
    if identity is None:
        return
    # One process per engine and installation: all that is there was left by earlier ones.
    removed = await backend.remove(await backend.boots())
    log.info("sandbox starts", boot_id=boot_id, identity=str(identity), removed=removed)


async def _prepared(backend: DockerBackend, stop: asyncio.Event) -> SandboxIdentity | None:
    """Wait for an engine and an image; None when told to stop before."""
    while not stop.is_set():
        try:
            return await backend.prepare()
        except SandboxUnavailable as error:
            log.warning("sandbox cannot start yet", error=str(error))
        try:
            async with asyncio.timeout(PREPARE_PAUSE_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue
    return None


async def _serve(settings: Settings, sandbox: Sandbox, stop: asyncio.Event) -> None:
    server = make_server(
        SandboxServer(sandbox),
        address=settings.listen,
        verifier=TokenVerifier(load_public_keys(settings.public_keys_file), audience=NAME),
        tls=settings.tls,
    )
    await server.start()
    telling = asyncio.create_task(_tell_health(server, sandbox))
    try:
        await stop.wait()
    finally:
        telling.cancel()
        set_ready(False)
        await server.stop()


async def _tell_health(server: RpcServer, sandbox: Sandbox) -> None:
    """Serving is: the last attempts to make a container did not all fail."""
    while True:
        await server.set_serving(serving=sandbox.is_healthy)
        set_ready(sandbox.is_healthy)
        await asyncio.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    run(serve, service=NAME)
