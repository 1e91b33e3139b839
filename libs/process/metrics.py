"""Prometheus metrics and the process's own word on whether it is ready, over loopback HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

StartResponse = Callable[[str, list[tuple[str, str]]], Any]

_ready = threading.Event()


def set_ready(ready: bool) -> None:
    """Say whether this process serves: /healthz answers 200 `serving`, else 503 `not serving`."""
    if ready:
        _ready.set()
    else:
        _ready.clear()


def is_ready() -> bool:
    """What `set_ready` was last told; False in the beginning."""
    return _ready.is_set()


def serve_metrics(address: str, *, registry: CollectorRegistry = REGISTRY) -> int:
    """Serve /metrics and /healthz at `address` (host:port) from a daemon thread.

    Port 0 takes a free one. Returns the bound port; raises OSError when the address is taken.
    """
    host, _, port = address.rpartition(":")
    server = make_server(
        host.strip("[]"),
        int(port),
        _app(registry),
        ThreadingWSGIServer,
        handler_class=_QuietHandler,
    )
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_port)


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
        """Say nothing: whoever scrapes does so every few seconds."""


def _app(
    registry: CollectorRegistry,
) -> Callable[[dict[str, Any], StartResponse], Iterable[bytes]]:
    exposition = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return cast("Iterable[bytes]", exposition(environ, start_response))
        if path != "/healthz":
            return _answer(start_response, "404 Not Found", b"not found\n")
        if is_ready():
            return _answer(start_response, "200 OK", b"serving\n")
        return _answer(start_response, "503 Service Unavailable", b"not serving\n")

    return app


def _answer(start_response: StartResponse, status: str, body: bytes) -> list[bytes]:
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]
