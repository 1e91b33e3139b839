"""Clients that send or read a byte a second: how long the server lets them, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass

RECEIVE_BYTES = 4096
"""The smallest buffer of a reader, so that what it does not take stays with the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the server listens, and the key to use there."""

    host: str
    port: int
    key: str

    def head(self, method: str, path: str, *, length: int | None = None) -> bytes:
        """The head of a request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}"]
        lines += [f"Authorization: Bearer {self.key}"]
        if length is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {length}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """After how many seconds a connection ended, and what had come until then."""

    seconds: float
    received: bytes


async def send_slowly(place: Place, first: bytes, rest: bytes) -> Ended:
    """Send `first` at once, and of the rest a byte a second, until the server hangs up."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    reader, writer = await asyncio.open_connection(place.host, place.port)
    writer.write(first)

    async def drip() -> None:
        for begin in range(len(rest)):
            writer.write(rest[begin : begin + 1])
            await writer.drain()
            await asyncio.sleep(1)

    dripping = asyncio.create_task(drip())
    received = b""
    try:
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                while chunk := await reader.read(65536):
                    received += chunk
    finally:
        dripping.cancel()
        writer.close()
        await asyncio.gather(dripping, writer.wait_closed(), return_exceptions=True)
    return Ended(seconds=loop.time() - began, received=received)


async def read_slowly(place: Place, request: bytes) -> Ended:
    """Ask, and read a byte a second, until the server hangs up."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        client.setblocking(False)
        await loop.sock_connect(client, (place.host, place.port))
        await loop.sock_sendall(client, request)
        received = b""
        async with asyncio.timeout(60):
            while not _is_hung_up(client):
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    received += client.recv(1)
                await asyncio.sleep(1)
        return Ended(seconds=loop.time() - began, received=received)


def _is_hung_up(client: socket.socket) -> bool:
    """Whether the connection was reset or ended, with bytes unread or not."""
    state = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state != _ESTABLISHED


_ESTABLISHED = 1
