"""Connections that hand over what comes in small pieces, and not more than is allowed.

An answer can be endless without growing: provisional answers one after the other, chunks of one
byte. Reading it would keep the event loop busy for as long as the request may take, and with it
everybody else's work.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore2

from libs.net.refusals import ExchangeFailed, ExchangeFault

PIECE_BYTES = 4 * 2**10
"""What is parsed at a time; in between the event loop has its turn."""


class Meter:
    """Bytes that may still be read, of what TLS has unpacked."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes

    def reset(self, most_bytes: int) -> None:
        """Begin anew with so many."""
        self._left = most_bytes

    def take(self, count: int) -> None:
        """Note bytes that were read. Raises ExchangeFailed(TOO_LARGE)."""
        self._left -= count
        if self._left < 0:
            raise ExchangeFailed(
                ExchangeFault.TOO_LARGE,
                "the answer has too much around its body: provisional answers, headers or tiny "
                "chunks",
            )


class MeteredNetwork(httpcore2.AsyncNetworkBackend):
    """The connections of `network`, all on one meter."""

    def __init__(self, network: httpcore2.AsyncNetworkBackend, meter: Meter) -> None:
        self._network = network
        self._meter = meter

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect."""
        stream = await self._network.connect_tcp(host, port, timeout, local_address, socket_options)
        return _MeteredStream(stream, self._meter)


class _MeteredStream(httpcore2.AsyncNetworkStream):
    def __init__(self, stream: httpcore2.AsyncNetworkStream, meter: Meter) -> None:
        self._stream = stream
        self._meter = meter

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(min(max_bytes, PIECE_BYTES), timeout)
        self._meter.take(len(data))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return _MeteredStream(stream, self._meter)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
