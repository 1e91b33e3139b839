from __future__ import annotations

import asyncio

import pytest

from libs.process.until import until


async def test_work_that_ends_is_waited_for() -> None:
    stop, done = asyncio.Event(), list[str]()

    async def work() -> None:
        await stop.wait()
        await asyncio.sleep(0)
        done.append("well")

    asyncio.get_running_loop().call_soon(stop.set)
    await until(stop, work(), grace=5)

    assert done == ["well"]


async def test_work_that_does_not_end_is_cancelled_after_the_grace() -> None:
    stop, seen = asyncio.Event(), list[str]()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    stop.set()
    await until(stop, work(), grace=0.001)

    assert seen == ["cancelled"]


async def test_what_work_raises_is_raised() -> None:
    async def work() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await until(asyncio.Event(), work(), grace=5)


async def test_being_cancelled_cancels_the_work() -> None:
    begun, seen = asyncio.Event(), list[str]()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    running = asyncio.create_task(until(asyncio.Event(), work(), grace=5))
    await begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert seen == ["ended"]
