"""Whether the bus can be reached, looked at again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from prometheus_client import Gauge

from libs.db.outage import Outage, is_outage, pause
from libs.process.logs import get_logger
from libs.process.until import until

COMPONENT = "pawl.bus"
"""The name under which gRPC health answers for it."""

LOOK_SECONDS = 2.0

log = get_logger(__name__)
_up = Gauge("pawl_bus_up", "1: the bus answered when it was last asked")


class Checked(Protocol):
    """What can say whether it answers."""

    async def check(self) -> None:
        """PawlError `unavailable` when it does not."""
        ...


async def watch_bus(
    bus: Checked,
    tell: Callable[[bool], Awaitable[None]],
    stop: asyncio.Event,
    *,
    look_seconds: float = LOOK_SECONDS,
) -> None:
    """Call `tell` with whether the bus answers, at first and whenever that changes."""
    await until(stop, _watch(bus, tell, stop, look_seconds=look_seconds), grace=0.0)


async def _watch(
    bus: Checked,
    tell: Callable[[bool], Awaitable[None]],
    stop: asyncio.Event,
    *,
    look_seconds: float,
) -> None:
    outage = Outage(log, "bus")
    told: bool | None = None
    while not stop.is_set():
        try:
            await bus.check()
            answers = True
            outage.over()
        except Exception as error:
            if not is_outage(error):
                raise
            answers = False
            outage.failed(error)
        _up.set(answers)
        if answers is not told:
            told = answers
            await tell(answers)
        await pause(stop, look_seconds)
