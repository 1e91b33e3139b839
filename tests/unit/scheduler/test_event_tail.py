"""Where a follower of a tenant stands, whenever its stream ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from libs.core.clock import Clock
from libs.core.ids import new_id
from services.scheduler.event_tail import EventTail
from services.scheduler.feed import FedEvent

TENANT, OTHER = new_id(), new_id()


class StillClock(Clock):
    """Moved by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self.seconds


class Feed:
    """Events at positions from 1 on; more of them stand there after the first look at its end."""

    def __init__(self, *, first: list[UUID], more: list[UUID]) -> None:
        self.tenants, self._more = first, more

    async def last_position(self) -> int:
        last = len(self.tenants)
        self.tenants = self.tenants + self._more
        self._more = []
        return last

    async def read(self, after: int, limit: int) -> list[FedEvent]:
        every = [
            FedEvent(position=place, tenant_id=tenant, event=_Event(place))  # type: ignore[arg-type]
            for place, tenant in enumerate(self.tenants, start=1)
        ]
        return every[after : after + limit]


class _Event:
    def __init__(self, position: int) -> None:
        self.position = position


class _Signals:
    def check_open(self) -> None:
        """It is."""


async def followed(feed: Feed, *, until: float, clock: StillClock) -> tuple[list[int], int]:
    """The positions of the events that came, and the last one that was named."""
    signals: Any = _Signals()
    tail = EventTail(feed, wakeups=None, signals=signals, clock=clock)  # type: ignore[arg-type]
    came, position = [], -1
    async for fed in tail.follow(TENANT, after_position=0, until=until):
        came += [event.position or 0 for event in fed.events]
        position = fed.position
        # However slowly the reader takes what it is given.
        clock.seconds += 10.0
    return came, position


@pytest.mark.parametrize("until", [105.0, 115.0])
async def test_what_came_while_the_backlog_was_read_is_not_passed_over(until: float) -> None:
    feed = Feed(first=[TENANT] * 5, more=[TENANT, OTHER, TENANT])

    came, position = await followed(feed, until=until, clock=StillClock())

    assert came == [1, 2, 3, 4, 5]
    assert position == 5


async def test_events_of_others_move_the_position() -> None:
    feed = Feed(first=[TENANT, OTHER, OTHER], more=[])

    came, position = await followed(feed, until=115.0, clock=StillClock())

    assert (came, position) == ([1], 3)
