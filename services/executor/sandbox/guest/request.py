"""The one request of a guest, taken apart."""

from dataclasses import dataclass
from typing import Any

from .frames import BadRequestError

VERSION = 1


@dataclass(frozen=True)
class Limits:
    """What the code may take. `output_bytes` holds for stdout and stderr each."""

    wall_seconds: float
    cpu_seconds: float
    memory_bytes: int
    file_bytes: int
    output_bytes: int
    result_bytes: int


@dataclass(frozen=True)
class Request:
    """The code, what it reads, and the time and chance it sees."""

    id: str
    code: str
    input: Any
    seed: int
    now: float
    limits: Limits


def request_of(frame: dict[str, Any]) -> Request:
    """The request in a frame. BadRequestError for another version, or for what is missing."""
    if frame.get("v") != VERSION:
        raise BadRequestError(f"version {frame.get('v')!r:.40}; this guest speaks {VERSION}")
    try:
        return Request(
            id=str(frame["id"]),
            code=str(frame["code"]),
            input=frame["input"],
            seed=int(frame["seed"]),
            now=float(frame["now"]),
            limits=_limits(frame["limits"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadRequestError(f"the request is not whole: {error!r:.200}") from None


def _limits(given: dict[str, Any]) -> Limits:
    return Limits(
        wall_seconds=float(given["wall_seconds"]),
        cpu_seconds=float(given["cpu_seconds"]),
        memory_bytes=int(given["memory_bytes"]),
        file_bytes=int(given["file_bytes"]),
        output_bytes=int(given["output_bytes"]),
        result_bytes=int(given["result_bytes"]),
    )
