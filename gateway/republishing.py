"""POST /v1/events/replay: events once more, from the event table."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from gateway.answers import json_answer
from gateway.body import read_body
from gateway.call import open_call
from gateway.members import Members
from gateway.openapi import BODY_REFUSALS, reads
from gateway.optional_members import ABSENT, Optional
from gateway.route import Route
from libs.core.canonical import Json
from libs.core.ids import parse_id
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2
from libs.rpc.client import caller_token

TASK_ID = "0199d2a1-7c3e-7b52-9a64-3f0d5c1b8e27"
ID_PATTERN = "^(task_)?[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"

router = APIRouter(route_class=Route, tags=["Events"])


class ReplayEvents(BaseModel):
    """Which events: those of a task, or those of the dead letters. One of the two."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"task_id": TASK_ID}, {"from_dead_letters": True}],
            "minProperties": 1,
            "maxProperties": 1,
        },
    )
    task_id: Optional[
        Annotated[
            str,
            Field(pattern=ID_PATTERN, description="A UUID, or task_ and a UUID."),
        ]
    ] = ABSENT
    from_dead_letters: Optional[Literal[True]] = ABSENT


class ReplayedEvents(BaseModel):
    """What goes out once more."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"events": 12, "letters": 0, "unknown_letters": 0}]}
    )
    events: int
    letters: int
    unknown_letters: int


@router.post(
    "/v1/events/replay",
    summary="Publish events anew",
    response_model=ReplayedEvents,
    responses=BODY_REFUSALS,
    openapi_extra=reads(body=ReplayEvents),
)
async def replay_events(request: Request) -> Response:
    """Consumers pass by what they handled, and handle what they had put aside. Needs operator."""
    call = await open_call(request)
    wanted = await read_body(request, wanted_of)
    with caller_token(call.token):
        said = await call.clients.scheduler.RepublishEvents(wanted)
    return json_answer(
        {
            "events": said.events,
            "letters": said.letters,
            "unknown_letters": said.unknown_letters,
        }
    )


def wanted_of(body: dict[str, Json]) -> scheduler_service_pb2.RepublishEventsRequest:
    """What a body asks for; exactly one of its two members must be there."""
    members = Members(body)
    named = members.text("task_id")
    from_letters = members.true("from_dead_letters")
    task_id = parse_id(named) if named else None
    if bool(named) is from_letters:
        members.refuse("task_id", "required", "either this or from_dead_letters must be there")
    elif named and task_id is None:
        members.refuse("task_id", "invalid_format", "it is not the id of a task")
    members.check()
    if task_id is None:
        return scheduler_service_pb2.RepublishEventsRequest(from_dead_letters=True)
    return scheduler_service_pb2.RepublishEventsRequest(task_id=str(task_id))
