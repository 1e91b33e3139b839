"""The runtime dialect's routes: parse, one call, map."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Annotated, TypeAlias, cast

from fastapi import APIRouter, Path, Request, Response

from gateway.answers import JsonOut, json_answer, not_modified, page_answer
from gateway.body import read_body
from gateway.call import Call, open_call
from gateway.conditional import MATCH_HEADER, has_it, weak_etag
from gateway.dialects.runtime import (
    lists,
    many_schemas,
    mapping,
    schemas,
    streams,
    trace,
    trace_schemas,
)
from gateway.dialects.runtime.documents import (
    ACCEPTED,
    ALL_ACCEPTED,
    CREATE,
    LIST_QUERY,
    LISTED,
    LOOK,
    LOOKED_AT,
    STREAMED,
    TRACED,
)
from gateway.events import Following, event_stream, frames_of, last_event_id
from gateway.idempotency import HEADER, REPLAYED_HEADER, parse_key
from gateway.looking import CALL_SECONDS, look, waited
from gateway.openapi import IDEMPOTENCY_KEY, IF_NONE_MATCH, LAST_EVENT_ID, reads
from gateway.optional_body import read_optional_body
from gateway.polling import poll_headers
from gateway.route import Route
from gateway.submitting import submit
from gateway.tasks import TERMINAL, task_id_of
from gateway.wait import Wait, wait_of
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2, task_pb2
from libs.rpc.client import caller_token

BATCH_SECONDS = 20.0
TRACE_SECONDS = 30.0
MAX_SEQ = 2**31 - 1
REVALIDATED = "private, no-cache"
"""Kept by the caller alone, and never used without asking whether it still holds."""
NO_WAIT = Wait()

Traced: TypeAlias = scheduler_service_pb2.GetTraceResponse

router = APIRouter(route_class=Route, tags=["Tasks"])
TaskId = Annotated[
    str, Path(description="A UUID, or task_ and a UUID.", examples=[schemas.TASK_ID])
]


@router.post(
    mapping.EXECUTE_PATH,
    summary="Submit a task",
    response_model=schemas.Execution,
    responses=ACCEPTED,
    openapi_extra=reads(*CREATE, body=schemas.ExecuteRequest),
)
async def execute_task(request: Request) -> Response:
    """Store a task with its plan and queue it. The answer says how it stands, at once or after
    `wait` seconds. The same Idempotency-Key and body give the same task.
    """
    call = await open_call(request, query=("wait",))
    wait = wait_of(request, call.query)
    options = mapping.Options(wait_seconds=wait.seconds, idempotency_key=_key(request))
    parse = partial(mapping.submission, options=options)
    with mapping.in_this_dialect():
        said = await submit(call, await read_body(request, parse))
    return _accepted(call, said, wait=wait)


@router.post(
    mapping.BATCH_PATH,
    summary="Submit several tasks",
    response_model=many_schemas.BatchExecution,
    responses=ALL_ACCEPTED,
    openapi_extra=reads(IDEMPOTENCY_KEY, body=many_schemas.BatchRequest),
)
async def execute_batch(request: Request) -> Response:
    """Store all tasks and queue them, or none when one of them is refused; at most
    `max_tasks_per_request` of the account. The same Idempotency-Key and body give the same tasks.
    The answer comes at once; results are not in it, but in each task.
    """
    call = await open_call(request)
    asked = await read_body(request, partial(mapping.batch, idempotency_key=_key(request)))
    with caller_token(call.token), mapping.in_this_dialect():
        said = await call.clients.scheduler.SubmitTasks(asked, timeout=BATCH_SECONDS)
    version, now = call.gateway.version, call.gateway.clock.now()
    tasks = [mapping.execution(task, version=version, now=now) for task in said.tasks]
    headers = poll_headers(said.tasks, now=now) | _replayed(said.replayed)
    return json_answer({"version": version, "tasks": tasks}, headers=headers)


@router.post(
    mapping.REPLAY_PATH,
    summary="Replay a task",
    response_model=schemas.Execution,
    responses=ACCEPTED,
    openapi_extra=reads(*CREATE, body=schemas.ReplayRequest, is_body_required=False),
)
async def replay_task(request: Request, task_id: TaskId) -> Response:
    """Make a new task with the plan, input, limits, tools and clock of one that has ended, and
    answer as execute does. The trace of the new task says whether it came to the same. A task that
    has not ended, or was never planned, is 409.
    """
    call = await open_call(request, query=("wait",))
    wait = wait_of(request, call.query)
    options = mapping.Options(wait_seconds=wait.seconds, idempotency_key=_key(request))
    known = task_id_of(task_id)
    parse = partial(mapping.replay, task_id=known, options=options)
    asked = await read_optional_body(request, parse)
    with caller_token(call.token), mapping.in_this_dialect():
        timeout = wait.seconds + CALL_SECONDS
        replaying = call.clients.scheduler.ReplayTask(asked, timeout=timeout)
        said = await waited(call, replaying, wait_seconds=wait.seconds)
    return _accepted(call, said, wait=wait)


@router.get(
    mapping.TASKS_PATH,
    summary="List tasks",
    response_model=many_schemas.TaskList,
    responses=LISTED,
    openapi_extra=reads(*LIST_QUERY),
)
async def list_tasks(request: Request) -> Response:
    """Tasks, newest first, in pages that end early when their inputs and results are large. A task
    that stood when the first page was read is on exactly one page; one submitted later on none
    that follows.
    """
    call = await open_call(request, query=lists.PARAMETERS)
    asked = lists.asked(call.query)
    with caller_token(call.token), mapping.in_this_dialect():
        said = await call.clients.scheduler.ListTasks(asked, timeout=CALL_SECONDS)
    version = call.gateway.version
    tasks = [lists.listed_record(task, version=version) for task in said.tasks]
    return page_answer(tasks, next_page_token=said.next_page_token)


@router.get(
    "/api/v1/tasks/{task_id}",
    summary="Look at a task",
    response_model=schemas.Task,
    responses=LOOKED_AT,
    openapi_extra=reads(*LOOK),
)
async def get_task(request: Request, task_id: TaskId) -> Response:
    """The task with its plan and result. With If-None-Match, 304 when it is as it was, also after a
    wait.
    """
    call = await open_call(request, query=("wait",))
    wait = wait_of(request, call.query)
    known = task_id_of(task_id)
    with mapping.in_this_dialect():
        task = await look(call, known, wait_seconds=wait.seconds)
    looked = _Look(request, call, task, kind="task", wait=wait)
    if looked.is_known:
        return looked.not_modified()
    return looked.answer(mapping.task_record(task, version=call.gateway.version))


@router.get(
    "/api/v1/tasks/{task_id}/trace",
    summary="Look at everything that happened to a task",
    response_model=trace_schemas.Trace,
    responses=TRACED,
    openapi_extra=reads(IF_NONE_MATCH),
)
async def get_task_trace(request: Request, task_id: TaskId) -> Response:
    """Events, steps, summary and what is needed to verify the hashes offline."""
    call = await open_call(request)
    asked = scheduler_service_pb2.GetTraceRequest(task_id=task_id_of(task_id))
    with caller_token(call.token), mapping.in_this_dialect():
        answers = call.clients.scheduler.GetTrace(asked, timeout=TRACE_SECONDS)
        async with aclosing(cast("AsyncGenerator[Traced, None]", answers)) as pages:
            first = (await anext(pages)).page
            looked = _Look(request, call, first.head.task, kind="trace")
            if looked.is_known:
                return looked.not_modified()
            record = trace.collected([first, *[said.page async for said in pages]])
    return looked.answer(trace.trace_record(record, version=call.gateway.version))


@router.get(
    "/api/v1/tasks/{task_id}/events",
    summary="Follow a task",
    response_class=Response,
    responses=STREAMED,
    openapi_extra=reads(LAST_EVENT_ID),
)
async def follow_task(request: Request, task_id: TaskId) -> Response:
    """Server-Sent Events; `id` is the event's seq. The stream ends with the task."""
    call = await open_call(request)
    known = task_id_of(task_id)
    after = last_event_id(request, maximum=MAX_SEQ) or 0
    with mapping.in_this_dialect():
        task = await look(call, known, wait_seconds=0)
    if task.state in TERMINAL and after >= task.seq:
        return Response(status_code=204)
    wanted = scheduler_service_pb2.WatchEventsRequest(task_id=known, after_seq=after)
    frames = frames_of(
        Following(call, wanted), as_frame=streams.task_frame, is_last=streams.is_last
    )
    return event_stream(request, frames)


class _Look:
    """An answer about a task as it stands, for a caller who may know it already."""

    def __init__(
        self, request: Request, call: Call, task: task_pb2.Task, *, kind: str, wait: Wait = NO_WAIT
    ) -> None:
        # What a waiting task waits for changes without an event of the task.
        queue = mapping.queue_record(task)
        etag = weak_etag(task.seq, kind, task.id, call.gateway.version, queue)
        self.is_known = has_it(request.headers.getlist(MATCH_HEADER), etag)
        self._headers = {
            "ETag": etag,
            "Cache-Control": REVALIDATED,
            **wait.headers,
            **poll_headers([task], now=call.gateway.clock.now()),
        }

    def answer(self, body: JsonOut) -> Response:
        """With the body."""
        return json_answer(body, headers=self._headers)

    def not_modified(self) -> Response:
        """Without."""
        return not_modified(self._headers)


def _key(request: Request) -> str | None:
    """The Idempotency-Key of a create."""
    text = request.headers.get(HEADER)
    return None if text is None else parse_key(text)


def _replayed(replayed: bool) -> dict[str, str]:
    return {REPLAYED_HEADER: "true"} if replayed else {}


def _accepted(
    call: Call,
    said: scheduler_service_pb2.SubmitTaskResponse | scheduler_service_pb2.ReplayTaskResponse,
    *,
    wait: Wait,
) -> Response:
    """The answer to a create."""
    now = call.gateway.clock.now()
    answer = mapping.execution(said.task, version=call.gateway.version, now=now)
    headers = {**wait.headers, **poll_headers([said.task], now=now), **_replayed(said.replayed)}
    return json_answer(answer, headers=headers)
