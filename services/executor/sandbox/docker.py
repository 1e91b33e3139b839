"""Guests in containers of a Docker engine."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from libs.process.logs import get_logger
from services.executor.sandbox.docker_config import (
    BOOT_LABEL,
    EXECUTOR_LABEL,
    INSTALLATION_LABEL,
    container_config,
)
from services.executor.sandbox.docker_engine import ContainerFacts, Engine, Progress
from services.executor.sandbox.docker_image import ensure_image
from services.executor.sandbox.docker_stream import AttachedStream
from services.executor.sandbox.docker_versions import warn_of_old_parts
from services.executor.sandbox.image.context import ImageContext, packaged_context
from services.executor.sandbox.model import (
    Death,
    FrameRefused,
    SandboxIdentity,
    SandboxUnavailable,
)

START_SECONDS = 15.0
DEATH_SECONDS = 1.0
CLOSE_SECONDS = 15.0
READY_BYTES = 4096
IMAGE_DIGITS = 12

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerOwner:
    """Whose containers these are: labels of all of them."""

    installation_id: str
    executor_id: str


class DockerBackend:
    """A Backend over a Docker engine. Containers are made of one fixed configuration.

    `runtime` is the name of a runtime that the engine knows, "" its default. `progress` is told, in
    a thread, how the building of the image goes; unless given, the log is.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        owner: DockerOwner,
        runtime: str = "",
        context: ImageContext | None = None,
        progress: Progress | None = None,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._engine = engine
        self._owner = owner
        self._runtime = runtime
        self._context = context
        self._progress = progress or _log_progress
        self._start_seconds = start_seconds
        self._image_id = ""
        self._held: set[str] = set()
        self._boots: set[str] = set()
        self._removals: set[asyncio.Task[None]] = set()

    async def prepare(self) -> SandboxIdentity:
        """As Backend.prepare: the engine, the image, and a first guest that says its Python."""
        context = self._context or packaged_context()
        warn_of_old_parts(await self._engine.version())
        self._image_id = await ensure_image(self._engine, context, progress=self._progress)
        trial = await self._start(str(uuid4()))
        await trial.remove()
        digits = self._image_id.removeprefix("sha256:")[:IMAGE_DIGITS]
        return SandboxIdentity(
            backend="docker", python=trial.python, build=f"{digits}.{context.version}"
        )

    async def start(self, boot_id: str) -> DockerGuest:
        """As Backend.start."""
        if not self._image_id:
            raise SandboxUnavailable("the sandbox is not prepared")
        return await self._start(boot_id)

    async def boots(self) -> frozenset[str]:
        """As Backend.boots. Removes, besides, what was given up and made all the same."""
        found = await self._found()
        for each in found:
            if each.labels.get(BOOT_LABEL) in self._boots and each.name not in self._held:
                self._remove_aside(each.name)
        return frozenset(boot for each in found if (boot := each.labels.get(BOOT_LABEL)))

    async def remove(self, boots: Collection[str]) -> int:
        """As Backend.remove."""
        unwanted = [e for e in await self._found() if e.labels.get(BOOT_LABEL, "") in boots]
        removed = await asyncio.gather(*(self._engine.remove(each.id) for each in unwanted))
        return sum(removed)

    async def close(self) -> None:
        """As Backend.close: waits for removals that have begun, 15 s at most."""
        if self._removals:
            await asyncio.wait(self._removals, timeout=CLOSE_SECONDS)
        self._engine.close()

    async def _start(self, boot_id: str) -> DockerGuest:
        name = f"pawl-sandbox-{uuid4().hex}"
        self._held.add(name)
        self._boots.add(boot_id)
        config = container_config(
            self._image_id, labels=self._labels(boot_id), runtime=self._runtime
        )
        making = self._engine.begin(config, name=name)
        try:
            async with asyncio.timeout(self._start_seconds):
                connection = await self._taken(name, making)
                return await self._attached(name, connection)
        except TimeoutError as error:
            message = f"no guest was ready within {self._start_seconds:g} s"
            raise SandboxUnavailable(message) from error

    async def _taken(self, name: str, making: asyncio.Future[socket.socket]) -> socket.socket:
        try:
            return await asyncio.shield(making)
        except BaseException:
            self._spawn(self._remove_unwanted(name, making))
            raise

    async def _attached(self, name: str, connection: socket.socket) -> DockerGuest:
        stream: AttachedStream | None = None
        try:
            stream = await AttachedStream.open(connection)
            python = await _ready(stream)
        except BaseException:
            if stream is not None:
                log.warning("guest did not get ready", container=name, stderr=stream.stderr)
                stream.close()
            self._remove_aside(name)
            raise
        return DockerGuest(self, name=name, stream=stream, python=python)

    def _labels(self, boot_id: str) -> dict[str, str]:
        return {
            INSTALLATION_LABEL: self._owner.installation_id,
            EXECUTOR_LABEL: self._owner.executor_id,
            BOOT_LABEL: boot_id,
        }

    async def _found(self) -> list[ContainerFacts]:
        return await self._engine.containers(f"{INSTALLATION_LABEL}={self._owner.installation_id}")

    async def _remove_unwanted(self, name: str, making: asyncio.Future[socket.socket]) -> None:
        """Wait until it is made, or has failed to be; then remove what there is."""
        try:
            (await making).close()
        except SandboxUnavailable:
            pass  # said to whoever waited for it
        finally:
            # Whatever else went wrong is logged with the task; the container goes all the same.
            await self._remove_now(name)

    async def death(self, name: str) -> Death:
        """How a guest of ours ended; nothing is known when the engine does not say."""
        try:
            return await self._engine.death(name, wait_seconds=DEATH_SECONDS)
        except SandboxUnavailable as error:
            log.warning("nobody knows how a guest ended", container=name, error=str(error))
            return Death(is_out_of_memory=False, exit_code=None)

    async def remove_guest(self, name: str) -> None:
        """Kill and remove a guest of ours. Done to the end, also when the caller is cancelled."""
        await asyncio.shield(self._remove_aside(name))

    def _remove_aside(self, name: str) -> asyncio.Task[None]:
        return self._spawn(self._remove_now(name))

    async def _remove_now(self, name: str) -> None:
        try:
            await self._engine.remove(name)
        except SandboxUnavailable as error:
            log.warning("container is left for later", container=name, error=str(error))
        finally:
            # Whatever went wrong: what is left is nobody's, and `boots` removes it.
            self._held.discard(name)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)
        return task


class DockerGuest:
    """A Guest in a container that is attached and has said that it is ready."""

    def __init__(
        self, backend: DockerBackend, *, name: str, stream: AttachedStream, python: str
    ) -> None:
        self.name = name
        self.python = python
        self._backend = backend
        self._stream = stream

    @property
    def is_alive(self) -> bool:
        """As Guest.is_alive: the engine ends the connection when the container ends."""
        return self._stream.is_open

    @property
    def complaints(self) -> str:
        """What it wrote to its own stderr so far, at most 64 KiB of it."""
        return self._stream.stderr

    async def ask(self, request: bytes, *, max_answer_bytes: int) -> bytes | None:
        """As Guest.ask."""
        self._stream.write_frame(request)
        return await self._stream.read_frame(max_bytes=max_answer_bytes)

    async def death(self) -> Death:
        """As Guest.death."""
        return await self._backend.death(self.name)

    async def remove(self) -> None:
        """As Guest.remove."""
        if self._stream.stderr:
            log.warning("guest complained", container=self.name, stderr=self._stream.stderr)
        self._stream.close()
        await self._backend.remove_guest(self.name)


async def _ready(stream: AttachedStream) -> str:
    """The version of Python that a guest says when it is ready."""
    try:
        body = await stream.read_frame(max_bytes=READY_BYTES)
        said = {} if body is None else json.loads(body)
        return str(said["python"])
    except (FrameRefused, ValueError, KeyError, TypeError) as error:
        raise SandboxUnavailable("a guest ended, or said something else than ready") from error


def _log_progress(text: str) -> None:
    log.info("sandbox image", said=text)
