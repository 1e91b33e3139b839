"""The loop that publishes an outbox: woken by the process that writes it, resting before a run."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import Counter, Gauge, Histogram

from libs.bus.bus import Publisher
from libs.core.errors import PawlError
from libs.db.outage import Outage, is_outage, pause
from libs.db.wakeups import Wakeup
from libs.process.logs import get_logger
from libs.process.until import until

REST_SECONDS = 0.025
LOOK_SECONDS = 2.0
LAST_SECONDS = 1.0
DROP_EVERY_SECONDS = 3600.0

log = get_logger(__name__)
_events = Counter("pawl_relay_events_total", "Events published from the outbox")
_rows = Gauge("pawl_outbox_rows", "Rows of the outbox not published yet, when last seen")
_age = Gauge("pawl_outbox_age_seconds", "Age of the oldest event not published yet, when last seen")
_delay = Histogram(
    "pawl_relay_delay_seconds",
    "Age of the oldest event of a run when it was published",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30, 300),
)
_failures = Counter("pawl_relay_failures_total", "Runs of the relay that failed")


class Relay:
    """Runs `publisher`; every process that writes the outbox runs one, and they take turns.

    Once woken it waits `rest_seconds`, so that events travel in batches.
    Without being woken it looks every `look_seconds`: for what a process wrote that died before its
    turn.
    """

    def __init__(
        self,
        publisher: Publisher,
        *,
        rest_seconds: float = REST_SECONDS,
        look_seconds: float = LOOK_SECONDS,
        drop_every_seconds: float = DROP_EVERY_SECONDS,
    ) -> None:
        self._publisher = publisher
        self._rest_seconds = rest_seconds
        self._look_seconds = look_seconds
        self._drop_every_seconds = drop_every_seconds
        self._wakeup = Wakeup()
        self._outage = Outage(log, "relay")
        self._drop_at = time.monotonic() + drop_every_seconds

    def wake(self) -> None:
        """Say that something was committed to the outbox; call it after every such commit."""
        self._wakeup.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set, and then once more what is committed by then.

        A bus that does not answer holds up the end for two seconds at most.
        """
        await until(stop, self._turns(stop), grace=LAST_SECONDS, wake=self._wakeup.set)
        await self._last_turn()

    async def check(self) -> None:
        """PawlError `unavailable` when events could not be published when that was tried last."""
        if self._outage.is_on:
            raise PawlError("unavailable", "events could not be published when last tried")

    async def _turns(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._turn(stop)

    async def _turn(self, stop: asyncio.Event) -> None:
        self._wakeup.clear()
        try:
            await self._move()
            await self._drop_when_due()
        except Exception as error:
            if not is_outage(error):
                raise
            _failures.inc()
            await self._look_at_backlog()
            await pause(stop, self._outage.failed(error))
            return
        self._outage.over()
        if not stop.is_set() and await self._wakeup.wait(self._look_seconds):
            # A task that has begun to move moves on: what follows in a moment goes along.
            await pause(stop, self._rest_seconds)

    async def _move(self) -> None:
        while True:
            moved = await self._publisher.move()
            _events.inc(moved.events)
            if moved.events:
                _delay.observe(moved.oldest_age_seconds)
            if not moved.is_more:
                _rows.set(0)
                _age.set(0)
                return
            _age.set(moved.oldest_age_seconds)

    async def _look_at_backlog(self) -> None:
        """Keep the gauges true while nothing can be published."""
        try:
            backlog = await self._publisher.backlog()
        except Exception as error:
            if not is_outage(error):
                raise
            # The database is away as well: nobody knows how much waits.
            log.debug("outbox not counted", error=str(error).strip())
            return
        _rows.set(backlog.rows)
        _age.set(backlog.oldest_age_seconds)

    async def _drop_when_due(self) -> None:
        if time.monotonic() >= self._drop_at:
            self._drop_at = time.monotonic() + self._drop_every_seconds
            dropped = await self._publisher.drop_expired()
            log.info("expired records dropped", records=dropped)

    async def _last_turn(self) -> None:
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._move()
        except Exception as error:
            if not is_outage(error) and not isinstance(error, TimeoutError):
                raise
            # What is left is in the outbox; the next relay publishes it.
            log.warning("outbox not emptied at stop", error=str(error).strip() or "no time left")
