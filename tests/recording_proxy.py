"""A reverse proxy that notes what a client of Pawl sends, and hurts requests when told to.

It stands where a recipe expects Pawl; so a test sees every request of a program that is not ours.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

UPSTREAM_SECONDS = 60.0
_OWN = frozenset({"connection", "content-length", "date", "server", "transfer-encoding"})
"""Headers that belong to one of the two connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer in place of Pawl's; Pawl does not see the request."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] = field(default_factory=dict)


class Break(Enum):
    """The connection ends without an answer."""

    BEFORE_PAWL = auto()
    """Pawl does not see the request."""
    AFTER_PAWL = auto()
    """Pawl has done what it was asked for."""


Hurt = Refusal | Break


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request. `at` is when it came, in monotonic seconds; `status` what was answered, None:
    nothing.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    status: int | None = None
    content_type: str = ""

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


class RecordingProxy:
    """What was asked of the proxy at `url`, in the order in which it was answered."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port)
        self._hurts: dict[str, deque[Hurt]] = {}
        self._lock = threading.Lock()
        self.seen: list[Seen] = []
        self.url = ""

    def hurt(self, method: str, *hurts: Hurt) -> None:
        """Let the next requests of this method come to harm, one each, in this order."""
        with self._lock:
            self._hurts.setdefault(method, deque()).extend(hurts)

    def of(self, method: str) -> list[Seen]:
        """The requests of this method so far."""
        with self._lock:
            return [seen for seen in self.seen if seen.method == method]

    def pauses(self, method: str) -> list[float]:
        """Seconds between the requests of this method."""
        moments = [seen.at for seen in self.of(method)]
        return [later - sooner for sooner, later in pairwise(moments)]

    def _next_hurt(self, method: str) -> Hurt | None:
        with self._lock:
            waiting = self._hurts.get(method)
            return waiting.popleft() if waiting else None

    def _note(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)

    def _ask(self, seen: Seen) -> tuple[int, list[tuple[str, str]], bytes]:
        host, port = self._upstream
        connection = http.client.HTTPConnection(host, port, timeout=UPSTREAM_SECONDS)
        try:
            connection.request(seen.method, seen.path, body=seen.body, headers=dict(seen.headers))
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def serve(self, handler: _Handler) -> None:
        """Take one request to its end."""
        length = int(handler.headers.get("Content-Length", "0"))
        seen = Seen(
            method=handler.command,
            path=handler.path,
            headers={name.lower(): text for name, text in handler.headers.items()},
            body=handler.rfile.read(length),
            at=time.monotonic(),
        )
        hurt = self._next_hurt(seen.method)
        if isinstance(hurt, Refusal):
            kind = ("Content-Type", "application/problem+json")
            said = json.dumps(hurt.body).encode()
            self._answer(handler, seen, (hurt.status, [kind, *hurt.headers.items()], said))
            return
        if hurt is Break.BEFORE_PAWL:
            self._hang_up(handler, seen)
            return
        answer = self._ask(seen)
        if hurt is Break.AFTER_PAWL:
            self._hang_up(handler, seen)
            return
        self._answer(handler, seen, answer)

    def _answer(
        self,
        handler: _Handler,
        seen: Seen,
        answer: tuple[int, list[tuple[str, str]], bytes],
    ) -> None:
        status, headers, body = answer
        kinds = [text for name, text in headers if name.lower() == "content-type"]
        self._note(replace(seen, status=status, content_type="".join(kinds)))
        handler.send_response_only(status)
        for name, text in headers:
            if name.lower() not in _OWN:
                handler.send_header(name, text)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _hang_up(self, handler: _Handler, seen: Seen) -> None:
        self._note(seen)
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: RecordingProxy

    def handle_one_request(self) -> None:
        """As above, with one way for all methods."""
        self.raw_requestline = self.rfile.readline(65_537)
        if not self.raw_requestline:
            self.close_connection = True
        elif self.parse_request():
            self.proxy.serve(self)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Nothing: what came is in `seen`."""


@contextmanager
def recording_proxy(upstream: str) -> Iterator[RecordingProxy]:
    """A proxy before the server at `upstream`, on a free port of this machine."""
    proxy = RecordingProxy(upstream)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
