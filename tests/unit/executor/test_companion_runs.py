"""What runs for whom, and how it is ended from outside."""

from __future__ import annotations

import asyncio

import pytest

from services.executor.companion import runs
from services.executor.companion.runs import RunEnded, Runs

BOOT = "018f3f5e-0000-7000-8000-000000000001"


class Work:
    """Something that runs until it is cancelled; says whether it began."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.has_ended = False

    async def run(self) -> str:
        """To be held."""
        self.has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.has_ended = True
        return "never"


async def test_a_run_that_is_ended_is_dead_when_that_is_said() -> None:
    held, work = Runs(), Work()
    running = asyncio.create_task(held.hold("a", boot_id=BOOT, work=work.run()))
    await work.has_begun.wait()

    assert await held.end("a")

    assert work.has_ended
    with pytest.raises(RunEnded):
        await running
    assert not held.boots


async def test_an_end_that_overtakes_its_run_holds() -> None:
    held, work = Runs(), Work()

    assert not await held.end("a")
    with pytest.raises(RunEnded):
        await held.hold("a", boot_id=BOOT, work=work.run())

    assert not work.has_begun.is_set()
    assert "a" not in held


async def test_ends_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "REMEMBERED_SECONDS", 0.0)
    held = Runs()

    for number in range(100):
        await held.end(str(number))

    assert len(held._ended_before) == 1
