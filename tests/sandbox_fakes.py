"""A sandbox's backend and a whole sandbox, without any process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from typing import Any

from services.executor.sandbox.model import (
    CodeRequest,
    CodeResult,
    Death,
    SandboxIdentity,
    SandboxUnavailable,
    Spent,
    untold,
)

IDENTITY = SandboxIdentity(backend="docker", python="3.11.2", build="0a1b2c3d4e5f.0123456789ab")


class FakeGuest:
    """Answers at once, or what the test says: bytes, None for an end, an exception, or never."""

    def __init__(self, backend: FakeBackend, boot_id: str) -> None:
        self._backend = backend
        self.boot_id = boot_id
        self.is_alive = True
        self.asked: list[Any] = []
        self.is_removed = False

    async def ask(self, request: bytes, *, max_answer_bytes: int) -> bytes | None:
        del max_answer_bytes
        said = json.loads(request)
        self.asked.append(said)
        await self._backend.answering.wait()
        if isinstance(self._backend.answer, Exception):
            raise self._backend.answer
        if self._backend.answer is not ...:
            said_instead: bytes | None = self._backend.answer
            return said_instead
        good = {"v": 1, "id": said["id"], "ok": True, "result": said["code"]}
        return json.dumps({**good, "stdout": "", "stderr": ""}).encode()

    async def death(self) -> Death:
        return self._backend.death

    async def remove(self) -> None:
        await asyncio.sleep(0)
        await self._backend.removing.wait()
        self.is_removed = True


class FakeBackend:
    """Starts guests, unless `broken` says why not or it is one of the first `failing` tries.
    `starting` and `removing` hold them up while they are clear.
    """

    def __init__(self) -> None:
        self.guests: list[FakeGuest] = []
        self.broken = ""
        self.answer: Any = ...
        self.death = Death(is_out_of_memory=False, exit_code=None)
        self.failing = 0
        self.answering, self.starting = asyncio.Event(), asyncio.Event()
        self.removing = asyncio.Event()
        for each in (self.answering, self.starting, self.removing):
            each.set()
        self.most_at_once = self.at_once = self.tries = 0
        self.is_closed = False
        self.left: set[str] = set()

    async def prepare(self) -> SandboxIdentity:
        if self.broken:
            raise SandboxUnavailable(self.broken)
        return IDENTITY

    async def start(self, boot_id: str) -> FakeGuest:
        self.tries += 1
        number = self.tries
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if number <= self.failing:
                raise SandboxUnavailable(f"start {number} fails")
            await self.starting.wait()
            await asyncio.sleep(0)
            if self.broken:
                raise SandboxUnavailable(self.broken)
        finally:
            self.at_once -= 1
        self.guests.append(FakeGuest(self, boot_id))
        return self.guests[-1]

    async def boots(self) -> frozenset[str]:
        return frozenset(self.left)

    async def remove(self, boots: Collection[str]) -> int:
        found = self.left & set(boots)
        self.left -= found
        return len(found)

    async def close(self) -> None:
        self.is_closed = True


class FakeSandbox:
    """A whole sandbox: `run` gives what the test says, and takes `seconds` by its own account."""

    def __init__(self, answer: Callable[[CodeRequest], CodeResult] | None = None) -> None:
        self.identity = IDENTITY
        self.is_healthy = True
        self.requests: list[CodeRequest] = []
        self.left: set[str] = set()
        self.removed: list[frozenset[str]] = []
        self.is_closed = False
        self.seconds = 0.0
        self._answer = answer

    async def run(self, request: CodeRequest, *, spent: Spent = untold) -> CodeResult:
        self.requests.append(request)
        if self.seconds:
            spent(self.seconds)
        if self._answer is None:
            return CodeResult(result_json="1", stdout="", stderr="")
        return self._answer(request)

    async def boots(self) -> frozenset[str]:
        return frozenset(self.left)

    async def remove(self, boots: Collection[str]) -> int:
        self.removed.append(frozenset(boots))
        self.left -= set(boots)
        return len(boots)

    async def close(self) -> None:
        self.is_closed = True
