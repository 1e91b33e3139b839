"""What goes into a guest and what its answer means; pure.

A guest runs code that may have taken it over: of its answer nothing is believed but that it is JSON
of the agreed shape, within bounds, for this request. Times for bills and bounds are the host's own.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from libs.core.errors import FailureCode, StepFailed
from services.executor.sandbox.model import MIB, CodeLimits, CodeRequest, CodeResult, Death

PROTOCOL = 1
SPARE_CPU_SECONDS = 1
"""The wall ends code before its CPU time does, unless it uses several processors."""

MAX_TYPE, MAX_MESSAGE, MAX_TRACEBACK = 100, 1000, 2500
MAX_TOLD = 10**6
# A guest may say more; what is told of it is short.
_ERROR_BYTES = 64 * 2**10

_WORDS: dict[str, tuple[FailureCode, str | None]] = {
    "CODE_ERROR": (FailureCode.CODE_ERROR, None),
    "WALL": (FailureCode.TIMEOUT, "WALL"),
    "CPU": (FailureCode.TIMEOUT, "CPU"),
    "MEMORY_LIMIT": (FailureCode.MEMORY_LIMIT, None),
    "OUTPUT_TOO_LARGE": (FailureCode.OUTPUT_LIMIT, "OUTPUT_TOO_LARGE"),
    "RESULT_TOO_LARGE": (FailureCode.OUTPUT_LIMIT, "RESULT_TOO_LARGE"),
    "FILE_LIMIT": (FailureCode.FILE_LIMIT, None),
    "CRASHED": (FailureCode.CRASHED, None),
    "KILLED": (FailureCode.SANDBOX_LOST, "KILLED"),
    "NO_RESULT": (FailureCode.CODE_ERROR, "NO_RESULT"),
    "SANDBOX_ERROR": (FailureCode.SANDBOX_ERROR, None),
}


def new_request_id() -> str:
    """An id that code cannot foretell, so that it cannot answer for a guest."""
    return secrets.token_hex(16)


def check_size(request: CodeRequest, limits: CodeLimits) -> None:
    """StepFailed(INPUT_SCHEMA) when code or input are larger than they may be."""
    for what, text, most in (
        ("code", request.code, limits.code_bytes),
        ("input_data", request.input_json, limits.input_bytes),
    ):
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > most:
            raise StepFailed(
                FailureCode.INPUT_SCHEMA,
                f"{what} has {size} bytes; {most} are allowed",
                reason="TOO_LARGE",
            )


def request_frame(request: CodeRequest, *, request_id: str, limits: CodeLimits) -> bytes:
    """The body of the one frame that a guest is sent."""
    bounds = {
        "wall_seconds": request.wall_seconds,
        "cpu_seconds": int(request.wall_seconds) + 1 + SPARE_CPU_SECONDS,
        "memory_bytes": limits.memory_bytes,
        "file_bytes": limits.file_bytes,
        "output_bytes": limits.output_bytes,
        "result_bytes": limits.result_bytes,
    }
    head = {
        "v": PROTOCOL,
        "id": request_id,
        "code": request.code,
        "seed": request.seed,
        "now": request.now,
        "limits": bounds,
    }
    # The input is JSON text already, and goes in as it is: first, since what comes last holds.
    return f'{{"input": {request.input_json}, {json.dumps(head)[1:]}'.encode()


def max_answer_bytes(limits: CodeLimits) -> int:
    """How long an answer may be: escapes make six bytes of one."""
    return 6 * (2 * limits.output_bytes + limits.result_bytes) + _ERROR_BYTES


def read_answer(
    body: bytes, *, request_id: str, limits: CodeLimits, wall_seconds: float
) -> CodeResult | StepFailed:
    """The result or the failure that an answer holds. Raises StepFailed for no valid answer."""
    said = _read(body)
    if said.get("v") != PROTOCOL or said.get("id") != request_id:
        raise broken("its answer belongs to another request")
    stdout, stderr = (_text(said, name, limits.output_bytes) for name in ("stdout", "stderr"))
    if said.get("ok") is not True:
        return _failure(said, limits=limits, wall_seconds=wall_seconds)
    if "result" not in said:
        raise broken("its answer has no result")
    return CodeResult(result_json=_result(said["result"], limits), stdout=stdout, stderr=stderr)


def lost(death: Death) -> StepFailed:
    """The failure of code whose guest ended without an answer."""
    if death.is_out_of_memory:
        return StepFailed(FailureCode.MEMORY_LIMIT, "the code used more memory than it may")
    how = "" if death.exit_code is None else f" (exit code {death.exit_code})"
    return StepFailed(
        FailureCode.SANDBOX_LOST,
        f"the sandbox ended while it ran the code{how}; the code is not run again",
    )


def broken(what: str) -> StepFailed:
    """The failure of code whose guest broke the protocol, by itself or taken over."""
    return StepFailed(FailureCode.SANDBOX_ERROR, f"the sandbox cannot be believed: {what}")


def timed_out(wall_seconds: float, *, reason: str = "WALL") -> StepFailed:
    """The failure of code that took too long; `reason` is WALL or CPU: which comes first is a
    race.
    """
    return StepFailed(
        FailureCode.TIMEOUT,
        f"STEP_TIMEOUT: the code took longer than {wall_seconds:g} s",
        reason=reason,
    )


def too_large(reason: str, limits: CodeLimits) -> StepFailed:
    """The failure of code whose output is beyond its bound; `reason` is RESULT_TOO_LARGE or
    OUTPUT_TOO_LARGE.
    """
    if reason == "RESULT_TOO_LARGE":
        said = f"result has more than {limits.result_bytes} bytes"
    else:
        said = f"the code printed more than {limits.output_bytes} bytes to stdout or stderr"
    return StepFailed(FailureCode.OUTPUT_LIMIT, said, reason=reason)


def unavailable(why: str) -> StepFailed:
    """The failure of code that was not run at all."""
    return StepFailed(
        FailureCode.SANDBOX_UNAVAILABLE,
        f"the sandbox cannot run code now: {why}; nothing of it was run",
    )


def code_error(kind: str, message: str, *, line: int | None, traceback: str) -> StepFailed:
    """The failure of code that raised: its type, message, line and the caller's own traceback."""
    where = "" if line is None else f" (line {line})"
    said = kind[:MAX_TYPE] + (f": {message[:MAX_MESSAGE]}" if message else "") + where
    trace = traceback[-MAX_TRACEBACK:].rstrip()
    return StepFailed(FailureCode.CODE_ERROR, f"{said}\n{trace}" if trace else said)


def _read(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise broken("its answer is no JSON") from error
    if not isinstance(said, dict):
        raise broken("its answer is no object")
    return said


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _text(said: dict[str, Any], name: str, most: int) -> str:
    text = said.get(name)
    # No honest guest sends half a surrogate pair, which nobody could pass on.
    data = text.encode("utf-8", "replace") if isinstance(text, str) else None
    # What is no UTF-8 comes as U+FFFD, which has three bytes.
    if data is None or len(data) > 3 * most:
        raise broken(f"its answer has no {name} within bounds")
    return data.decode()


def _result(value: Any, limits: CodeLimits) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (ValueError, RecursionError) as error:
        raise code_error("ValueError", "result is no JSON", line=None, traceback="") from error
    if size > limits.result_bytes:
        raise too_large("RESULT_TOO_LARGE", limits)
    return text


def _failure(said: dict[str, Any], *, limits: CodeLimits, wall_seconds: float) -> StepFailed:
    word = said.get("code")
    if not isinstance(word, str) or word not in _WORDS:
        raise broken("its answer names no failure that Pawl knows")
    code, reason = _WORDS[word]
    if code is FailureCode.TIMEOUT:
        return timed_out(wall_seconds, reason=str(reason))
    if code is FailureCode.OUTPUT_LIMIT:
        return too_large(str(reason), limits)
    error = said.get("error")
    if isinstance(error, dict):
        told = _told(error)
        return StepFailed(code, told.message, reason=reason)
    return StepFailed(
        code, _SENTENCES[code, reason].format(**_numbers(said, limits)), reason=reason
    )


_SENTENCES: dict[tuple[FailureCode, str | None], str] = {
    (FailureCode.CODE_ERROR, None): "the code failed and did not say how",
    (FailureCode.CODE_ERROR, "NO_RESULT"): (
        "the code ended its own process before there was a result (exit code {exit})"
    ),
    (FailureCode.MEMORY_LIMIT, None): "the code used more than {memory} MiB of memory",
    (FailureCode.FILE_LIMIT, None): (
        "the code wrote more than it may: a file of more than {file} MiB, or too many files in /tmp"
    ),
    (FailureCode.CRASHED, None): "the code was ended by signal {signal}",
    (FailureCode.SANDBOX_LOST, "KILLED"): (
        "the code was killed by signal 9, which it sent to itself or the machine sent; the code is "
        "not run again"
    ),
    (FailureCode.SANDBOX_ERROR, None): "the sandbox could not be set up; the code was not run",
}


def _numbers(said: dict[str, Any], limits: CodeLimits) -> dict[str, object]:
    numbers = {name: said.get(name) for name in ("exit", "signal")}
    known = {name: n if _is_small(n) else "unknown" for name, n in numbers.items()}
    return {**known, "memory": limits.memory_bytes // MIB, "file": limits.file_bytes // MIB}


def _is_small(number: Any) -> bool:
    """Whether it is a number of signals, exit codes and lines; a guest may say anything."""
    return type(number) is int and abs(number) <= MAX_TOLD


def _told(error: dict[str, Any]) -> StepFailed:
    kind, message, traceback = (
        text if isinstance(text, str) else ""
        for text in (error.get("type"), error.get("message"), error.get("traceback"))
    )
    line = error.get("line")
    # What cannot be stored must not come from code: surrogates, NUL.
    kind, message, traceback = map(_storable, (kind, message, traceback))
    return code_error(
        kind or "Exception",
        message,
        line=line if _is_small(line) else None,
        traceback=traceback,
    )


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
