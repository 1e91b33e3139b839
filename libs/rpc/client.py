"""Channels whose every call carries a deadline, a request id and a token, and fails with PawlError.

Deadlines are set per call only: a `timeout` in a gRPC service config fires early in Python
(grpc/grpc issues 40633 and 34547). Nothing here retries.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

import grpc

from libs.core.errors import PawlError
from libs.process.logs import get_logger
from libs.rpc.context import (
    AUTHORIZATION_HEADER,
    REQUEST_ID_HEADER,
    TRACEPARENT_HEADER,
    current,
)
from libs.rpc.errors import DETAILS_KEY, from_rpc_error
from libs.rpc.server import MAX_MESSAGE_BYTES
from libs.rpc.tls import TlsFiles, channel_credentials
from libs.rpc.tokens import ServiceTokens

NO_DEADLINE = math.inf
"""Said explicitly by the few streams that stay open for as long as both sides live."""

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # How long connecting and its handshake may take; not a pause. On a busy machine it is long.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    # A restarted service is found again at once, not within gRPC's default two minutes; and an
    # executor that is back within 3 s keeps its tasks.
    ("grpc.max_reconnect_backoff_ms", 500),
    # Nor is its name asked for only every 30 s: a new container has a new address.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
)

LOG_PAUSE_SECONDS = 10.0

Metadata = tuple[tuple[str, str], ...]
Stub = TypeVar("Stub")
Request = TypeVar("Request")
Response = TypeVar("Response")

log = get_logger(__name__)
_caller_token: ContextVar[str | None] = ContextVar("pawl_caller_token", default=None)
_behalf: ContextVar[tuple[UUID | None, UUID | None]] = ContextVar(
    "pawl_on_behalf", default=(None, None)
)


@contextmanager
def caller_token(token: str) -> Iterator[None]:
    """Calls inside the block carry this caller token instead of the service's own."""
    reset = _caller_token.set(token)
    try:
        yield
    finally:
        _caller_token.reset(reset)


@contextmanager
def on_behalf(*, tenant_id: UUID, task_id: UUID | None = None) -> Iterator[None]:
    """Calls inside the block carry a service token that names this tenant and task."""
    reset = _behalf.set((tenant_id, task_id))
    try:
        yield
    finally:
        _behalf.reset(reset)


class RpcChannel:
    """A channel to one service (`target` host:port, or a gRPC name of several).

    With `tls` the other side must show a certificate with the name of the service, `audience`,
    whatever its address is.
    """

    def __init__(
        self,
        target: str,
        *,
        audience: str,
        tokens: ServiceTokens | None = None,
        tls: TlsFiles | None = None,
        timeout_seconds: float = 5.0,
    ) -> None:
        self.target = target
        self.channel = _open(target, audience=audience, tls=tls)
        self._audience = audience
        self._tokens = tokens
        self._timeout_seconds = timeout_seconds
        self._next_log = -math.inf

    def stub(self, make: Callable[[grpc.aio.Channel], Stub]) -> Stub:
        """A generated stub over this channel; calls take `timeout=` (seconds, or NO_DEADLINE)."""
        return make(cast("grpc.aio.Channel", _Calls(self)))

    async def ready(self, timeout_seconds: float) -> None:
        """Return once connected; PawlError `unavailable` after `timeout_seconds`."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.channel.channel_ready()
        except TimeoutError as error:
            message = f"{self._audience} at {self.target} cannot be reached"
            raise PawlError("unavailable", message, retry_after_seconds=1) from error

    async def close(self) -> None:
        """Close at once; open calls end with `unavailable`."""
        await self.channel.close()

    def timeout(self, asked: float | None) -> float | None:
        """Seconds for a call: what was asked, else the channel's; never beyond our own caller's
        deadline.
        """
        seconds = self._timeout_seconds if asked is None else asked
        deadline = current().deadline
        if deadline is not None:
            seconds = min(seconds, max(0.001, deadline - time.monotonic()))
        return None if seconds == NO_DEADLINE else seconds

    def refusal(self, error: grpc.aio.AioRpcError) -> PawlError:
        """What a failed call is to its caller; why there is no connection is for our log only.

        The log has it at most every 10 s: while a service is away, every call fails.
        """
        bare = DETAILS_KEY not in dict(error.trailing_metadata() or ())
        now = time.monotonic()
        if bare and error.code() is grpc.StatusCode.UNAVAILABLE and now >= self._next_log:
            self._next_log = now + LOG_PAUSE_SECONDS
            log.warning(
                "call found no connection",
                service=self._audience,
                target=self.target,
                error=error.details(),
            )
        return from_rpc_error(error)

    def metadata(self) -> Metadata:
        """Request id, traceparent and token of the call being made."""
        context = current()
        pairs = []
        if context.request_id:
            pairs.append((REQUEST_ID_HEADER, context.request_id))
        if context.traceparent:
            pairs.append((TRACEPARENT_HEADER, context.traceparent))
        token = _caller_token.get()
        if token is None and self._tokens is not None:
            tenant_id, task_id = _behalf.get()
            token = self._tokens.token_for(self._audience, tenant_id=tenant_id, task_id=task_id)
        if token is not None:
            pairs.append((AUTHORIZATION_HEADER, f"Bearer {token}"))
        return tuple(pairs)


def _open(target: str, *, audience: str, tls: TlsFiles | None) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(target, options=OPTIONS)
    options = (*OPTIONS, ("grpc.ssl_target_name_override", audience))
    return grpc.aio.secure_channel(target, channel_credentials(tls), options=options)


class StreamCall(Generic[Request, Response]):
    """An open bidirectional stream. Every method raises PawlError when the stream has failed."""

    def __init__(self, call: Any, channel: RpcChannel) -> None:
        self._call = call
        self._channel = channel

    async def write(self, message: Request) -> None:
        """Send one message; returns when it is on its way."""
        try:
            await self._call.write(message)
        except grpc.aio.AioRpcError as error:
            raise self._channel.refusal(error) from error
        except asyncio.InvalidStateError as error:
            raise PawlError("unavailable", "the stream has ended", retry_after_seconds=1) from error

    async def read(self) -> Response | None:
        """The next message, or None when the other side has ended the stream well."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._channel.refusal(error) from error
        return None if message is grpc.aio.EOF else cast("Response", message)

    async def done_writing(self) -> None:
        """Say that nothing more will be written."""
        await self._call.done_writing()

    def cancel(self) -> None:
        """End the stream at once."""
        self._call.cancel()


class _Calls:
    """Stands in for the channel when a generated stub asks for its methods."""

    def __init__(self, channel: RpcChannel) -> None:
        self._channel = channel

    def unary_unary(self, path: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        inner = self._channel.channel.unary_unary(path, *args, **kwargs)
        channel = self._channel

        async def call(request: Any, *, timeout: float | None = None) -> Any:
            try:
                seconds = channel.timeout(timeout)
                return await inner(request, timeout=seconds, metadata=channel.metadata())
            except grpc.aio.AioRpcError as error:
                raise channel.refusal(error) from error

        return call

    def unary_stream(self, path: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        inner = self._channel.channel.unary_stream(path, *args, **kwargs)
        channel = self._channel

        async def call(request: Any, *, timeout: float | None = None) -> AsyncIterator[Any]:
            stream = inner(request, timeout=channel.timeout(timeout), metadata=channel.metadata())
            try:
                async for message in stream:
                    yield message
            except grpc.aio.AioRpcError as error:
                raise channel.refusal(error) from error
            finally:
                stream.cancel()

        return call

    def stream_stream(self, path: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        inner = self._channel.channel.stream_stream(path, *args, **kwargs)
        channel = self._channel

        def call(*, timeout: float | None = None) -> StreamCall[Any, Any]:
            seconds = channel.timeout(timeout)
            return StreamCall(inner(timeout=seconds, metadata=channel.metadata()), channel)

        return call
