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
from gateway.looking import ASK_AGAIN_SECONDS, has_outlived, still_lives, while_key_lives
from libs.core.errors import PawlError, field_error
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2, task_pb2
from libs.process.logs import get_logger
from libs.rpc.client import NO_DEADLINE, caller_token

PING_SECONDS = 15
RECONNECT_MS = 1000
OUTAGE_SECONDS = 60.0
"""How long a stream waits for an auth that is away; nothing comes meanwhile."""
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


class Following:
    """A stream of the scheduler's events that outlives its tokens: the scheduler ends it with the
    token that opened it, and for a living key it is taken up after what came last.
    """

    def __init__(self, call: Call, wanted: scheduler_service_pb2.WatchEventsRequest) -> None:
        self._call = call
        self._wanted = wanted
        self._used = ""
        self._answers = self._open()

    async def next(self) -> scheduler_service_pb2.WatchEventsResponse | None:
        """The next answer; None when the scheduler has ended the stream.

        PawlError when it refuses or breaks off, unauthenticated once the key lives no more.
        """
        while True:
            answer = await while_key_lives(self._call, self._read())
            if answer is not None:
                self._note(answer)
                return answer
            if not has_outlived(self._call, self._used):
                return None
            await self._take_another_token()
            self._answers = self._open()

    async def _read(self) -> scheduler_service_pb2.WatchEventsResponse | None:
        # The stream is opened, with the token of that moment, by the first read.
        self._used = self._used or self._call.token
        with caller_token(self._used):
            return await anext(self._answers, None)

    async def _take_another_token(self) -> None:
        """PawlError unavailable when auth is away for too long."""
        clock = self._call.gateway.clock
        end = clock.monotonic() + OUTAGE_SECONDS
        while clock.monotonic() < end:
            await still_lives(self._call, used=self._used)
            if self._call.token != self._used:
                self._used = ""
                return
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        raise PawlError("unavailable", "auth cannot be asked", retry_after_seconds=1)

    async def close(self) -> None:
        """End the stream."""
        await self._answers.aclose()

    def _open(self) -> Answers:
        stream = self._call.clients.scheduler.WatchEvents(self._wanted, timeout=NO_DEADLINE)
        return cast("Answers", stream)

    def _note(self, answer: scheduler_service_pb2.WatchEventsResponse) -> None:
        wanted = self._wanted
        if wanted.HasField("task_id"):
            wanted.after_seq = answer.events[-1].seq
        elif answer.events:
            wanted.after_position = answer.events[-1].position
        elif answer.HasField("position"):
            wanted.after_position = answer.position


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
    following: Following,
    *,
    as_frame: Frame,
    is_last: IsLast = _never,
) -> AsyncGenerator[ServerSentEvent, None]:
    """The stream's events, until the last one or until the scheduler ends the stream.

    A stream that breaks off ends the answer: the client comes back with Last-Event-ID.
    """
    yield ServerSentEvent(comment="open", retry=RECONNECT_MS)
    pending = asyncio.ensure_future(following.next())
    try:
        while (answer := await pending) is not None:
            for event in answer.events:
                yield as_frame(event)
                if is_last(event):
                    return
            pending = asyncio.ensure_future(following.next())
    except PawlError as error:
        log.info("event stream ended early", code=error.code)
    finally:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
        await following.close()
