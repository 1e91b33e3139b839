"""uvicorn, set up for Pawl: bounded heads, no access log, told to stop from outside."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import resource
import socket
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from typing import Any, cast

import orjson
import uvicorn
from sse_starlette.sse import AppStatus
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.edge import BEGAN_KEY
from gateway.errors import MEDIA_TYPE, problem_body
from libs.core.errors import PawlError
from libs.rpc.context import new_request_id

MAX_HEAD_BYTES = 128 * 2**10
"""Beyond this a request's head is not even read to its end; the application refuses far less."""
HEAD_SECONDS = 15.0
"""A head that has not arrived by then closes its connection."""
ARRIVAL_SECONDS = 19.0
"""A request that has not arrived whole by then, though all was read, closes its connection; who
reads the body answers 408 a little earlier.
"""
SEND_SECONDS = 7.0
LEAST_SENT_BYTES = 7 * 2**10
"""A client that takes less of its answer than this in that time, while there is more, is let go."""
SEND_BUFFER_BYTES = 128 * 2**10
LINGER_SECONDS = 2.0
"""How long a client that is still sending has to read its answer."""
BACKLOG = 2048
DRAIN_SECONDS = 2

_NO_LINGERING = struct.pack("ii", 1, 0)
_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})


class LingeringTransport:
    """Passes everything on, but closes so that a client which is still sending gets its answer.

    Closing with bytes unread resets the connection, and the client's system then throws away what
    it has received and not yet read. So the sending side ends first; the other ends when the client
    has seen that, or after LINGER_SECONDS.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        is_sending: Callable[[], bool],
        send_seconds: float = SEND_SECONDS,
    ) -> None:
        self._transport = transport
        self._send_seconds = send_seconds
        self._is_sending = is_sending
        self._timer: asyncio.TimerHandle | None = None
        self._written = 0
        self._watch: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def lingers(self) -> bool:
        """Whether what still comes is read only to be thrown away."""
        return self._timer is not None

    def is_closing(self) -> bool:
        """Whether nothing more can be said on this connection."""
        return self.lingers or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send, unless all has been said: the application may answer what was refused already."""
        if self.is_closing():
            return
        self._transport.write(data)
        self._written += len(data)
        if self._watch is None:
            self._watch_sending(0)

    def close(self) -> None:
        """Close, at once when the client has nothing left to send or when asked again."""
        if self.is_closing() or not self._is_sending():
            self.end()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LINGER_SECONDS, self._transport.close)
        self._transport.write_eof()
        self._transport.resume_reading()

    def end(self) -> None:
        """Close at once, but for what is still being sent."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    def forget(self) -> None:
        """The connection is no more."""
        if self._watch is not None:
            self._watch.cancel()
        self.end()

    def _watch_sending(self, sent: int) -> None:
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(self._send_seconds, self._check_sending, sent)

    def _check_sending(self, sent_then: int) -> None:
        """Hang up when the client reads hardly anything; it would hold the answer for as long as it
        likes. An idle connection has nothing to send and is not watched.
        """
        self._watch = None
        client = self._transport.get_extra_info("socket")
        left = self._transport.get_write_buffer_size() + _unacknowledged_bytes(client)
        if not left:
            return
        sent = self._written - left
        if sent - sent_then < LEAST_SENT_BYTES:
            # With a reset: else the system keeps what it has taken until the client has read it.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
            self._transport.abort()
        else:
            self._watch_sending(sent)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Bounds what uvicorn does not: the size of a request's head, and the time it may take."""

    _lingering: LingeringTransport
    _head_bytes = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None
    _arrival_timer: asyncio.TimerHandle | None = None
    _began = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        self._lingering = LingeringTransport(transport, is_sending=self._is_receiving)
        super().connection_made(cast("asyncio.Transport", self._lingering))
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._end_of_head()
        self._end_of_arrival()
        self._lingering.forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; close the connection when the head is still not complete after too many bytes."""
        if self._lingering.lingers:
            return
        super().data_received(data)
        if not self._in_head:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(
                PawlError("header_too_large", f"path and headers exceed {MAX_HEAD_BYTES} bytes")
            )

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP as everything else is refused."""
        del msg
        self._refuse(PawlError("bad_request", "the request is not well-formed HTTP/1.1"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header. Blanks behind its value are not part of it; the parser leaves them on."""
        super().on_header(name, value.rstrip(b" \t"))

    def on_message_begin(self) -> None:
        """A request's first byte is there."""
        if not self._in_head:
            self._wait_for_head()
        self._began = self.loop.time()
        super().on_message_begin()
        self.scope[BEGAN_KEY] = self._began  # type: ignore[literal-required]

    def on_message_complete(self) -> None:
        """The request has arrived whole."""
        self._end_of_arrival()
        super().on_message_complete()

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
        else:
            left = ARRIVAL_SECONDS - (self.loop.time() - self._began)
            self._arrival_timer = self.loop.call_later(left, self._arrival_is_late)

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing to warn of: no other protocol is meant to be spoken."""

    def _refuse(self, error: PawlError) -> None:
        self.transport.write(_refusal(error))
        self.transport.close()

    def _is_receiving(self) -> bool:
        return self._in_head or (self.cycle is not None and self.cycle.more_body)

    def _wait_for_head(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _end_of_head(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_of_arrival(self) -> None:
        if self._arrival_timer is not None:
            self._arrival_timer.cancel()
            self._arrival_timer = None

    def _arrival_is_late(self) -> None:
        """Close, unless it is we who do not read, or the application that has not answered yet."""
        if self.flow.read_paused or not self.cycle.response_complete:
            self._arrival_timer = self.loop.call_later(1.0, self._arrival_is_late)
        elif not self.transport.is_closing():
            self._lingering.end()

    def _head_is_late(self) -> None:
        if not self.transport.is_closing():
            self._lingering.end()


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


def allow_many_connections() -> None:
    """Let this process have as many connections as the system allows it: the usual 1,024 are fewer
    than the requests that it takes on.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _unacknowledged_bytes(client: socket.socket) -> int:
    """What the system still holds of what was sent."""
    found = fcntl.ioctl(client.fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(found, sys.byteorder)


def _refusal(error: PawlError) -> bytes:
    """A whole answer, for what never reaches the application."""
    request_id = new_request_id()
    body = orjson.dumps(problem_body(error, request_id=request_id))
    lines = (
        f"HTTP/1.1 {error.kind.http} {error.kind.title}",
        f"content-type: {MEDIA_TYPE}",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        f"x-request-id: {request_id}",
        "x-content-type-options: nosniff",
        "connection: close",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


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
    listening = socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    # Connections inherit it. What a client does not read should stay with us, who count it.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return listening
