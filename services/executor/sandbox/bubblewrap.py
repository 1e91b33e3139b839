"""Guests that bubblewrap starts on this host, in namespaces of their own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import struct
from asyncio.subprocess import PIPE, Process
from collections.abc import Collection
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

from libs.process.child import OsUser, describe_exit, tied
from libs.process.env import ConfigError
from libs.process.logs import get_logger
from services.executor.sandbox.bubblewrap_arguments import USER_ID, bwrap_arguments
from services.executor.sandbox.bubblewrap_refusal import refusal
from services.executor.sandbox.guest_files import guest_files, guest_version
from services.executor.sandbox.model import (
    MIB,
    CodeLimits,
    Death,
    FrameRefused,
    SandboxIdentity,
    SandboxUnavailable,
)

PYTHON = "/usr/bin/python3"
NOBODY = OsUser(uid=USER_ID, gid=USER_ID)
OLDEST_PYTHON = (3, 11)
START_SECONDS = 15.0
DEATH_SECONDS = 1.0
READY_BYTES = 4096
STDERR_BYTES = 64 * 2**10
TRIAL_SECONDS = 10.0

_FRAME = struct.Struct(">I")
_INFO_BYTES = 4096
_BUILD_CHARACTERS = 8

# All that makes one Python another: its own build, the machine, the C library.
_TRIAL = "import platform, sys\nresult = [sys.version, platform.machine(), *platform.libc_ver()]"

log = get_logger(__name__)

_Stream = TypeVar("_Stream")


class BubblewrapBackend:
    """A Backend over bwrap. Guests run as nobody: as an unprivileged user also when we are root."""

    def __init__(self, *, bwrap: str = "bwrap", python: str = PYTHON) -> None:
        self._bwrap = bwrap
        self._python = python
        self._program = ""

    async def prepare(self) -> SandboxIdentity:
        """As Backend.prepare: runs a first guest to its end."""
        self._program = shutil.which(self._bwrap) or ""
        if not self._program:
            where = "it is in the package bubblewrap of Debian, Ubuntu and others"
            raise SandboxUnavailable(f"there is no {self._bwrap}; {where}")
        if shutil.which(self._python) is None:
            raise SandboxUnavailable(f"there is no {self._python} for guests to run in")
        trial = await self._start()
        try:
            build = await self._try(trial)
        finally:
            await trial.remove()
        return SandboxIdentity(backend="bubblewrap", python=trial.python, build=build)

    async def start(self, boot_id: str) -> BubblewrapGuest:
        """As Backend.start."""
        del boot_id  # a guest ends with the process that started it
        if not self._program:
            raise SandboxUnavailable("the sandbox is not prepared")
        return await self._start()

    async def boots(self) -> frozenset[str]:
        """As Backend.boots: none, nothing outlives its executor."""
        return frozenset()

    async def remove(self, boots: Collection[str]) -> int:
        """As Backend.remove: there is nothing to find."""
        del boots
        return 0

    async def close(self) -> None:
        """As Backend.close."""

    async def _start(self) -> BubblewrapGuest:
        process, info = await self._spawn()
        guest = BubblewrapGuest(process, info=info)
        try:
            async with asyncio.timeout(START_SECONDS):
                await guest.get_ready()
        except TimeoutError as error:
            await guest.remove()
            raise SandboxUnavailable(f"no guest was ready within {START_SECONDS:g} s") from error
        except BaseException:
            await guest.remove()
            raise
        return guest

    async def _spawn(self) -> tuple[Process, int]:
        """A process of bwrap, and a descriptor from which to read what it says of the guest."""
        info, info_end = os.pipe()
        os.set_blocking(info, False)
        with ExitStack() as while_starting:
            while_starting.callback(os.close, info_end)
            files: list[tuple[str, int]] = []
            for file in guest_files():
                files.append((file.name, os.open(file, os.O_RDONLY)))
                while_starting.callback(os.close, files[-1][1])
            arguments = bwrap_arguments(python=self._python, files=files, info_descriptor=info_end)
            inherited = [info_end, *(descriptor for _, descriptor in files)]
            try:
                return await self._execute(arguments, inherited), info
            except BaseException:
                os.close(info)
                raise

    async def _execute(self, arguments: list[str], inherited: list[int]) -> Process:
        """Start bwrap, with nothing of our own but these descriptors."""
        command = (self._program, *arguments)
        user = NOBODY if os.geteuid() == 0 else None
        try:
            return await asyncio.create_subprocess_exec(
                *tied(command, death_signal=signal.SIGKILL, user=user),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                limit=STDERR_BYTES,
                env={},
                cwd="/",
                pass_fds=inherited,
                start_new_session=True,
            )
        except (OSError, ConfigError) as error:
            raise SandboxUnavailable(f"{self._program} does not start: {error}") from error

    async def _try(self, guest: BubblewrapGuest) -> str:
        """Let a guest say what it is; what of that decides results."""
        limits = CodeLimits()
        request = {
            "v": 1,
            "id": "trial",
            "code": _TRIAL,
            "input": None,
            "seed": 0,
            "now": 0.0,
            "limits": {
                "wall_seconds": TRIAL_SECONDS,
                "cpu_seconds": TRIAL_SECONDS,
                "memory_bytes": limits.memory_bytes,
                "file_bytes": limits.file_bytes,
                "output_bytes": limits.output_bytes,
                "result_bytes": limits.result_bytes,
            },
        }
        try:
            async with asyncio.timeout(TRIAL_SECONDS + START_SECONDS):
                body = await guest.ask(json.dumps(request).encode(), max_answer_bytes=MIB)
        except (TimeoutError, FrameRefused) as error:
            raise SandboxUnavailable(f"a first guest gave no answer: {error}") from error
        answer = {} if body is None else json.loads(body)
        if answer.get("ok") is not True:
            raise SandboxUnavailable(f"a first guest cannot run code: {_why(answer)}")
        digest = hashlib.sha256(json.dumps(answer["result"]).encode()).hexdigest()
        return f"{guest_version()}.{digest[:_BUILD_CHARACTERS]}"


class BubblewrapGuest:
    """A Guest that is a child of a process of bwrap, over pipes."""

    def __init__(self, process: Process, *, info: int) -> None:
        self.python = ""
        self._process = process
        self._info = info
        self._guest_handle: int | None = None
        self._is_removed = False

    async def get_ready(self) -> None:
        """Wait until it says that it is ready. Raises SandboxUnavailable, with the reason."""
        try:
            body = await self._read_frame(READY_BYTES)
        except FrameRefused as error:
            raise SandboxUnavailable("a guest said something else than ready") from error
        if body is None:
            raise SandboxUnavailable(refusal(await self._complaints() or await self._end()))
        self.python = _python_version(body)
        try:
            # bwrap has said all before it lets the guest begin.
            said = json.loads(os.read(self._info, _INFO_BYTES))
            self._guest_handle = os.pidfd_open(said["child-pid"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SandboxUnavailable(f"nobody knows the process of a guest: {error}") from error

    @property
    def is_alive(self) -> bool:
        """As Guest.is_alive."""
        return self._process.returncode is None

    async def ask(self, request: bytes, *, max_answer_bytes: int) -> bytes | None:
        """As Guest.ask."""
        stdin = _given(self._process.stdin)
        with suppress(BrokenPipeError, ConnectionResetError):
            stdin.write(_FRAME.pack(len(request)) + request)
            await stdin.drain()
        return await self._read_frame(max_answer_bytes)

    async def death(self) -> Death:
        """As Guest.death. bwrap ends as its guest did, with 128 and the number of a signal."""
        try:
            async with asyncio.timeout(DEATH_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            return Death(is_out_of_memory=False, exit_code=None)
        return Death(is_out_of_memory=False, exit_code=code)

    async def remove(self) -> None:
        """As Guest.remove. Done to the end, also when the caller is cancelled."""
        if not self._is_removed:
            self._is_removed = True
            await asyncio.shield(asyncio.create_task(self._remove()))

    async def _end(self) -> str:
        """How bwrap ended that said nothing."""
        code = (await self.death()).exit_code
        return "" if code is None else f"it ended: {describe_exit(code)}"

    async def _remove(self) -> None:
        """Kill process 1 inside: bwrap sees it end when all that it had is gone."""
        _given(self._process.stdin).close()
        if self._guest_handle is None:
            # Its child too, which bwrap ties to itself only once the child runs, in bwrap's group.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._guest_handle, signal.SIGKILL)
            os.close(self._guest_handle)
        os.close(self._info)
        complaints = await self._complaints()
        await self._process.wait()
        if complaints and self.python:
            log.warning("guest complained", stderr=complaints)

    async def _complaints(self) -> str:
        """What was written to stderr, until its end; at most 64 KiB of it."""
        said = await _given(self._process.stderr).read()
        return said[:STDERR_BYTES].decode("utf-8", "replace")

    async def _read_frame(self, max_bytes: int) -> bytes | None:
        stdout = _given(self._process.stdout)
        try:
            (size,) = _FRAME.unpack(await stdout.readexactly(_FRAME.size))
            if size > max_bytes:
                raise FrameRefused(f"a frame of {size} bytes; {max_bytes} are allowed")
            return await stdout.readexactly(size)
        except asyncio.IncompleteReadError:
            return None


def _given(stream: _Stream | None) -> _Stream:
    """A stream of a process that was started with pipes."""
    assert stream is not None  # noqa: S101 - for the types
    return stream


def _python_version(body: bytes) -> str:
    try:
        version = str(json.loads(body)["python"])
        numbers = tuple(int(number) for number in version.split(".")[:2])
    except (ValueError, KeyError, TypeError) as error:
        raise SandboxUnavailable("a guest said something else than ready") from error
    if numbers < OLDEST_PYTHON:
        raise SandboxUnavailable(f"guests run in Python {version}; 3.11 or newer is needed")
    return version


def _why(answer: dict[str, Any]) -> str:
    error = answer.get("error") or {}
    return f"{answer.get('code', 'it ended')} {error.get('message', '')}".strip()
