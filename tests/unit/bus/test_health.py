from __future__ import annotations

import asyncio

import pytest

from libs.bus.health import watch_bus
from libs.core.errors import PawlError
from tests.waiting import eventually


class FakeBus:
    """Answers, or fails as it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.checks = 0

    async def check(self) -> None:
        self.checks += 1
        if self.error is not None:
            raise self.error


async def test_changes_are_told_once_each() -> None:
    bus, stop, told = FakeBus(), asyncio.Event(), list[bool]()

    async def tell(answers: bool) -> None:
        told.append(answers)

    watching = asyncio.create_task(watch_bus(bus, tell, stop, look_seconds=0.001))
    await eventually(lambda: bus.checks > 3)
    bus.error = PawlError("unavailable", "gone")
    await eventually(lambda: told == [True, False])
    seen = bus.checks
    await eventually(lambda: bus.checks > seen + 3)
    bus.error = None
    await eventually(lambda: told == [True, False, True])
    stop.set()
    await watching


async def test_a_mistake_is_not_taken_for_an_absence() -> None:
    bus = FakeBus()
    bus.error = RuntimeError("a bug")

    async def tell(answers: bool) -> None:
        raise AssertionError(answers)

    with pytest.raises(RuntimeError, match="a bug"):
        await watch_bus(bus, tell, asyncio.Event())
