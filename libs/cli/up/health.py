"""Asking a process whether it is ready, without its client library."""

from __future__ import annotations

import asyncio

ASK_SECONDS = 2.0
_OK = b" 200 "


async def is_serving(address: str) -> bool:
    """Whether /healthz at `address` (host:port) answers 200 within 2 s."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(ASK_SECONDS):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return _OK in status_line
