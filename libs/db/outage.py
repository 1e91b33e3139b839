"""What a loop does while the database or the bus is away: pause ever longer, and say so once."""

from __future__ import annotations

import asyncio

import psycopg
from structlog.typing import FilteringBoundLogger

from libs.core.errors import PawlError
from libs.db.engine import unavailable

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

AWAY = (psycopg.OperationalError, psycopg.InterfaceError)
"""What psycopg and its pool raise when the server is away, too slow or out of connections."""


class Outage:
    """Counts the failures in a row of one loop; its first failure and its recovery are logged."""

    def __init__(self, log: FilteringBoundLogger, what: str) -> None:
        self._log = log
        self._what = what
        self._failures = 0

    @property
    def is_on(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    def failed(self, error: Exception) -> float:
        """Note one failure; the seconds to pause before the next try (0.1 doubling up to 5)."""
        if self._failures == 0:
            self._log.warning("away", what=self._what, error=str(error).strip())
        pause_seconds = FIRST_PAUSE_SECONDS * (1 << min(self._failures, 16))
        self._failures += 1
        return min(LONGEST_PAUSE_SECONDS, pause_seconds)

    def over(self) -> None:
        """Note one success."""
        if self._failures:
            self._log.info("back", what=self._what, failures=self._failures)
            self._failures = 0


def database_refusal(error: Exception) -> PawlError | None:
    """What a caller is told when a call failed for `error`: `unavailable`; None: something else."""
    return unavailable(error) if isinstance(error, AWAY) else None


def is_outage(error: BaseException) -> bool:
    """Whether `error` says that something is away, and nothing about the work that was tried."""
    return isinstance(error, AWAY) or (isinstance(error, PawlError) and error.code == "unavailable")


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Return after `seconds`, or as soon as `stop` is set."""
    try:
        # Not wait_for: in Python 3.11 it loses a cancellation that comes with `stop`.
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
