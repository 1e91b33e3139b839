"""The guest that comes with Pawl, through each backend of this machine, at the level of frames."""

from __future__ import annotations

import asyncio
import json
import shutil
import struct
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from services.executor.sandbox.bubblewrap import BubblewrapBackend
from services.executor.sandbox.docker import DockerBackend, DockerOwner
from services.executor.sandbox.docker_engine import Engine
from services.executor.sandbox.model import (
    MIB,
    Backend,
    CodeLimits,
    Guest,
    SandboxIdentity,
    SandboxUnavailable,
)
from tests.sandbox.docker_world import engine_or_skip

NOW = 1_700_000_000.25
SEED = 0x1234_5678_9ABC_DEF0
ANSWER_BYTES = 2 * MIB
ANSWER_SECONDS = 30

_LIMITS = CodeLimits()

BACKENDS = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
]


def code_request(code: str, **changes: Any) -> dict[str, Any]:
    """A request of a guest. `changes` are limits, or `input`, `seed` and `now`."""
    request: dict[str, Any] = {"v": 1, "id": "1", "code": code}
    request |= {name: changes.pop(name, value) for name, value in _GIVEN.items()}
    return request | {"limits": _BOUNDS | changes}


_GIVEN: dict[str, Any] = {"input": None, "seed": SEED, "now": NOW}
_BOUNDS: dict[str, Any] = {
    "wall_seconds": 10.0,
    "cpu_seconds": 10.0,
    "memory_bytes": _LIMITS.memory_bytes,
    "file_bytes": _LIMITS.file_bytes,
    "output_bytes": _LIMITS.output_bytes,
    "result_bytes": _LIMITS.result_bytes,
}


@dataclass(slots=True, kw_only=True)
class GuestWorld:
    """A backend that is prepared, and the guests of one test."""

    name: str
    backend: Backend
    identity: SandboxIdentity
    guests: list[Guest] = field(default_factory=list)

    async def start(self) -> Guest:
        """A ready guest, removed at the end of the test."""
        guest = await self.backend.start("boot")
        self.guests.append(guest)
        return guest

    async def run(self, code: str, **changes: Any) -> dict[str, Any]:
        """Its answer to one request in a guest of its own, which is gone after that."""
        guest = await self.start()
        answer = await ask(guest, code_request(code, **changes))
        await guest.remove()
        assert answer is not None, "the guest ended without an answer"
        return answer

    async def result(self, code: str, **changes: Any) -> Any:
        """The result of code that ends well."""
        answer = await self.run(code, **changes)
        assert answer["ok"] is True, answer
        return answer["result"]

    async def clear(self) -> None:
        """Remove the guests."""
        await asyncio.gather(*(guest.remove() for guest in self.guests))


async def ask(guest: Guest, request: dict[str, Any]) -> dict[str, Any] | None:
    """What a guest answers."""
    async with asyncio.timeout(ANSWER_SECONDS):
        body = await guest.ask(json.dumps(request).encode(), max_answer_bytes=ANSWER_BYTES)
    return None if body is None else json.loads(body)


class Backends:
    """The backends of this session, each prepared once, when it is first asked for."""

    def __init__(self) -> None:
        self._prepared: dict[str, tuple[Backend, SandboxIdentity]] = {}

    async def world(self, name: str) -> GuestWorld:
        """A world on a backend. Skips where this machine cannot have it."""
        if name not in self._prepared:
            backend = _docker() if name == "docker" else _bubblewrap()
            try:
                self._prepared[name] = backend, await backend.prepare()
            except SandboxUnavailable as error:
                await backend.close()
                pytest.skip(f"no {name}: {error}")
        backend, identity = self._prepared[name]
        return GuestWorld(name=name, backend=backend, identity=identity)

    async def close(self) -> None:
        """Give them back."""
        for backend, _ in self._prepared.values():
            await backend.close()


def _docker() -> Backend:
    owner = DockerOwner(installation_id=f"test-{uuid4().hex[:12]}", executor_id="executor-1")
    return DockerBackend(Engine(engine_or_skip()), owner=owner)


def _bubblewrap() -> Backend:
    if shutil.which("bwrap") is None:
        pytest.skip("no bwrap; it is in the package bubblewrap")
    return BubblewrapBackend()


def frame(body: bytes) -> bytes:
    """A body as it goes over a pipe."""
    return struct.pack(">I", len(body)) + body
