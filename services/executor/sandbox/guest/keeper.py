"""Process 1 of a sandbox: takes one request, has a child run it, and says how the child ended."""

import gc
import os
import platform
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

from . import libc
from .ending import Ending, answer_of
from .frames import BadRequestError, read_frame, write_frame
from .outlet import Outlet
from .request import VERSION, Request, request_of
from .step import run_child

WARM = (
    "base64",
    "bisect",
    "collections",
    "contextlib",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "io",
    "itertools",
    "json",
    "math",
    "operator",
    "random",
    "re",
    "statistics",
    "string",
    "tempfile",
    "textwrap",
    "typing",
    "uuid",
    "zlib",
)
"""What code is likely to import: read while the guest waits for its request."""

LOOK_SECONDS = 0.1
TMP_FILES = 1024
"""More files than that in /tmp end the code, where the file system itself has no such bound."""

_PIECE_BYTES = 4096
_REPORT_TO = 63
_REPORT_ROOM_BYTES = 64 * 2**10
"""In a report, for an error and for what stands around a result."""


def main() -> int:
    """Serve one request. The exit code is 0 unless it was none, or the guest itself failed."""
    if os.getpid() != 1:
        sys.stderr.write("the guest runs as process 1 of a sandbox only\n")
        return 2
    # The child, of the same user, may not look into this process nor write to what it has open.
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control, null = os.dup(1), os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1)
    for name in WARM:
        import_module(name)
    wake = _wake_on_child()
    gc.collect()
    gc.freeze()
    write_frame(control, _ready())
    try:
        frame = read_frame(0)
        request = None if frame is None else request_of(frame)
    except BadRequestError as error:
        sys.stderr.write(f"bad request: {error}\n")
        return 2
    if request is None:
        return 0
    answer = _Watch(request, wake=wake, null=null).run()
    if answer is not None:
        write_frame(control, answer)
    return 0


def _ready() -> dict[str, Any]:
    return {
        "ready": VERSION,
        "python": platform.python_version(),
        "hash_seed": os.environ.get("PYTHONHASHSEED", ""),
    }


def _wake_on_child() -> int:
    """A descriptor that becomes readable when a child has ended."""
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    return wake


class _Watch:
    """One run of a child, from its fork until nothing of it is left."""

    def __init__(self, request: Request, *, wake: int, null: int) -> None:
        self._request = request
        self._wake = wake
        self._null = null
        self._began = time.monotonic()
        self._outlets: list[Outlet] = []
        self._child = 0
        self._word = ""
        self._ended: tuple[int, Any] | None = None

    def run(self) -> dict[str, Any] | None:
        """The answer; None when nobody is there any more who wants one."""
        self._fork()
        is_wanted = self._wait()
        self._end()
        for outlet in self._outlets:
            outlet.drain()
        return self._answer() if is_wanted else None

    def _fork(self) -> None:
        limits = self._request.limits
        bounds = (
            limits.output_bytes,
            limits.output_bytes,
            limits.result_bytes + _REPORT_ROOM_BYTES,
        )
        pipes = [os.pipe() for _ in bounds]
        self._child = os.fork()
        if self._child == 0:
            os.dup2(self._null, 0)
            for (_, target), number in zip(pipes, (1, 2, _REPORT_TO), strict=True):
                os.dup2(target, number)
            os.closerange(3, _REPORT_TO)
            run_child(self._request, _REPORT_TO)
        for (source, target), bound in zip(pipes, bounds, strict=True):
            os.close(target)
            self._outlets.append(Outlet(source, max_bytes=bound))

    def _wait(self) -> bool:
        """Until the child has ended or must end. False when the host is gone."""
        deadline = self._began + self._request.limits.wall_seconds
        while not self._word and self._ended is None:
            left = deadline - time.monotonic()
            if left <= 0:
                self._word = "WALL"
                break
            open_ones = [each.descriptor for each in self._outlets if each.is_open]
            ready, _, _ = select.select(
                [0, self._wake, *open_ones], [], [], min(left, LOOK_SECONDS)
            )
            if 0 in ready and not os.read(0, _PIECE_BYTES):
                return False
            if self._wake in ready:
                os.read(self._wake, _PIECE_BYTES)
            self._look()
        return True

    def _end(self) -> None:
        """Kill all that is left, and see it gone: nobody writes to the pipes after this."""
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                pid, status, usage = os.wait4(-1, 0)
                if pid == self._child:
                    self._ended = status, usage

    def _look(self) -> None:
        for outlet in self._outlets:
            outlet.drain()
        self._word = self._too_much()
        pid, status, usage = os.wait4(self._child, os.WNOHANG)
        if pid:
            self._ended = status, usage

    def _too_much(self) -> str:
        stdout, stderr, report = self._outlets
        if stdout.is_over or stderr.is_over:
            return "OUTPUT_TOO_LARGE"
        if report.is_over:
            return "RESULT_TOO_LARGE"
        facts = os.statvfs("/tmp")
        return "FILE_LIMIT" if facts.f_files - facts.f_ffree > TMP_FILES else ""

    def _answer(self) -> dict[str, Any]:
        assert self._ended is not None
        stdout, stderr, report = self._outlets
        status, usage = self._ended
        ending = Ending(
            word=self._word or self._too_much(),
            status=status,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            report=bytes(report.content),
        )
        return {
            "v": VERSION,
            "id": self._request.id,
            **answer_of(ending, self._request.limits),
            "stdout": stdout.text,
            "stderr": stderr.text,
            "cpu_ms": int(ending.cpu_seconds * 1000),
            "max_rss_kib": usage.ru_maxrss,
            "wall_ms": int((time.monotonic() - self._began) * 1000),
        }
