"""The loop that publishes an outbox: woken by the process that writes it, resting between runs."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import Counter, Gauge

from libs.bus.bus import Publisher
from libs.db.outage import Outage, is_outage, pause
from libs.db.wakeups import Wakeup
from libs.process.logs import get_logger

REST_SECONDS = 0.02
LOOK_SECONDS = 2.0
DROP_EVERY_SECONDS = 3600.0

log = get_logger(__name__)
_events = Counter("pawl_relay_events_total", "Events published from the outbox")
_age = Gauge("pawl_outbox_age_seconds", "Age of the oldest event when it was published last")
_failures = Counter("pawl_relay_failures_total", "Runs of the relay that failed")


class Relay:
    """Runs `publisher`; every process that writes the outbox runs one, and they take turns.

    Between runs that moved something it rests `rest_seconds`, so that events travel in batches.
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
        """Publish until `stop` is set, and then once more what is committed by then."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wakeup.set())
        try:
            while not stop.is_set():
                await self._turn(stop)
        finally:
            stopping.cancel()
        await self._last_turn()

    async def _turn(self, stop: asyncio.Event) -> None:
        self._wakeup.clear()
        try:
            moved = await self._move()
            await self._drop_when_due()
        except Exception as error:
            if not is_outage(error):
                raise
            _failures.inc()
            await pause(stop, self._outage.failed(error))
            return
        self._outage.over()
        if moved:
            await pause(stop, self._rest_seconds)
        if not stop.is_set():
            await self._wakeup.wait(self._look_seconds)

    async def _move(self) -> int:
        events = 0
        while True:
            moved = await self._publisher.move()
            events += moved.events
            _events.inc(moved.events)
            _age.set(moved.oldest_age_seconds)
            if not moved.is_more:
                return events

    async def _drop_when_due(self) -> None:
        if time.monotonic() >= self._drop_at:
            self._drop_at = time.monotonic() + self._drop_every_seconds
            dropped = await self._publisher.drop_expired()
            log.info("expired records dropped", records=dropped)

    async def _last_turn(self) -> None:
        try:
            await self._move()
        except Exception as error:
            if not is_outage(error):
                raise
            # What is left is in the outbox; the next relay publishes it.
            log.warning("outbox not emptied at stop", error=str(error).strip())
