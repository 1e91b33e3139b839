"""A listener on loopback that nobody is to reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass(kw_only=True)
class Canary:
    """Counts connections."""

    port: int = 0
    hits: int = 0


@asynccontextmanager
async def listening() -> AsyncIterator[Canary]:
    """A canary on a free port of 127.0.0.1 and, where there is one, of ::1."""
    canary = Canary()

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        canary.hits += 1
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    canary.port = server.sockets[0].getsockname()[1]
    servers = [server]
    # Without IPv6, or with the port taken there, what goes to ::1 reaches nobody.
    with suppress(OSError):
        servers.append(await asyncio.start_server(count, "::1", canary.port))
    try:
        yield canary
    finally:
        for one in servers:
            one.close()
