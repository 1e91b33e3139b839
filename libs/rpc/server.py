"""A grpc.aio server that authenticates, binds the call's context, and turns refusals into typed
statuses.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from prometheus_client import Counter, Histogram
from structlog.contextvars import bind_contextvars

from libs.core.errors import PawlError
from libs.process.logs import get_logger
from libs.process.tracing import Span, UnexportedSpan, span, trace_id_of
from libs.rpc.context import (
    AUTHORIZATION_HEADER,
    REQUEST_ID_HEADER,
    TRACEPARENT_HEADER,
    CallContext,
    Caller,
    Principal,
    Service,
    enter,
    new_request_id,
)
from libs.rpc.errors import to_status
from libs.rpc.tls import NAMES_KEY, TlsFiles, server_credentials
from libs.rpc.tokens import TokenVerifier

CALLER = "caller"
ANYONE = "anyone"
MAX_MESSAGE_BYTES = 16 * 2**20
MAX_REQUEST_ID = 128

OPTIONS: tuple[tuple[str, int], ...] = (
    # Defaults refuse bursts of a few thousand calls with RST_STREAM; work is bounded by the
    # services.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
)

Access = Mapping[str, frozenset[str]]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Translate = Callable[[Exception], PawlError | None]

log = get_logger(__name__)
_calls = Counter("pawl_rpc_total", "Calls served, by method and code", ["method", "code"])
_seconds = Histogram("pawl_rpc_seconds", "Seconds per served call", ["method"])


class RpcServer:
    """One service's gRPC endpoint: health, reflection, access by token, drain on stop.

    `access` names for every method who may call it: services by name, "caller" for any caller
    token, "anyone" for no token; a service named beside "anyone" is known by its token. `translate`
    turns an adapter's exception (a database that is away) into a refusal. With `tls` only those are
    heard who show a certificate of the authority, and a service token counts only beside a
    certificate with the same name.
    """

    def __init__(
        self,
        *,
        service: str,
        address: str,
        verifier: TokenVerifier,
        access: Access,
        translate: Translate | None = None,
        tls: TlsFiles | None = None,
        max_concurrent_rpcs: int = 10_000,
        drain_seconds: float = 10.0,
    ) -> None:
        self._service = service
        self._address = address
        self._access = access
        self._drain_seconds = drain_seconds
        self._names: list[str] = []
        self._methods: set[str] = set()
        self._health = HealthServicer()
        self._credentials = None if tls is None else server_credentials(tls, service=service)
        self._gate = _Gate(verifier, access, translate, checks_names=tls is not None)
        self._server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=max_concurrent_rpcs)
        self.port = 0

    def add(
        self, register: Callable[[Any, grpc.aio.Server], None], servicer: object, name: str
    ) -> None:
        """Serve `servicer`; `register` is the generated add_…_to_server, `name` the full service
        name.
        """
        handlers = _Handlers()
        register(servicer, cast("grpc.aio.Server", handlers))
        guarded = {
            method: self._gate.guard(handler, f"/{name}/{method}")
            for method, handler in handlers.by_method.items()
        }
        generic = grpc.method_handlers_generic_handler(name, guarded)
        self._server.add_generic_rpc_handlers((generic,))
        self._names.append(name)

    async def start(self) -> int:
        """Listen and serve; returns the port. ValueError when a method has no row in `access`."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._names, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._check_access()
        if self._credentials is None:
            self.port = self._server.add_insecure_port(self._address)
        else:
            self.port = self._server.add_secure_port(self._address, self._credentials)
        await self._server.start()
        await self.set_serving(serving=True)
        log.info("serving", service=self._service, address=self._address, port=self.port)
        return self.port

    async def set_serving(self, *, serving: bool) -> None:
        """Say over gRPC health whether calls are welcome."""
        answer = health_pb2.HealthCheckResponse
        now = answer.SERVING if serving else answer.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, now)

    async def set_component(self, name: str, *, serving: bool) -> None:
        """Say over gRPC health, under a name of its own, how something stands that calls can do
        without.
        """
        answer = health_pb2.HealthCheckResponse
        await self._health.set(name, answer.SERVING if serving else answer.NOT_SERVING)

    async def stop(self) -> None:
        """Say "not serving", take no new calls, let the running ones end, then close."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._drain_seconds)

    def _check_access(self) -> None:
        for name in self._names:
            service = descriptor_pool.Default().FindServiceByName(name)
            for method in service.methods:
                path = f"/{name}/{method.name}"
                if path not in self._access:
                    raise ValueError(f"{path} has no row in the access table")


@dataclass(frozen=True, slots=True)
class _Call:
    """One call as its metadata say."""

    method: str
    request_id: str
    authorization: str
    span: Span


class _Handlers:
    """Stands in for the server when generated code registers a servicer's methods."""

    def __init__(self) -> None:
        self.by_method: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Nothing: the same handlers are named one by one."""

    def add_registered_method_handlers(self, _service: str, handlers: dict[str, Handler]) -> None:
        self.by_method |= handlers


class _Gate:
    """Token, context, errors, metrics: around every method of the server.

    Not an interceptor: one would make a handler anew for every call.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        access: Access,
        translate: Translate | None,
        *,
        checks_names: bool,
    ) -> None:
        self._verifier = verifier
        self._access = access
        self._translate = translate
        self._checks_names = checks_names

    def guard(self, handler: Handler, method: str) -> Handler:
        """The same handler with context, errors and metrics around it; four shapes of RPC, two of
        answer.
        """
        inner: Any = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        begin = partial(self._begin, method=method, has_span=not _is_both_ways(handler))
        seconds, succeeded = _seconds.labels(method), _calls.labels(method, "OK")
        readable: Any = _each_readable if handler.request_streaming else _checked

        async def answer_once(request: Any, context: Context) -> Any:
            began = time.perf_counter()
            call = begin(context)
            with call.span:
                try:
                    self._enter(call, context)
                    response = await inner(readable(request), context)
                except Exception as error:  # noqa: BLE001 - the one place that answers every error
                    await self._fail(error, method, call.span, context)
                finally:
                    seconds.observe(time.perf_counter() - began)
                succeeded.inc()
                call.span.set("rpc.response.status_code", "OK")
                log.debug("call answered", method=method, code="ok")
                return response

        async def answer_many(request: Any, context: Context) -> AsyncIterator[Any]:
            call = begin(context)
            with call.span:
                try:
                    self._enter(call, context)
                    async for response in inner(readable(request), context):
                        yield response
                except Exception as error:  # noqa: BLE001 - the one place that answers every error
                    await self._fail(error, method, call.span, context)
                succeeded.inc()
                call.span.set("rpc.response.status_code", "OK")
                log.debug("call answered", method=method, code="ok")

        make: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        behaviour = answer_many if handler.response_streaming else answer_once
        return cast(
            "Handler",
            make(behaviour, _reader(handler.request_deserializer), handler.response_serializer),
        )

    def _admit(self, method: str, authorization: str) -> Principal | None:
        allowed = self._access.get(method, frozenset())
        if ANYONE in allowed:
            return self._known(authorization, allowed)
        if not authorization.startswith("Bearer "):
            raise PawlError("unauthenticated", "metadata authorization: Bearer <token> is missing")
        principal = self._verifier.verify(authorization.removeprefix("Bearer "))
        name = _name_of(principal)
        if name not in allowed:
            raise PawlError("permission_denied", f"{name} may not call {method}")
        return principal

    def _known(self, authorization: str, allowed: frozenset[str]) -> Principal | None:
        """Who calls what anyone may call, when it is one of those named beside; else nobody."""
        if len(allowed) == 1 or not authorization.startswith("Bearer "):
            return None
        try:
            principal = self._verifier.verify(authorization.removeprefix("Bearer "))
        except PawlError:
            return None
        return principal if _name_of(principal) in allowed else None

    def _begin(self, context: Context, *, method: str, has_span: bool) -> _Call:
        metadata = dict(context.invocation_metadata() or ())
        request_id = _request_id(_text(metadata.get(REQUEST_ID_HEADER)))
        traceparent = _text(metadata.get(TRACEPARENT_HEADER))
        authorization = _text(metadata.get(AUTHORIZATION_HEADER))
        # A stream both ways has no span: it lasts, and its messages belong to the traces of other
        # calls.
        opened = (
            _span(method, request_id=request_id, traceparent=traceparent)
            if has_span
            else UnexportedSpan(traceparent)
        )
        return _Call(method, request_id, authorization, opened)

    def _enter(self, call: _Call, context: Context) -> None:
        """Bind the context of the call; PawlError when it is not admitted."""
        principal = self._admit(call.method, call.authorization)
        if self._checks_names and isinstance(principal, Service):
            _check_name(principal, context)
        traceparent = call.span.traceparent
        if trace_id := trace_id_of(traceparent):
            bind_contextvars(request_id=call.request_id, trace_id=trace_id)
        else:
            bind_contextvars(request_id=call.request_id)
        left = context.time_remaining()
        enter(
            CallContext(
                request_id=call.request_id,
                traceparent=traceparent,
                principal=principal,
                deadline=None if left is None else time.monotonic() + left,
            )
        )

    async def _fail(self, error: Exception, method: str, call: Span, context: Context) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError | asyncio.CancelledError):
            raise error
        refusal = error if isinstance(error, PawlError) else None
        if refusal is None and self._translate is not None:
            refusal = self._translate(error)
        if refusal is None:
            log.error("call failed unexpectedly", method=method, exc_info=error)
            refusal = PawlError("internal", "Pawl failed; the log of the service says why")
        elif refusal.kind.http >= 500:
            log.warning("call failed", method=method, code=refusal.code, error=refusal.message)
        else:
            log.debug("call answered", method=method, code=refusal.code)
        _calls.labels(method, refusal.kind.grpc).inc()
        call.set("rpc.response.status_code", refusal.kind.grpc)
        if refusal.kind.http >= 500:
            call.fail(refusal.code)
        await context.abort_with_status(to_status(refusal))
        raise AssertionError("abort returns never")


def _name_of(principal: Principal) -> str:
    return CALLER if isinstance(principal, Caller) else principal.name


def _check_name(service: Service, context: Context) -> None:
    """PawlError `unauthenticated` unless the connection's certificate is that of the service."""
    names = context.auth_context().get(NAMES_KEY, ())
    if service.name.encode() not in names:
        shown = b", ".join(names).decode("utf-8", "replace") or "nobody"
        raise PawlError(
            "unauthenticated",
            f"the token is of {service.name}, the certificate of the connection of {shown}",
        )


def _is_both_ways(handler: Handler) -> bool:
    return bool(handler.request_streaming and handler.response_streaming)


def _span(method: str, *, request_id: str, traceparent: str) -> Span:
    name = method.removeprefix("/")
    attributes = {"rpc.system.name": "grpc", "rpc.method": name, "pawl.request_id": request_id}
    return span(name, traceparent=traceparent, attributes=attributes, kind="server")


def _request_id(sent: str) -> str:
    """What was sent, when it can be one, else a new one: it goes into every log and event."""
    return sent if 0 < len(sent) <= MAX_REQUEST_ID else new_request_id()


def _text(value: str | bytes | None) -> str:
    return value if isinstance(value, str) else ""


class _Unreadable:
    """Stands for a message that is not the protobuf that the method takes."""


_UNREADABLE = _Unreadable()


def _reader(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Read a message without raising: gRPC would answer UNKNOWN, with the decoder's own words."""

    def read(data: bytes) -> Any:
        try:
            return deserialize(data) if deserialize is not None else data
        except DecodeError:
            return _UNREADABLE

    return read


async def _each_readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)


def _checked(request: Any) -> Any:
    if request is _UNREADABLE:
        raise PawlError("bad_request", "the message is not the protobuf that this method takes")
    return request
