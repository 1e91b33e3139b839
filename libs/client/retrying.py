"""What is sent once more after it went wrong, and when. Pure.

Two kinds of requests may be: those that change nothing (GET), and those with an Idempotency-Key,
of which the server keeps one. And what answered 429, for that was not done.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from libs.client.wire import Again, Answer, Exchange, Lost, Pause, Request, Steps, Tell

_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 2.0
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """At most `attempts` requests for one call, with pauses of at most `total_seconds` in sum.

    When the server asks for a longer pause than is left, the call fails at once.
    """

    attempts: int = 4
    total_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.total_seconds < 0:
            raise ValueError("attempts must be at least 1, total_seconds at least 0")


DEFAULT = Retry()
NEVER = Retry(attempts=1)
"""Whatever goes wrong is told at once."""


def backoff_seconds(failures: int) -> float:
    """The pause after so many failures in a row, the first being 1."""
    return min(_FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10), _LONGEST_PAUSE_SECONDS)


def retry_after_seconds(answer: Answer) -> float | None:
    """The Retry-After of an answer in seconds; None when it has none, or has a date."""
    text = answer.headers.get("retry-after", "").strip()
    return float(text) if _SECONDS.fullmatch(text) else None


def pause_seconds(request: Request, outcome: Answer | Lost, failures: int) -> float | None:
    """How long to wait before the request is sent again; None: it is not."""
    if isinstance(outcome, Lost):
        return backoff_seconds(failures) if request.may_be_repeated else None
    if outcome.status == 429 or (outcome.status == 503 and request.may_be_repeated):
        return retry_after_seconds(outcome)
    return None


def exchanged(request: Request, retry: Retry) -> Steps[tuple[Answer, int]]:
    """The answer to a request, and how many times it was sent. Raises Lost, with `attempts`."""
    slept = 0.0
    for attempt in range(1, retry.attempts + 1):
        outcome: Answer | Lost
        try:
            outcome = yield Exchange(request)
        except Lost as error:
            outcome = error
        pause = pause_seconds(request, outcome, attempt)
        if pause is None or attempt == retry.attempts or slept + pause > retry.total_seconds:
            break
        slept += pause
        yield Tell(again_of(request, outcome, attempt=attempt, wait_seconds=pause))
        yield Pause(pause)
    if isinstance(outcome, Lost):
        raise GaveUp(str(outcome), attempts=attempt) from outcome
    return outcome, attempt


class GaveUp(Exception):  # noqa: N818 - what was done
    """A request got no answer, however often it was sent."""

    def __init__(self, reason: str, *, attempts: int) -> None:
        super().__init__(reason)
        self.attempts = attempts


def again_of(
    request: Request, outcome: Answer | Lost, *, attempt: int, wait_seconds: float
) -> Again:
    """What to tell about sending the request once more."""
    reason = str(outcome) if isinstance(outcome, Lost) else f"the server answered {outcome.status}"
    return Again(
        method=request.method,
        path=request.path,
        attempt=attempt,
        reason=reason,
        wait_seconds=wait_seconds,
    )
