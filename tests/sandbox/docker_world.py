"""A docker backend under test: an engine of this machine, an installation and guests of its own."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import pytest
from docker.errors import DockerException

from services.executor.sandbox.docker import DockerBackend, DockerGuest, DockerOwner
from services.executor.sandbox.docker_address import DEFAULT_ADDRESS
from services.executor.sandbox.docker_config import INSTALLATION_LABEL
from services.executor.sandbox.docker_engine import CALL_SECONDS, Engine
from services.executor.sandbox.image.context import ImageContext, context_of

STUB = context_of(Path(__file__).parent / "stub_guest")
BASE_IMAGE = "python:3.11-slim-bookworm"
ANSWER_BYTES = 2**20


@dataclass(slots=True, kw_only=True)
class DockerWorld:
    """`client` looks at the engine past the backend; `installation_id` is of this world alone."""

    backend: DockerBackend
    client: Any
    installation_id: str
    guests: list[DockerGuest] = field(default_factory=list)

    async def guest(self, boot_id: str = "boot") -> DockerGuest:
        """A ready guest, removed at the end."""
        guest = await self.backend.start(boot_id)
        self.guests.append(guest)
        return guest

    def containers(self, *, running: bool = False) -> list[str]:
        """The names of all containers of this installation, or of those that run."""
        label = f"{INSTALLATION_LABEL}={self.installation_id}"
        found = self.client.api.containers(all=not running, filters={"label": [label]})
        return [each["Names"][0].removeprefix("/") for each in found]

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        found: dict[str, Any] = self.client.api.inspect_container(name)
        return found


@asynccontextmanager
async def docker_world(
    address: str,
    *,
    context: ImageContext = STUB,
    via: str | None = None,
    prepared: bool = True,
    call_seconds: float = CALL_SECONDS,
) -> AsyncIterator[DockerWorld]:
    """A world on the engine at `address`, whose containers are gone in the end. `via` is another
    address of that engine, for the backend.
    """
    client = docker.DockerClient(base_url=address)
    installation_id = f"test-{uuid4().hex[:12]}"
    backend = DockerBackend(
        Engine(via or address, call_seconds=call_seconds),
        owner=DockerOwner(installation_id=installation_id, executor_id="executor-1"),
        context=context,
    )
    world = DockerWorld(backend=backend, client=client, installation_id=installation_id)
    try:
        if prepared:
            await backend.prepare()
        yield world
    finally:
        await asyncio.gather(*(guest.remove() for guest in world.guests))
        await backend.close()
        client.close()


def engine_or_skip() -> str:
    """The address of this machine's engine. Skips where none answers or the base image is not to
    be had.
    """
    try:
        client = docker.from_env()
    except DockerException as error:
        pytest.skip(f"no Docker engine answers: {error}")
    try:
        client.ping()
        if not client.images.list(BASE_IMAGE):
            client.images.pull(BASE_IMAGE)
    except DockerException as error:
        pytest.skip(f"no Docker engine with {BASE_IMAGE}: {error}")
    finally:
        client.close()
    return os.environ.get("DOCKER_HOST", DEFAULT_ADDRESS)


async def said(guest: DockerGuest, **request: Any) -> Any:
    """What the stub answers to a request; None when it ended without."""
    body = json.dumps(request).encode()
    async with asyncio.timeout(30):
        answer = await guest.ask(body, max_answer_bytes=ANSWER_BYTES)
    return None if answer is None else json.loads(answer)
