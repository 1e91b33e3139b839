"""What a code step asks of a sandbox, what comes back, and what each kind of sandbox must do.

A Sandbox answers one CodeRequest with a CodeResult or a StepFailed. The one that holds a pool makes
Guests through a Backend: each is started ahead, asked once, and never used again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

MIB = 2**20

Spent = Callable[[float], None]
"""Told, when code has ended, how many seconds it had a guest: what waiting for one took is not in
it. Of code that never had one nothing is told.
"""


def untold(seconds: float) -> None:
    """A Spent for whom it is all the same."""
    del seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRequest:
    """Code to run once. `input_json` is canonical JSON text, `seed` has 64 bits, `now` are seconds
    since 1970: the time that the code sees. `wall_seconds` is all that the code may take.
    """

    code: str
    input_json: str
    seed: int
    now: float
    wall_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeResult:
    """What code that ended well left behind; `result_json` is JSON text, checked and within
    bounds.
    """

    result_json: str
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeLimits:
    """Bounds of every code step, in bytes; the same for all callers. `output_bytes` holds for
    stdout and stderr each.
    """

    memory_bytes: int = 200 * MIB
    file_bytes: int = 8 * MIB
    output_bytes: int = 128 * 2**10
    result_bytes: int = 256 * 2**10
    code_bytes: int = 256 * 2**10
    input_bytes: int = 4 * MIB


class SandboxUnavailable(Exception):  # noqa: N818 - the name says what is wrong
    """A sandbox that cannot run code now; nothing of the code has run. The message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxIdentity:
    """Which sandbox answers: part of the tool's version, so of the hashes.

    `backend` is docker, bubblewrap or monty; `python` the version inside; `build` what else
    decides a result, such as the image's digest and the guest's version, as [0-9a-z.]{1,32}.
    """

    backend: str
    python: str
    build: str


class Sandbox(Protocol):
    """Runs code, one request at a time or many at once."""

    @property
    def identity(self) -> SandboxIdentity:
        """Never changes while the sandbox lives."""
        ...

    @property
    def is_healthy(self) -> bool:
        """False after several failures in a row to get ready; true again after a success."""
        ...

    async def run(self, request: CodeRequest, *, spent: Spent = untold) -> CodeResult:
        """Run it once. Raises StepFailed with the codes of a code step.

        SANDBOX_UNAVAILABLE means that nothing of the code has run. Cancellation kills the code;
        when this returns or raises, nothing of it runs any more. `spent` is told before, however
        it ended.
        """
        ...

    async def boots(self) -> frozenset[str]:
        """The boot ids (see Boot) of executors of this installation of which something is left."""
        ...

    async def remove(self, boots: Collection[str]) -> int:
        """Remove all that is left of these boots; how many things that were."""
        ...

    async def close(self) -> None:
        """Remove all of our own."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """How a guest ended that gave no answer. `exit_code` is None when nobody knows it."""

    is_out_of_memory: bool
    exit_code: int | None


class Guest(Protocol):
    """One sandboxed process that waits for its one request. It is ready: it has said so."""

    @property
    def is_alive(self) -> bool:
        """False once it is known to have ended; true may be out of date."""
        ...

    async def ask(self, request: bytes, *, max_answer_bytes: int) -> bytes | None:
        """Send the body of the one frame; the body of the answer's, None when it ended without.

        Raises FrameRefused for what is no frame or a longer one. Bounds no time: whoever calls
        does, and then calls `remove`.
        """
        ...

    async def death(self) -> Death:
        """How it ended; only after `ask` gave None. Waits up to a second for the end."""
        ...

    async def remove(self) -> None:
        """Kill it and remove every trace; never raises for what is gone already."""
        ...


class FrameRefused(Exception):  # noqa: N818 - what a guest sent, not a fault of ours
    """A guest sent something that is no frame, or one that is too long."""


class Backend(Protocol):
    """One way to make guests."""

    async def prepare(self) -> SandboxIdentity:
        """Get all ready that guests need (an image, for example). Raises SandboxUnavailable."""
        ...

    async def start(self, boot_id: str) -> Guest:
        """Make a guest and wait until it is ready. Raises SandboxUnavailable."""
        ...

    async def boots(self) -> frozenset[str]:
        """As Sandbox.boots."""
        ...

    async def remove(self, boots: Collection[str]) -> int:
        """As Sandbox.remove."""
        ...

    async def close(self) -> None:
        """Give back what the backend itself holds."""
        ...
