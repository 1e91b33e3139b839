"""A server on loopback that answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from libs.cli.client import Server


@dataclass(kw_only=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One answer. `is_dropped`: the connection is closed instead; `missing_bytes`: before its end;
    `after_seconds`: it comes late.
    """

    status: int = 200
    kind: str = "text/plain"
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_dropped: bool = False
    missing_bytes: int = 0
    after_seconds: float = 0.0


@dataclass(kw_only=True)
class FakeServer:
    """Answers in the order given for each method and path; the last one again and again."""

    url: str = ""
    answers: dict[str, list[Said]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def server(self) -> Server:
        """Where it is, with a key."""
        return Server(url=self.url, api_key="pawl_test_key")

    def json(
        self, route: str, body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer `route` ("GET /path") with JSON."""
        kind = "application/json" if status < 400 else "application/problem+json"
        content = json.dumps(body).encode()
        self.say(route, Said(status=status, kind=kind, content=content, headers=headers or {}))

    def events(
        self, route: str, *events: tuple[int, str, dict[str, Any]], missing_bytes: int = 0
    ) -> None:
        """Answer `route` with a stream of (id, event, payload), then end it, or break it off."""
        frames = [
            f"id: {seq}\nevent: {name}\ndata: "
            + json.dumps(
                {"event": name, "payload": payload, "created_at": payload["at"], "seq": seq}
            )
            + "\n\n"
            for seq, name, payload in events
        ]
        content = (": ping\n\n" + "".join(frames)).encode()
        kind = "text/event-stream"
        self.say(route, Said(kind=kind, content=content, missing_bytes=missing_bytes))

    def raw(self, route: str, body: bytes, *, status: int = 200, kind: str = "text/plain") -> None:
        """Answer `route` with these bytes."""
        self.say(route, Said(status=status, kind=kind, content=body))

    def drop(self, route: str) -> None:
        """Answer `route` not at all."""
        self.say(route, Said(is_dropped=True))

    def say(self, route: str, said: Said) -> None:
        """Answer `route` so."""
        self.answers.setdefault(route, []).append(said)


_MISSING = Said(
    status=404,
    kind="application/problem+json",
    content=b'{"code": "not_found", "detail": "none"}',
)


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    """A running server on a free port; it is stopped at the end."""
    fake = FakeServer()
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(method=self.command, path=self.path, headers=headers, body=body)
            fake.asked.append(asked)
            waiting = fake.answers.get(f"{self.command} {self.path}")
            said = _MISSING if not waiting else waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if said.is_dropped or stopped.wait(said.after_seconds):
                return
            self.send_response(said.status)
            self.send_header("Content-Type", said.kind)
            self.send_header("Content-Length", str(len(said.content) + said.missing_bytes))
            for name, value in said.headers.items():
                self.send_header(name, value)
            with contextlib.suppress(OSError):
                self.end_headers()
                self.wfile.write(said.content)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - names of http.server

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
            """Say nothing."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        stopped.set()
        listener.shutdown()
        listener.server_close()
        thread.join()
