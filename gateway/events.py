"""Server-Sent Events: streams of the scheduler's events that a client can take up again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import cast

import orjson
from fastapi import Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from gateway.answers import JsonOut
from gateway.call import Call
from gateway.edge import HEAD_KEY
from libs.core.errors import PawlError, field_error
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2, task_pb2
from libs.process.logs import get_logger
from libs.rpc.client import NO_DEADLINE, caller_token

PING_SECONDS = 15
RECONNECT_MS = 1000
SEND_SECONDS = 15.0
"""A client that takes nothing for so long is let go; it comes back with Last-Event-ID."""

Answers = AsyncGenerator[scheduler_service_pb2.WatchEventsResponse, None]
Frame = Callable[[task_pb2.TaskEvent], ServerSentEvent]
IsLast = Callable[[task_pb2.TaskEvent], bool]

log = get_logger(__name__)


def last_event_id(request: Request, *, maximum: int) -> int | None:
    """The Last-Event-ID header, None when it is absent; validation_failed (422) when it is none."""
    text = request.headers.get("last-event-id", "")
    if not text:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= maximum:
        return int(text)
    detail = "it is not the id of an event of this stream"
    raise field_error("validation_failed", "Last-Event-ID", detail, fine="out_of_range")


def watch(call: Call, request: scheduler_service_pb2.WatchEventsRequest) -> Answers:
    """The scheduler's stream. It opens, with the caller's token, when its first answer is asked."""
    stream = call.clients.scheduler.WatchEvents(request, timeout=NO_DEADLINE)
    return cast("Answers", stream)


async def opened(call: Call, stream: Answers) -> scheduler_service_pb2.WatchEventsResponse:
    """The first answer of a stream that answers at once; PawlError when it refuses."""
    with caller_token(call.token):
        return await anext(stream)


def _never(_event: task_pb2.TaskEvent) -> bool:
    return False


def frame(*, event_id: int, event: str, data: JsonOut) -> ServerSentEvent:
    """One event as it goes over the wire."""
    return ServerSentEvent(orjson.dumps(data).decode(), id=str(event_id), event=event)


def event_stream(request: Request, frames: AsyncGenerator[ServerSentEvent, None]) -> Response:
    """The answer that sends `frames` as they come, with a comment every 15 s between them."""
    if request.scope.get(HEAD_KEY):
        return Response(media_type="text/event-stream")
    return EventSourceResponse(frames, ping=PING_SECONDS, send_timeout=SEND_SECONDS)


async def frames_of(
    call: Call,
    stream: Answers,
    *,
    as_frame: Frame,
    is_last: IsLast = _never,
    first: scheduler_service_pb2.WatchEventsResponse | None = None,
) -> AsyncGenerator[ServerSentEvent, None]:
    """The stream's events, until the last one or until the scheduler ends the stream.

    A stream that breaks off ends the answer: the client comes back with Last-Event-ID.
    """
    yield ServerSentEvent(comment="open", retry=RECONNECT_MS)
    with caller_token(call.token):
        pending = asyncio.ensure_future(_next(stream, first))
    try:
        while (answer := await pending) is not None:
            for event in answer.events:
                yield as_frame(event)
                if is_last(event):
                    return
            pending = asyncio.ensure_future(_next(stream))
    except PawlError as error:
        log.info("event stream ended early", code=error.code)
    finally:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
        await stream.aclose()


async def _next(
    stream: Answers, first: scheduler_service_pb2.WatchEventsResponse | None = None
) -> scheduler_service_pb2.WatchEventsResponse | None:
    return await anext(stream, None) if first is None else first
