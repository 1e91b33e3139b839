"""Ending a loop that may be in the middle of waiting for somebody who is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def until(
    stop: asyncio.Event,
    work: Coroutine[Any, Any, None],
    *,
    grace: float,
    wake: Callable[[], None] | None = None,
) -> None:
    """Run `work`, which ends by itself soon after `stop`; it is cancelled `grace` seconds later.

    `wake` is called when `stop` is set, to end what `work` waits for. What `work` raises is raised
    here, but for its cancellation.
    """
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if wake is not None:
            wake()
        await asyncio.wait({working}, timeout=grace)
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
    if not working.cancelled():
        working.result()
