"""uvicorn, set up for Pawl: bounded heads, no access log, told to stop from outside."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from sse_starlette.sse import AppStatus
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 128 * 2**10
"""Beyond this a request's head is not even read to its end; the application refuses far less."""
HEAD_SECONDS = 15.0
"""A head that has not arrived by then closes its connection."""
BACKLOG = 2048
DRAIN_SECONDS = 2

_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 23\r\nconnection: close\r\n\r\n"
    b"The head is too large.\n"
)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Bounds what uvicorn does not: the size of a request's head, and the time it may take."""

    _head_bytes = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._end_of_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; close the connection when the head is still not complete after too many bytes."""
        super().data_received(data)
        if not self._in_head:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """A request's first byte is there."""
        if not self._in_head:
            self._wait_for_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there. A request that wants another protocol is answered in this one.

        The parser gives up after such a head: it never reads a body, and would take it for the next
        request. So the connection ends with the answer, and a body is refused as broken HTTP.
        """
        self._end_of_head()
        wants_upgrade = self.parser.should_upgrade()
        if wants_upgrade and any(name in _BODY_HEADERS for name, _ in self.headers):
            raise ValueError("an upgrade with a body")
        super().on_headers_complete()
        if wants_upgrade:
            self.cycle.keep_alive = False

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing to warn of: no other protocol is meant to be spoken."""

    def _wait_for_head(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _end_of_head(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


class HttpServer(uvicorn.Server):
    """Serves one application on one socket until `stop`, which drains for two seconds."""

    def __init__(self, app: ASGIApp, *, listen: str) -> None:
        super().__init__(_config(app))
        # It reports every broken request, whose sender would fill the log, and repeats what the
        # application has logged itself.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self.socket = _bound(listen)
        self.port: int = self.socket.getsockname()[1]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process: it says when to stop."""
        yield

    async def run_until(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then let open requests end, streams at once."""
        serving = asyncio.create_task(self.serve(sockets=[self.socket]))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        self.should_exit = True
        AppStatus.should_exit = True  # ends the event streams; the process serves no more
        await serving


def _config(app: ASGIApp) -> uvicorn.Config:
    settings: dict[str, Any] = {
        "http": BoundedHttpProtocol,
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": DRAIN_SECONDS,
        "backlog": BACKLOG,
    }
    return uvicorn.Config(app, **settings)


def _bound(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
