"""How a child ended, in one word: from the kernel's facts first, then from its own report."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .failure import MESSAGE_CHARACTERS, TRACEBACK_CHARACTERS, TYPE_CHARACTERS
from .request import Limits
from .step import NOT_READY, READY

REPORTED = ("CODE_ERROR", "MEMORY_LIMIT", "FILE_LIMIT", "RESULT_TOO_LARGE")
"""The words that a child may say of itself."""

_OUT_OF_MEMORY_FILES = (
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
)


@dataclass(frozen=True)
class Ending:
    """`word` is what the keeper ended it for, "" for nothing; `status` is the kernel's."""

    word: str
    status: int
    cpu_seconds: float
    report: bytes


def answer_of(ending: Ending, limits: Limits) -> dict[str, Any]:
    """The part of an answer that says how it went."""
    if ending.word:
        return {"ok": False, "code": ending.word}
    if ending.report.startswith(NOT_READY):
        message = ending.report[1:].decode("utf-8", "replace")
        error = {"type": "SandboxError", "message": message, "line": None, "traceback": ""}
        return {"ok": False, "code": "SANDBOX_ERROR", "error": error}
    if os.WIFSIGNALED(ending.status):
        number = os.WTERMSIG(ending.status)
        word = _word_of_signal(number, ending.cpu_seconds >= limits.cpu_seconds)
        return {"ok": False, "code": word, "signal": number}
    reported = _reported(ending.report)
    if reported is None:
        exit_code = os.waitstatus_to_exitcode(ending.status)
        return {"ok": False, "code": "NO_RESULT", "exit": exit_code}
    return reported


def _word_of_signal(number: int, is_cpu_used_up: bool) -> str:
    if number == signal.SIGXCPU:
        return "CPU"
    if number == signal.SIGXFSZ:
        return "FILE_LIMIT"
    if number != signal.SIGKILL:
        return "CRASHED"
    if is_cpu_used_up:
        return "CPU"
    return "MEMORY_LIMIT" if _was_out_of_memory() else "KILLED"


def _was_out_of_memory() -> bool:
    """Whether the kernel killed something of this sandbox for its memory."""
    for path in _OUT_OF_MEMORY_FILES:
        try:
            lines = Path(path).read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)
    return False


def _reported(report: bytes) -> dict[str, Any] | None:
    """What the child says; None for anything but a whole report."""
    try:
        said = json.loads(report.removeprefix(READY), parse_constant=_refuse)
        if said["ok"] is True:
            # Whatever can be read, such as 1e999, must be possible to write as well.
            json.dumps(said["result"], ensure_ascii=False, allow_nan=False).encode()
            return {"ok": True, "result": said["result"]}
        if said["ok"] is not False or said["code"] not in REPORTED:
            return None
        return {"ok": False, "code": said["code"], **_error(said.get("error"))}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _error(said: Any) -> dict[str, Any]:
    if said is None:
        return {}
    line = said["line"]
    error = {
        "type": str(said["type"])[:TYPE_CHARACTERS],
        "message": str(said["message"])[:MESSAGE_CHARACTERS],
        "line": line if type(line) is int and 0 < line < 2**31 else None,
        "traceback": str(said["traceback"])[:TRACEBACK_CHARACTERS],
    }
    return {"error": error}


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")
