"""The Work stream's protos to the scheduler's model and back; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

from libs.core.errors import Failure, field_error
from libs.core.ids import parse_id
from libs.core.lifecycle import TaskState
from libs.pb.pawl.common.v1 import failure_pb2
from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as work_pb
from libs.rpc.convert import (
    failure_from_proto,
    failure_to_proto,
    plan_to_proto,
    to_timestamp,
    tool_ref_from_proto,
    tool_ref_to_proto,
)
from services.scheduler.failure_text import MAX_MESSAGE
from services.scheduler.model import (
    Assigned,
    ExecutorHello,
    Report,
    RunningTask,
    StepClosed,
    StopOrder,
    TaskEnd,
    Verdict,
)
from services.scheduler.replay_model import Recall, RecordedAnswer
from services.scheduler.reports import MalformedReportError

MAX_SLOTS = 1000
MAX_NAME = 128
MAX_BOOTS = 1000

_ACKS = {verdict: work_pb.AckStatus.Value(f"ACK_STATUS_{verdict.name}") for verdict in Verdict}
_STATES = {task_pb2.TaskState.Value(f"TASK_STATE_{state.name}"): state for state in TaskState}


def boot_ids(message: work_pb.JudgeBootsRequest) -> list[UUID]:
    """The boots that are asked for; PawlError validation_failed for too many and for no UUID."""
    if len(message.boot_ids) > MAX_BOOTS:
        said = f"{len(message.boot_ids)} are given; {MAX_BOOTS} are allowed"
        raise field_error("validation_failed", "boot_ids", said)
    ids = [parse_id(text) for text in message.boot_ids]
    if None in ids:
        raise field_error("validation_failed", f"boot_ids[{ids.index(None)}]", "it is not a UUID")
    return [boot_id for boot_id in ids if boot_id is not None]


def hello(message: work_pb.Hello) -> ExecutorHello:
    """An executor's hello; PawlError validation_failed names what is wrong with it."""
    boot_id = parse_id(message.boot_id)
    if boot_id is None:
        raise field_error("validation_failed", "hello.boot_id", "it is not a UUID")
    if not (1 <= len(message.executor_id) <= MAX_NAME and message.executor_id.isprintable()):
        raise field_error(
            "validation_failed", "hello.executor_id", "it needs 1 to 128 printable characters"
        )
    if not all(tool_ref_from_proto(tool).offer.isprintable() for tool in message.tools):
        raise field_error("validation_failed", "hello.tools", "a tool's name is not printable")
    if not 1 <= message.slots <= MAX_SLOTS:
        raise field_error("validation_failed", "hello.slots", f"it must be 1 to {MAX_SLOTS}")
    return ExecutorHello(
        executor_id=message.executor_id,
        boot_id=boot_id,
        slots=message.slots,
        offers=tuple(sorted({tool_ref_from_proto(tool).offer for tool in message.tools})),
        running=tuple(
            RunningTask(task_id=known, lease_token=task.lease_token)
            for task in message.running
            if (known := parse_id(task.task_id)) is not None
        ),
    )


def hello_reply(
    *, keep: Iterable[UUID], stop: Iterable[UUID], lease_seconds: float
) -> work_pb.WorkResponse:
    """The first answer."""
    return work_pb.WorkResponse(
        hello=work_pb.HelloReply(
            keep_task_ids=[str(task_id) for task_id in keep],
            stop_task_ids=[str(task_id) for task_id in stop],
            lease_seconds=lease_seconds,
        )
    )


def report(message: work_pb.StepReport, *, task_id: UUID) -> Report:
    """A report; MalformedReportError for a word that nobody knows."""
    return Report(
        task_id=task_id,
        lease_token=message.lease_token,
        closed=_closed(message.finished) if message.HasField("finished") else None,
        begins=message.started_step_index if message.HasField("started_step_index") else None,
        end=_end(message.end) if message.HasField("end") else None,
    )


def assignment(task: Assigned) -> work_pb.Assignment:
    """A task to run."""
    return work_pb.Assignment(
        task_id=str(task.task_id),
        tenant_id=str(task.tenant_id),
        lease_token=task.lease_token,
        plan=plan_to_proto(task.plan),
        tool_set=[
            tool_ref_to_proto(tool)
            for tool in task.tool_set
            if tool.name not in task.recorded_tools
        ],
        task_input_json=task.task_input,
        plan_hash=task.plan_hash,
        closed_output_json=task.closed_outputs,
        last_step_hash=task.last_step_hash,
        seconds_left=task.seconds_left,
        created_at=to_timestamp(task.clock_at),
        mode=task.mode,
        traceparent=task.traceparent,
        request_id=task.request_id,
        tokens_used=task.tokens_used,
        cost_usd=task.cost_usd,
        recorded_tools=[
            tool_ref_to_proto(tool) for tool in task.tool_set if tool.name in task.recorded_tools
        ],
    )


def recall(message: work_pb.RecallStepRequest) -> Recall:
    """What is asked of a record; PawlError validation_failed for what cannot be asked."""
    task_id = parse_id(message.task_id)
    if task_id is None:
        raise field_error("validation_failed", "task_id", "it is not a UUID")
    return Recall(
        task_id=task_id,
        lease_token=message.lease_token,
        step_index=message.step_index,
        input_sha256=message.input_sha256,
    )


def recalled(answer: RecordedAnswer, *, input_sha256: str) -> work_pb.RecallStepResponse:
    """The recorded answer to a step with that input."""
    response = work_pb.RecallStepResponse(of_task_id=str(answer.of_task_id))
    if answer.input_sha256 is None:
        response.recall = work_pb.RECALL_NOT_FINISHED
    elif answer.input_sha256 != input_sha256:
        response.recall = work_pb.RECALL_OTHER_INPUT
    else:
        response.recall = work_pb.RECALL_FOUND
        if answer.output is not None:
            response.output_json = answer.output
        if answer.failure is not None:
            response.failure.CopyFrom(failure_to_proto(answer.failure))
    return response


def work_response(
    *,
    assignments: Iterable[Assigned],
    acks: Iterable[tuple[int, str, Verdict]],
    stops: Iterable[StopOrder],
    drain: bool,
) -> work_pb.WorkResponse:
    """One message to an executor; acks are (report id, task id as it came, verdict)."""
    return work_pb.WorkResponse(
        assignments=[assignment(task) for task in assignments],
        acks=[
            work_pb.Ack(report_id=report_id, task_id=task_id, status=_ACKS[verdict])
            for report_id, task_id, verdict in acks
        ],
        stops=[
            work_pb.Stop(
                task_id=str(stop.task_id),
                lease_token=stop.lease_token,
                reason=stop.reason,
                cancel=stop.is_cancel,
            )
            for stop in stops
        ],
        drain=drain,
    )


def _closed(message: work_pb.StepFinished) -> StepClosed:
    return StepClosed(
        step_index=message.step_index,
        resolved_input=message.resolved_input_json,
        output=message.output_json if message.HasField("output_json") else None,
        failure=_failure(message.failure) if message.HasField("failure") else None,
        step_hash=message.step_hash,
        schema_failures=message.schema_failures_json,
        cost_usd=message.cost_usd,
        tokens=message.tokens,
        sandbox_ms=message.sandbox_ms,
    )


def _end(message: work_pb.TaskEnd) -> TaskEnd:
    state = _STATES.get(message.state)
    if state is None:
        raise MalformedReportError(f"{message.state} is no state")
    failure = _failure(message.failure) if message.HasField("failure") else None
    return TaskEnd(
        state=state,
        failure=failure,
        cost_usd=message.cost_usd,
        tokens=message.tokens,
        sandbox_ms=message.sandbox_ms,
    )


def _failure(message: failure_pb2.Failure) -> Failure:
    """The failure, its words cut to what is stored: a tool's message may hold anything."""
    try:
        failure = failure_from_proto(message)
    except ValueError as error:
        raise MalformedReportError(str(error)) from error
    return replace(
        failure,
        message=_words(failure.message, MAX_MESSAGE) or failure.code.value,
        step=_words(failure.step, MAX_NAME),
        reason=_words(failure.reason, MAX_NAME),
    )


def _words(text: str | None, most: int) -> str | None:
    return None if text is None else text[:most].replace("\x00", "\ufffd")
