"""A server on loopback that answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
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


@dataclass(kw_only=True)
class FakeServer:
    """Answers in the order given for each method and path; the last one again and again."""

    url: str = ""
    answers: dict[str, list[tuple[int, str, bytes]]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def server(self) -> Server:
        """Where it is, with a key."""
        return Server(url=self.url, api_key="pawl_test_key")

    def json(self, route: str, body: Any, *, status: int = 200) -> None:
        """Answer `route` ("GET /path") with JSON."""
        kind = "application/json" if status < 400 else "application/problem+json"
        self.raw(route, json.dumps(body).encode(), status=status, kind=kind)

    def events(self, route: str, *events: tuple[int, str, dict[str, Any]]) -> None:
        """Answer `route` with a stream of (id, event, payload), then end it."""
        frames = [
            f"id: {seq}\nevent: {name}\ndata: "
            + json.dumps(
                {"event": name, "payload": payload, "created_at": payload["at"], "seq": seq}
            )
            + "\n\n"
            for seq, name, payload in events
        ]
        self.raw(route, (": ping\n\n" + "".join(frames)).encode(), kind="text/event-stream")

    def raw(self, route: str, body: bytes, *, status: int = 200, kind: str = "text/plain") -> None:
        """Answer `route` with these bytes."""
        self.answers.setdefault(route, []).append((status, kind, body))


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    """A running server on a free port; it is stopped at the end."""
    fake = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(method=self.command, path=self.path, headers=headers, body=body)
            fake.asked.append(asked)
            waiting = fake.answers.get(f"{self.command} {self.path}")
            missing = (404, "application/problem+json", b'{"code": "not_found", "detail": "none"}')
            status, kind, content = (
                missing if not waiting else waiting.pop(0) if len(waiting) > 1 else waiting[0]
            )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

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
        listener.shutdown()
        listener.server_close()
        thread.join()
