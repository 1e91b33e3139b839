"""GET /v1/events: every event of the tenant's tasks, in Pawl's own words."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from sse_starlette import ServerSentEvent

from gateway import openapi
from gateway.call import open_call
from gateway.dialects.runtime.mapping import STATES
from gateway.dialects.runtime.trace import event_record
from gateway.events import Following, event_stream, frame, frames_of, last_event_id
from gateway.route import Route
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2, task_pb2

MAX_POSITION = 2**63 - 1
EXAMPLE = (
    "id: 1024\n"
    "event: task.status_transition\n"
    'data: {"position":1024,"task_id":"0199d2a1-7c3e-7b52-9a64-3f0d5c1b8e27",'
    '"event":"task.status_transition",'
    '"payload":{"from":"running","to":"succeeded","at":"2026-02-27T11:18:03.002295+00:00"},'
    '"created_at":"2026-02-27T11:18:03.002295+00:00","seq":7}\n\n'
)

router = APIRouter(route_class=Route, tags=["Events"])


@router.get(
    "/v1/events",
    summary="Follow all tasks",
    response_class=Response,
    responses=openapi.REFUSALS
    | openapi.event_stream(
        "New events, or those after Last-Event-ID (0: all that are kept), without end.", EXAMPLE
    ),
    openapi_extra=openapi.reads(openapi.LAST_EVENT_ID),
)
async def follow_events(request: Request) -> Response:
    """Server-Sent Events; `id` is the event's position in the tenant's stream."""
    call = await open_call(request)
    after = last_event_id(request, maximum=MAX_POSITION)
    wanted = scheduler_service_pb2.WatchEventsRequest(after_position=after)
    following = Following(call, wanted)
    # The first answer has no events: the stream stands.
    await following.next()
    return event_stream(request, frames_of(following, as_frame=feed_frame))


def feed_frame(event: task_pb2.TaskEvent) -> ServerSentEvent:
    """One event of the tenant's stream; its id is the position."""
    record = event_record(event, words=STATES)
    data = {"position": event.position, "task_id": event.task_id} | record
    return frame(event_id=event.position, event=record["event"], data=data)
