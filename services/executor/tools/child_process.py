"""Runs one piece of work in a process of its own, for tools that parse hostile input.

The process gets one request on standard input and gives one answer on standard output, both JSON
and bounded. It has its own session, a clean environment, no open files and limits that it sets
itself before it reads anything (`child.py`). It dies with the executor, however that ends, and at
the step's deadline also when the executor stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed
from libs.process.logs import get_logger
from libs.process.turns import FairTurns
from services.executor.tools.tool import ToolContext

MAX_REQUEST_BYTES = 32 * 2**20
MOST_AT_ONCE = 3
"""Children that run at once where no setting says it. Further ones wait; a step's time goes on."""

# The executor kills in time; the child's own alarm is for when it cannot.
_ALARM_GRACE_SECONDS = 1.0
_ENTRY = "services.executor.tools.child"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildLimits:
    """What one child may use. `seconds` is time on the wall, from its start to its answer."""

    seconds: float
    cpu_seconds: int
    memory_bytes: int
    answer_bytes: int


class ChildProcesses:
    """Starts children, not more than `most` at once. Belongs to one event loop.

    One tenant has at most one less (of one: that one), so that whoever comes next finds a place. A
    place that becomes free goes to the tenant that has fewest, then to who has waited longest.
    """

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self._turns = FairTurns(most, most_each=max(1, most - 1))

    async def run(
        self, module: str, request: Json, *, limits: ChildLimits, context: ToolContext
    ) -> Json:
        """What `run(request)` of that module returns. Cancelled: the child is killed and gone.

        Raises StepFailed: what the work fails with; TIMEOUT with the reason WALL or CPU,
        MEMORY_LIMIT, OUTPUT_LIMIT; CRASHED for a child that ended without an answer.
        """
        data = await asyncio.to_thread(_request_bytes, request)
        async with self._turns.turn(context.tenant_id):
            child = _Child(_command(module, limits, context))
            answer = await child.converse(data, limits)
        if answer is None:
            raise _ended(child.exit_code, limits)
        return await asyncio.to_thread(_read_answer, answer)


class _Child:
    """One process.

    It is not asyncio's: uvloop forks, which runs what gRPC has registered for forks and leaves the
    child with open files; subprocess does neither. It starts in the thread of the loop: the kernel
    kills a child when the thread that started it ends.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the command is written here
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            cwd="/",
            start_new_session=True,
        )
        # Unlike a pid, it never means another process.
        self._pidfd = os.pidfd_open(self._process.pid)

    @property
    def exit_code(self) -> int:
        """How it ended; negative for a signal."""
        return self._process.returncode

    async def converse(self, data: bytes, limits: ChildLimits) -> bytes | None:
        """Hand over the request and return the answer once it has ended; None: it gave none."""
        talk = asyncio.create_task(asyncio.to_thread(self._talk, data, limits.answer_bytes))
        talk.add_done_callback(_take_result)
        try:
            done, _ = await asyncio.wait({talk}, timeout=limits.seconds)
        finally:
            await self._end(talk)
        if not done:
            raise _too_slow(f"the work took longer than {limits.seconds:g} s")
        return talk.result()

    async def _end(self, talk: asyncio.Task[bytes | None]) -> None:
        try:
            if not talk.done():
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                await asyncio.wait({talk})
        finally:
            os.close(self._pidfd)

    def _talk(self, data: bytes, most_bytes: int) -> bytes | None:
        with self._process as process:
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            # It ends before it has read all when it cannot go on; how it ended says why.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(data)
                process.stdin.close()
            answer = process.stdout.read(most_bytes + 1)
            if len(answer) > most_bytes:
                process.kill()
        if len(answer) > most_bytes:
            raise StepFailed(
                FailureCode.OUTPUT_LIMIT, f"the answer is larger than {most_bytes} bytes"
            )
        return answer if process.returncode == 0 else None


def _command(module: str, limits: ChildLimits, context: ToolContext) -> tuple[str, ...]:
    seconds = min(limits.seconds, limits.seconds if context.seconds is None else context.seconds)
    options = json.dumps(
        {
            "module": module,
            "parent": os.getpid(),
            "alarm_seconds": seconds + _ALARM_GRACE_SECONDS,
            **asdict(limits),
        }
    )
    # -S: what .pth files of installed packages do has no place there; the path is handed over.
    return (sys.executable, "-P", "-s", "-S", "-m", _ENTRY, options)


def _environment() -> dict[str, str]:
    """All that the child's environment holds. The fixed hash seed gives sets one order."""
    return {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MALLOC_ARENA_MAX": "1",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }


def _request_bytes(request: Json) -> bytes:
    data = json.dumps(request, allow_nan=False, separators=(",", ":")).encode()
    if len(data) > MAX_REQUEST_BYTES:
        raise StepFailed(
            FailureCode.TOOL_ERROR,
            f"the input has {len(data)} bytes; {MAX_REQUEST_BYTES} are allowed",
            reason="INPUT_LIMIT",
        )
    return data


def _read_answer(answer: bytes) -> Json:
    found = json.loads(answer)
    failure = found.get("failure")
    if failure is not None:
        raise StepFailed(FailureCode(failure["code"]), failure["message"], reason=failure["reason"])
    if "fault" in found:
        log.error("work in a child failed unexpectedly", fault=found["fault"])
        raise StepFailed(FailureCode.CRASHED, f"the work failed unexpectedly ({found['fault']})")
    output: Json = found["output"]
    return output


def _ended(exit_code: int, limits: ChildLimits) -> StepFailed:
    """The failure of a child that gave no answer."""
    if exit_code == -signal.SIGXCPU:
        return StepFailed(
            FailureCode.TIMEOUT,
            f"the work took more than {limits.cpu_seconds} s of processor time",
            reason="CPU",
        )
    if exit_code == -signal.SIGALRM:
        return _too_slow("the work outlived its time")
    if exit_code == -signal.SIGKILL:
        # Nobody here did it. The kernel takes this process first when memory runs out; that it was
        # the kernel cannot be known.
        return StepFailed(
            FailureCode.MEMORY_LIMIT,
            "the process of the work was killed, most likely because memory ran out",
        )
    log.error("a child ended without an answer", exit_code=exit_code)
    return StepFailed(FailureCode.CRASHED, f"the process of the work ended with {exit_code}")


def _take_result(talk: asyncio.Task[bytes | None]) -> None:
    """A talk that ends after its time, or after a cancel, has nobody else to take its failure."""
    if not talk.cancelled():
        talk.exception()


def _too_slow(message: str) -> StepFailed:
    return StepFailed(FailureCode.TIMEOUT, message, reason="WALL")
