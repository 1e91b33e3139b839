"""Work that tests do in a child process (services/executor/tools/child_process.py)."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from libs.core.errors import FailureCode, StepFailed


def run(request: Any) -> Any:
    """Do what the request names."""
    return _ACTS[request["act"]](request)


def _surroundings(request: Any) -> Any:
    print("noise")
    del request
    return {
        "pid": os.getpid(),
        "session": os.getsid(0),
        # What it was given; modules may add to their own.
        "env": sorted(
            line.partition("=")[0]
            for line in Path("/proc/self/environ").read_text().split("\0")
            if line
        ),
        "cwd": str(Path.cwd()),
        "files": sorted(int(name.name) for name in Path("/proc/self/fd").iterdir()),
        "killed_first": Path("/proc/self/oom_score_adj").read_text().strip(),
        "limits": [resource.getrlimit(what) for what in (resource.RLIMIT_AS, resource.RLIMIT_CPU)],
    }


def _sleep(request: Any) -> Any:
    del request
    time.sleep(60)


def _spin(request: Any) -> Any:
    while request:
        pass


def _fail(request: Any) -> Any:
    raise StepFailed(FailureCode.TOOL_ERROR, request["message"], reason="ODD")


def _break(request: Any) -> Any:
    raise KeyError(request["act"])


def _write_file(request: Any) -> Any:
    Path(request["path"]).write_bytes(b"x" * 10)


_ACTS: dict[str, Callable[[Any], Any]] = {
    "echo": lambda request: request,
    "surroundings": _surroundings,
    "sleep": _sleep,
    "spin": _spin,
    "fail": _fail,
    "break": _break,
    "large": lambda request: "x" * request["bytes"],
    "hungry": lambda _: len(bytearray(2**30)),
    "nan": lambda _: float("nan"),
    "deep": lambda _: json.loads("[" * 100_000),
    "segv": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
    "killed": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda _: os._exit(3),
    "write_file": _write_file,
    "path": lambda _: sys.path,
}
