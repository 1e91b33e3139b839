"""Code in Monty, an interpreter of a subset of Python that comes with pip and runs on any system.

Each run has a process of its own, started ahead. The interpreter reaches nothing outside: no file,
no clock, no network. What it cannot do, such as a class that inherits, fails with its own error.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Collection
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from libs.core.canonical import read_canonical
from libs.core.errors import FailureCode, StepFailed
from services.executor.sandbox import verdict
from services.executor.sandbox.guest.result import MAX_DEPTH, ResultTooLargeError, result_text
from services.executor.sandbox.model import (
    CodeLimits,
    CodeRequest,
    CodeResult,
    SandboxIdentity,
    SandboxUnavailable,
    Spent,
    untold,
)

if TYPE_CHECKING:
    import pydantic_monty as monty

PACKAGE = "pydantic-monty"
PYTHON = "3.14"
"""What sys.version_info says inside."""

FILE = "<step>"
MAX_FRAMES = 20
MAX_MESSAGE = 2000
# Sandboxed code ends at its limit; this long after it the process is killed, whatever it does.
GRACE_SECONDS = 2.0

_TO_JSON = (
    "import json\njson.dumps(result, allow_nan=False, ensure_ascii=False, separators=(',', ':'))"
)


class MontySandbox:
    """A Sandbox of Monty processes, at most `processes` at once."""

    def __init__(
        self, pool: monty.AsyncMonty, *, identity: SandboxIdentity, processes: int
    ) -> None:
        self._pool = pool
        self._identity = identity
        self._limits = CodeLimits()
        self._places = asyncio.Semaphore(processes)

    @classmethod
    async def open(cls, *, processes: int) -> MontySandbox:
        """Start the pool and run a first piece of code. Raises SandboxUnavailable."""
        try:
            import pydantic_monty
        except ImportError as error:
            raise SandboxUnavailable(f"the Python package {PACKAGE} is not installed") from error
        pool = pydantic_monty.AsyncMonty(
            min_processes=1, max_processes=processes, max_checkouts_per_worker=1
        )
        async with AsyncExitStack() as opened:
            try:
                await opened.enter_async_context(pool)
                identity = SandboxIdentity(backend="monty", python=PYTHON, build=_release())
                sandbox = cls(pool, identity=identity, processes=processes)
                await sandbox.run(_TRIAL)
            except (pydantic_monty.MontyError, OSError, StepFailed) as error:
                raise SandboxUnavailable(f"Monty does not run: {error}") from error
            # From here on, `close` ends it.
            opened.pop_all()
            return sandbox

    @property
    def identity(self) -> SandboxIdentity:
        """As Sandbox.identity."""
        return self._identity

    @property
    def is_healthy(self) -> bool:
        """As Sandbox.is_healthy: there is nothing to get ready that could fail again and again."""
        return True

    async def run(self, request: CodeRequest, *, spent: Spent = untold) -> CodeResult:
        """As Sandbox.run."""
        verdict.check_size(request, self._limits)
        async with self._places:
            began = time.monotonic()
            try:
                async with asyncio.timeout(request.wall_seconds + GRACE_SECONDS):
                    return await self._run(request)
            except TimeoutError as error:
                raise verdict.timed_out(request.wall_seconds) from error
            finally:
                spent(time.monotonic() - began)

    async def boots(self) -> frozenset[str]:
        """As Sandbox.boots: the processes end with their parent."""
        return frozenset()

    async def remove(self, boots: Collection[str]) -> int:
        """As Sandbox.remove."""
        del boots
        return 0

    async def close(self) -> None:
        """As Sandbox.close."""
        await self._pool.__aexit__(None, None, None)

    async def _run(self, request: CodeRequest) -> CodeResult:
        import pydantic_monty

        # The cap of the collector counts more than the text; the exact one is checked below.
        printed = pydantic_monty.CollectStreams(max_bytes=4 * self._limits.output_bytes)
        try:
            async with self._pool.checkout(**self._session(request)) as session:
                given = {"input_data": read_canonical(request.input_json)}
                await session.feed_run("result = None", inputs=given)
                await session.feed_run(request.code, print_callback=printed)
                result_json = await session.feed_run(_TO_JSON)
        except pydantic_monty.MontyCrashedError as error:
            raise _crashed(error, request) from error
        except pydantic_monty.MontyError as error:
            self._streams(printed)
            raise _failed(error, request, is_full=_is_full(error, printed)) from error
        stdout, stderr = self._streams(printed)
        return CodeResult(
            result_json=_result(result_json, self._limits), stdout=stdout, stderr=stderr
        )

    def _session(self, request: CodeRequest) -> dict[str, Any]:
        return {
            "limits": {
                "max_feed_duration_secs": request.wall_seconds,
                "max_total_sleep_secs": request.wall_seconds,
                "max_memory": self._limits.memory_bytes,
            },
            "os_policy": {
                "datetime": datetime.fromtimestamp(request.now, UTC),
                "timezone": "utc",
                "sleep": "system",
                "sleep_system_max": math.inf,
                "random_start": {"seed": request.seed},
            },
        }

    def _streams(self, printed: monty.CollectStreams) -> tuple[str, str]:
        stdout, stderr = (
            "".join(text for stream, text in printed.output if stream == name)
            for name in ("stdout", "stderr")
        )
        if max(len(stdout.encode()), len(stderr.encode())) > self._limits.output_bytes:
            raise verdict.too_large("OUTPUT_TOO_LARGE", self._limits)
        return stdout, stderr


_TRIAL = CodeRequest(code="result = 1", input_json="null", seed=0, now=0.0, wall_seconds=5.0)


def _release() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError as error:
        raise SandboxUnavailable(f"the Python package {PACKAGE} has no version") from error


def _result(said: str, limits: CodeLimits) -> str:
    """What json.dumps said inside, as a guest would write it, which judges keys and depth as well.

    Raises StepFailed(CODE_ERROR, OUTPUT_LIMIT).
    """
    try:
        if len(said.encode()) > limits.result_bytes:
            raise ResultTooLargeError
        value = json.loads(said, object_pairs_hook=_members)
        return result_text(value, max_bytes=limits.result_bytes)
    except ResultTooLargeError as error:
        raise verdict.too_large("RESULT_TOO_LARGE", limits) from error
    except RecursionError as error:
        message = f"result: nested deeper than {MAX_DEPTH} levels"
        raise verdict.code_error("ValueError", message, line=None, traceback="") from error
    except ValueError as error:
        raise verdict.code_error("ValueError", str(error), line=None, traceback="") from error


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"result: two keys are written {twice!r:.80}")
    return members


def _is_full(error: monty.MontyError, printed: monty.CollectStreams) -> bool:
    """Whether the collector of output, not the code's own memory, was what ran full."""
    collected = sum(len(text) for _, text in printed.output)
    return isinstance(error.exception(), MemoryError) and collected > CodeLimits().output_bytes


def _failed(error: monty.MontyError, request: CodeRequest, *, is_full: bool) -> StepFailed:
    inner = error.exception()
    if is_full:
        return verdict.too_large("OUTPUT_TOO_LARGE", CodeLimits())
    if isinstance(inner, TimeoutError) and "limit exceeded" in str(inner):
        return verdict.timed_out(request.wall_seconds)
    if isinstance(inner, MemoryError) and "memory limit" in str(inner):
        return StepFailed(FailureCode.MEMORY_LIMIT, _told(error, inner))
    return StepFailed(FailureCode.CODE_ERROR, _told(error, inner))


def _told(error: monty.MontyError, inner: BaseException) -> str:
    """Type, message, line and the traceback of the caller's code."""
    frames = error.traceback() if hasattr(error, "traceback") else []
    said = f"{type(inner).__name__}: {str(error).removeprefix(type(inner).__name__ + ': ')}"
    said = said[:MAX_MESSAGE]
    # The last feed is ours: what fails there is that `result` is no JSON.
    ours = [frame for frame in frames if frame.source_line == _TO_JSON.splitlines()[1]]
    if ours:
        return f"result is no JSON: {said}"
    if not frames:
        return said
    shown = frames[-MAX_FRAMES:]
    lines = [f'  File "{FILE}", line {frame.line}, in {frame.function_name}' for frame in shown]
    return f"{said} (line {frames[-1].line})\n" + "\n".join(
        ["Traceback (most recent call last):", *lines]
    )


def _crashed(error: monty.MontyCrashedError, request: CodeRequest) -> StepFailed:
    if error.timed_out:
        return verdict.timed_out(request.wall_seconds)
    return StepFailed(FailureCode.SANDBOX_LOST, "the interpreter ended without an answer")
