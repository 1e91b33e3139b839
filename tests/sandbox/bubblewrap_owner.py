"""Holds two guests until it is killed: `python -m tests.sandbox.bubblewrap_owner`.

One waits for its request, one runs code without end. Says `ready` on stdout.
"""

from __future__ import annotations

import asyncio

from services.executor.sandbox.bubblewrap import BubblewrapBackend
from tests.sandbox.guest_world import ask, code_request


async def hold() -> None:
    """Start the guests, and never end."""
    backend = BubblewrapBackend()
    await backend.prepare()
    _, busy = await backend.start("boot"), await backend.start("boot")
    asking = asyncio.create_task(ask(busy, code_request("while True: pass", wall_seconds=60)))
    await asyncio.sleep(0)
    print("ready", flush=True)
    await asking


if __name__ == "__main__":
    asyncio.run(hold())
