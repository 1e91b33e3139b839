"""The entry of a child process (see child_process.py): `python -m … OPTIONS`.

It binds its life to its parent's, limits itself, and only then loads the code of the work and reads
the request. What a library prints goes nowhere; the answer has a way of its own.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def main(options: dict[str, Any]) -> None:
    """Do the work and write the answer to standard output."""
    go_first()
    die_with(options["parent"])
    answer_fd = os.dup(1)
    os.dup2(2, 1)
    limit_resources(options)
    answer = _answer(options["module"])
    with os.fdopen(answer_fd, "wb") as out:
        out.write(answer)


def go_first() -> None:
    """Be what the kernel kills when memory runs out, in place of the executor with all its tasks.

    Before `die_with`: what cannot be dumped no longer owns its files in /proc. Where /proc cannot
    be written the process works all the same.
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; end at once if it has died before."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in (
        (_PR_SET_PDEATHSIG, signal.SIGKILL),
        (_PR_SET_NO_NEW_PRIVS, 1),
        (_PR_SET_DUMPABLE, 0),
    ):
        if libc.prctl(option, int(value), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
    if os.getppid() != parent:
        sys.exit(1)


def limit_resources(limits: dict[str, Any]) -> None:
    """Bound memory, processor time and time; write no file, dump no core."""
    signal.setitimer(signal.ITIMER_REAL, limits["alarm_seconds"])
    for what, most in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    # The soft limit sends SIGXCPU, which says what happened; the hard one is the end in any case.
    seconds = limits["cpu_seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def _answer(module: str) -> bytes:
    try:
        run = importlib.import_module(module).run
        return _written({"output": run(json.load(sys.stdin.buffer))})
    except StepFailed as failed:
        return _failure(failed.code, failed.message, failed.reason)
    except MemoryError:
        return _failure(FailureCode.MEMORY_LIMIT, "the work needs more memory than it may use")
    except Exception as error:  # noqa: BLE001 - whatever a parser raises is said, and logged there
        # Its text may hold what the caller sent.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        return _written({"fault": f"{type(error).__name__} in {place}"})


def _failure(code: FailureCode, message: str, reason: str | None = None) -> bytes:
    return _written({"failure": {"code": code.value, "message": message, "reason": reason}})


def _written(answer: Json) -> bytes:
    return json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
