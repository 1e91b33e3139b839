"""The agents dialect's routes: parse, one call, map."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from gateway.answers import json_answer
from gateway.call import open_call
from gateway.dialects.agents import mapping, schemas
from gateway.openapi import BODY_REFUSALS, reads
from gateway.optional_body import read_optional_body
from gateway.route import Route
from gateway.tasks import task_id_of
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2
from libs.rpc.client import caller_token

CANCEL_SECONDS = 10.0
"""A step has 5 s to end, and the scheduler answers after 6."""

router = APIRouter(route_class=Route, tags=["Tasks of agents"])
TaskId = Annotated[
    str, Path(description="A UUID, or task_ and a UUID.", examples=[schemas.TASK_ID])
]


@router.post(
    "/v1/tasks/{task_id}/cancel",
    summary="Cancel a task",
    response_model=schemas.AgentTask,
    responses=BODY_REFUSALS,
    openapi_extra=reads(body=schemas.CancelTask, is_body_required=False),
)
async def cancel_task(request: Request, task_id: TaskId) -> Response:
    """Kills what runs of it; no step starts after that. The answer is the task once it has ended,
    or as it stands after some seconds: then it still will. One that had ended is 409.
    """
    call = await open_call(request)
    asked = scheduler_service_pb2.CancelTaskRequest(task_id=task_id_of(task_id))
    await read_optional_body(request, mapping.no_members)
    with caller_token(call.token), mapping.in_this_dialect():
        said = await call.clients.scheduler.CancelTask(asked, timeout=CANCEL_SECONDS)
    return json_answer(mapping.task_record(said.task))
