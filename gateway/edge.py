"""The outermost layer of the application: what holds for every request, whatever route it takes."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import Counter, Gauge, Histogram
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from gateway.errors import no_route, problem
from gateway.request_id import request_id_of, traceparent_of
from libs.core.errors import PawlError
from libs.process.logs import get_logger
from libs.process.tracing import Span, UnexportedSpan, new_traceparent, span, trace_id_of
from libs.rpc.context import CallContext, bind

MAX_HEAD_BYTES = 32 * 2**10
"""Path, query and headers together."""
HEAD_KEY = "pawl.head"
"""In the scope of a HEAD request, which routes see as GET: nobody reads the body."""
ROUTE_KEY = "pawl.route"
"""Where a route leaves its template in the scope, for the metrics."""

STANDING_KEY = "pawl.standing"
"""Where in the state of a request it is noted how its tenant's limit stands, for the headers."""
ENDINGS_KEY = "pawl.endings"
"""Where in the state of a request stands what is to be called once it is answered."""
BEGAN_KEY = "pawl.began"
"""When the first byte of a request came, in the loop's time; the server puts it into the scope."""
PIECE_BYTES = 64 * 2**10
"""Answers go out in pieces: so much lies with the transport while its client reads slowly."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Asked every few seconds by whoever watches this process: no spans of interest.
_WATCHED = frozenset({"/healthz", "/readyz"})

log = get_logger(__name__)
_requests = Counter("pawl_http_requests_total", "Requests answered", ["method", "route", "status"])
_seconds = Histogram("pawl_http_request_seconds", "Seconds until the answer began", ["route"])
_in_flight = Gauge("pawl_http_requests_in_flight", "Requests being answered, streams included")


class Edge:
    """Request id, bounds on the head, HEAD for GET, metrics, and an answer for every error.

    More than `max_in_flight` requests at once are answered 503 with Retry-After.
    """

    def __init__(self, app: ASGIApp, *, max_in_flight: int) -> None:
        self._app = app
        self._max_in_flight = max_in_flight
        self._now_in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. What fails after its answer began is raised; the server hangs up."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        sent: dict[bytes, list[bytes]] = {b"host": [], b"x-request-id": [], b"traceparent": []}
        for name, value in scope["headers"]:
            if name in sent:
                sent[name].append(value)
        request_id = request_id_of(sent[b"x-request-id"])
        self._now_in_flight += 1
        _in_flight.set(self._now_in_flight)
        try:
            with (
                _span(scope, request_id, traceparent_of(sent[b"traceparent"])) as request,
                bind(CallContext(request_id=request_id, traceparent=request.traceparent)),
                bound_contextvars(request_id=request_id, trace_id=trace_id_of(request.traceparent)),
            ):
                answer = _Answer(send, scope, request_id, request)
                await self._serve(scope, receive, answer, hosts=len(sent[b"host"]))
        finally:
            for end in scope["state"].pop(ENDINGS_KEY, ()):
                end()
            self._now_in_flight -= 1
            _in_flight.set(self._now_in_flight)

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer, *, hosts: int) -> None:
        try:
            refusal = self._refusal(scope) or _host_refusal(scope, hosts)
            if refusal is not None:
                await problem(refusal)(scope, receive, answer.send)
            elif scope["method"] == "HEAD":
                await self._app({**scope, "method": "GET", HEAD_KEY: True}, receive, answer.send)
            else:
                await self._app(scope, receive, answer.send)
        except asyncio.CancelledError:
            # Only a server that stops cancels requests, once it has waited long enough for them.
            if not answer.has_begun:
                await problem(_stopping())(scope, receive, answer.send)
        except ClientDisconnect:
            log.debug("the client left before its request was read")
        except Exception:
            log.exception("request failed unexpectedly", path=scope["path"])
            if answer.has_begun:
                raise
            await _unexpected()(scope, receive, answer.send)

    def _refusal(self, scope: Scope) -> PawlError | None:
        if self._now_in_flight > self._max_in_flight:
            return PawlError("unavailable", "too many requests at once", retry_after_seconds=1)
        if _head_bytes(scope) > MAX_HEAD_BYTES:
            return PawlError(
                "header_too_large", f"path and headers exceed {MAX_HEAD_BYTES} bytes together"
            )
        return None if _is_plain(scope) else no_route()


class _Answer:
    """Passes an answer on with the headers that every answer has, and counts it."""

    def __init__(self, send: Send, scope: Scope, request_id: str, request: Span) -> None:
        self._send = send
        self._scope = scope
        self._request_id = request_id.encode("ascii")
        self._span = request
        self._begin = time.perf_counter()
        self.has_begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self._request_id),
                (b"x-content-type-options", b"nosniff"),
            ]
            standing = self._scope["state"].get(STANDING_KEY)
            if standing is not None:
                message["headers"] += standing.headers
            self._tell(message["status"])
        elif len(message.get("body", b"")) > PIECE_BYTES:
            await self._send_in_pieces(message)
            return
        await self._send(message)

    async def _send_in_pieces(self, message: Message) -> None:
        body = memoryview(message["body"])
        for begin in range(0, len(body), PIECE_BYTES):
            end = begin + PIECE_BYTES
            more = end < len(body) or message.get("more_body", False)
            await self._send({**message, "body": body[begin:end], "more_body": more})

    def _tell(self, status: int) -> None:
        method = _method_of(self._scope)
        route = self._scope["state"].get(ROUTE_KEY, "none")
        _requests.labels(method, route, str(status)).inc()
        _seconds.labels(route).observe(time.perf_counter() - self._begin)
        self._span.rename(f"{method} {route}")
        self._span.set("http.route", route)
        self._span.set("http.response.status_code", status)
        if status >= 500:
            self._span.fail(str(status))
        log.debug("request answered", method=method, route=route, status=status)


def _span(scope: Scope, request_id: str, sent: str) -> Span:
    method = _method_of(scope)
    if scope["path"] in _WATCHED:
        return UnexportedSpan(sent or new_traceparent())
    attributes = {"http.request.method": method, "pawl.request_id": request_id}
    return span(method, traceparent=sent, attributes=attributes, kind="server")


def _method_of(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in _METHODS else "other"


def _host_refusal(scope: Scope, hosts: int) -> PawlError | None:
    """RFC 9112, 3.2: a request names one host, so that nobody in between takes it for another's."""
    if hosts > 1:
        return PawlError("duplicate_header", "the header host occurs twice")
    if hosts == 0 and scope["http_version"] == "1.1":
        return PawlError("bad_request", "the header host is missing")
    return None


def _head_bytes(scope: Scope) -> int:
    head: int = sum(len(name) + len(value) for name, value in scope["headers"])
    return head + len(scope["raw_path"]) + len(scope["query_string"])


def _is_plain(scope: Scope) -> bool:
    """Whether the path says what it seems to say: no control characters, no hidden separators."""
    raw = scope["raw_path"].lower()
    if b"%" not in raw:
        return True
    path: str = scope["path"]
    return b"%2f" not in raw and b"%5c" not in raw and path.isprintable() and "\ufffd" not in path


def _stopping() -> PawlError:
    return PawlError("unavailable", "this gateway is stopping", retry_after_seconds=1)


def _unexpected() -> Response:
    return problem(PawlError("internal", "Pawl failed; the gateway's log says why"))
