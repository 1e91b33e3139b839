"""What the client asks of whoever moves bytes for it.

Every call is a generator of effects that yields what it needs and is sent what came of it; the
faces in `sync_face.py` and `async_face.py` perform effects and know nothing else.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

Result = TypeVar("Result")
Item = TypeVar("Item")

IDEMPOTENCY_KEY = "Idempotency-Key"


class Lost(Exception):  # noqa: N818 - what happened to the connection
    """No whole answer came. Thrown into the call; `is_silence`: nothing came for too long."""

    def __init__(self, reason: str, *, is_silence: bool = False) -> None:
        super().__init__(reason)
        self.is_silence = is_silence


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request. `path` is as it goes over the wire, below the server's address.

    `silence_seconds` is how long nothing may come before the connection counts as lost.
    """

    method: str
    path: str
    silence_seconds: float
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def may_be_repeated(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.method == "GET" or IDEMPOTENCY_KEY in self.headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer. Names of headers are in lower case; a stream's body is empty at first."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """What is told before something is sent once more: what became of attempt number `attempt`."""

    method: str
    path: str
    attempt: int
    reason: str
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """Send the request and read its whole answer: an Answer, or Lost."""

    request: Request


@dataclass(frozen=True, slots=True)
class Open:
    """Send the request and read the head of its answer, of any status but 200 all: an Answer, or
    Lost. One stream is open at a time.
    """

    request: Request


@dataclass(frozen=True, slots=True)
class Read:
    """Read on in the open stream: bytes, none at its end, or Lost."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Now:
    """The seconds of a clock that only goes forward: a float."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Say that something will be sent once more."""

    again: Again


@dataclass(frozen=True, slots=True)
class Give(Generic[Item]):
    """One item for whoever iterates."""

    value: Item


Effect: TypeAlias = Exchange | Open | Read | Pause | Now | Tell
Steps: TypeAlias = Generator[Effect, Any, Result]
"""A call with one result."""
Items: TypeAlias = Generator[Effect | Give[Item], Any, None]
"""A call that gives items until there are no more."""

Some = TypeVar("Some")


def advance(steps: Generator[Some, Any, Any], outcome: object) -> Some:
    """Go on with what came of the last effect, None at first; the next effect. Raises what the call
    raises, StopIteration with its result at its end.
    """
    return steps.throw(outcome) if isinstance(outcome, Lost) else steps.send(outcome)
