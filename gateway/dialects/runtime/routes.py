"""The runtime dialect's routes: parse, one call, map."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from gateway.answers import json_answer
from gateway.body import read_body
from gateway.call import Call, open_call
from gateway.dialects.runtime import mapping, schemas, streams, trace
from gateway.events import event_stream, frames_of, last_event_id, watch
from gateway.idempotency import HEADER, REPLAYED_HEADER, parse_key
from gateway.openapi import BODY_REFUSALS, IDEMPOTENCY_KEY, LAST_EVENT_ID, REFUSALS, WAIT, reads
from gateway.openapi import event_stream as documented_stream
from gateway.optional_body import read_optional_body
from gateway.query import wait_seconds_of
from gateway.route import Route
from gateway.submitting import submit
from gateway.tasks import TERMINAL, task_id_of
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2
from libs.rpc.client import caller_token

CALL_SECONDS = 5.0
TRACE_SECONDS = 30.0
MAX_SEQ = 2**31 - 1

router = APIRouter(route_class=Route, tags=["Tasks"])
TaskId = Annotated[
    str, Path(description="A UUID, or task_ and a UUID.", examples=[schemas.TASK_ID])
]


@router.post(
    mapping.EXECUTE_PATH,
    summary="Submit a task",
    response_model=schemas.Execution,
    responses=BODY_REFUSALS,
    openapi_extra=reads(WAIT, IDEMPOTENCY_KEY, body=schemas.ExecuteRequest),
)
async def execute_task(request: Request) -> Response:
    """Store a task with its plan and queue it. The answer says how it stands, at once or after
    `wait` seconds. The same Idempotency-Key and body give the same task.
    """
    call = await open_call(request, query=("wait",))
    options = _options(request, call)
    parse = partial(mapping.submission, options=options)
    with mapping.in_this_dialect():
        said = await submit(call, await read_body(request, parse))
    return _accepted(call, said)


@router.post(
    mapping.REPLAY_PATH,
    summary="Replay a task",
    response_model=schemas.Execution,
    responses=BODY_REFUSALS,
    openapi_extra=reads(WAIT, IDEMPOTENCY_KEY, body=schemas.ReplayRequest, is_body_required=False),
)
async def replay_task(request: Request, task_id: TaskId) -> Response:
    """Make a new task with the plan, input, limits, tools and clock of one that has ended, and
    answer as execute does. The trace of the new task says whether it came to the same. A task that
    has not ended, or was never planned, is 409.
    """
    call = await open_call(request, query=("wait",))
    options = _options(request, call)
    known = task_id_of(task_id)
    parse = partial(mapping.replay, task_id=known, options=options)
    asked = await read_optional_body(request, parse)
    with caller_token(call.token), mapping.in_this_dialect():
        timeout = options.wait_seconds + CALL_SECONDS
        said = await call.clients.scheduler.ReplayTask(asked, timeout=timeout)
    return _accepted(call, said)


@router.get(
    "/api/v1/tasks/{task_id}",
    summary="Look at a task",
    response_model=schemas.Task,
    responses=REFUSALS,
    openapi_extra=reads(WAIT),
)
async def get_task(request: Request, task_id: TaskId) -> Response:
    """The task with its plan and result."""
    call = await open_call(request, query=("wait",))
    wait = wait_seconds_of(call.query)
    known = task_id_of(task_id)
    asked = scheduler_service_pb2.GetTaskRequest(task_id=known, wait_seconds=wait)
    with caller_token(call.token), mapping.in_this_dialect():
        said = await call.clients.scheduler.GetTask(asked, timeout=wait + CALL_SECONDS)
    return json_answer(mapping.task_record(said.task, version=call.gateway.version))


@router.get(
    "/api/v1/tasks/{task_id}/trace",
    summary="Look at everything that happened to a task",
    response_model=schemas.Trace,
    responses=REFUSALS,
)
async def get_task_trace(request: Request, task_id: TaskId) -> Response:
    """Events, steps, summary and what is needed to verify the hashes offline."""
    call = await open_call(request)
    asked = scheduler_service_pb2.GetTraceRequest(task_id=task_id_of(task_id))
    with caller_token(call.token), mapping.in_this_dialect():
        pages = call.clients.scheduler.GetTrace(asked, timeout=TRACE_SECONDS)
        record = trace.collected([said.page async for said in pages])
    return json_answer(trace.trace_record(record, version=call.gateway.version))


@router.get(
    "/api/v1/tasks/{task_id}/events",
    summary="Follow a task",
    response_class=Response,
    responses=REFUSALS
    | documented_stream(
        "The task's events from the first, or after Last-Event-ID, to the last.",
        streams.EXAMPLE,
    )
    | {204: {"description": "The task has ended and Last-Event-ID is its last event."}},
    openapi_extra=reads(LAST_EVENT_ID),
)
async def follow_task(request: Request, task_id: TaskId) -> Response:
    """Server-Sent Events; `id` is the event's seq. The stream ends with the task."""
    call = await open_call(request)
    known = task_id_of(task_id)
    after = last_event_id(request, maximum=MAX_SEQ) or 0
    with caller_token(call.token), mapping.in_this_dialect():
        asked = scheduler_service_pb2.GetTaskRequest(task_id=known)
        task = (await call.clients.scheduler.GetTask(asked)).task
    if task.state in TERMINAL and after >= task.seq:
        return Response(status_code=204)
    wanted = scheduler_service_pb2.WatchEventsRequest(task_id=known, after_seq=after)
    stream = watch(call, wanted)
    return event_stream(
        request, frames_of(call, stream, as_frame=streams.task_frame, is_last=streams.is_last)
    )


def _options(request: Request, call: Call) -> mapping.Options:
    """What comes beside the body of a create."""
    wait = wait_seconds_of(call.query)
    key = request.headers.get(HEADER)
    return mapping.Options(
        wait_seconds=wait, idempotency_key=None if key is None else parse_key(key)
    )


def _accepted(
    call: Call,
    said: scheduler_service_pb2.SubmitTaskResponse | scheduler_service_pb2.ReplayTaskResponse,
) -> Response:
    """The answer to a create."""
    answer = mapping.execution(
        said.task, version=call.gateway.version, now=call.gateway.clock.now()
    )
    return json_answer(answer, headers={REPLAYED_HEADER: "true"} if said.replayed else None)
