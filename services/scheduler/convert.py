"""Protos to the scheduler's model and back; pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid5

from google.protobuf.timestamp_pb2 import Timestamp

from libs.core.api_key import MODES
from libs.core.canonical import canonical_text, read_canonical
from libs.core.comparison import Comparison, shown_values
from libs.core.errors import PawlError, field_error
from libs.core.ids import parse_id
from libs.core.lifecycle import TaskState
from libs.core.plan import plan_from_json
from libs.core.tool_spec import ToolRef
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2 as service_pb
from libs.pb.pawl.scheduler.v1 import task_pb2, trace_pb2
from libs.rpc.convert import (
    failure_to_proto,
    from_timestamp,
    limits_from_proto,
    plan_to_proto,
    to_timestamp,
    tool_ref_to_proto,
)
from services.scheduler.batch_model import Batch
from services.scheduler.batch_refusal import refusal
from services.scheduler.list_model import ListRequest, TaskFilter
from services.scheduler.model import (
    Agent,
    StepStatus,
    StoredEvent,
    StoredStep,
    StoredTask,
    Submission,
    TracePart,
    Waiting,
    WaitReason,
)
from services.scheduler.replay_model import ReplayMode, ReplayOf, ReplayRequest

_STATES = {state: task_pb2.TaskState.Value(f"TASK_STATE_{state.name}") for state in TaskState}
_REASONS = {
    reason: task_pb2.WaitReason.Value(f"WAIT_REASON_{reason.name}") for reason in WaitReason
}
_MODES = {mode: task_pb2.ReplayMode.Value(f"REPLAY_MODE_{mode.name}") for mode in ReplayMode}
_REPLAY_MODES = {
    task_pb2.REPLAY_MODE_UNSPECIFIED: ReplayMode.LIVE,
    **{value: mode for mode, value in _MODES.items()},
}
_OF_PROTO = {value: state for state, value in _STATES.items()}
_UNSPECIFIED = task_pb2.TaskState.TASK_STATE_UNSPECIFIED
_STATUSES = {
    status: trace_pb2.StepStatus.Value(f"STEP_STATUS_{status.name}") for status in StepStatus
}


def task_id(text: str) -> UUID:
    """The id of a request; what is no UUID names no task: PawlError not_found."""
    found = parse_id(text)
    if found is None:
        raise no_such_task()
    return found


def no_such_task() -> PawlError:
    """What is said of an unknown task, and of another tenant's in the very same words."""
    return PawlError("not_found", "there is no such task")


def submission(request: service_pb.SubmitTaskRequest) -> Submission:
    """A request to submit."""
    return Submission(
        task_input_json=request.task_input_json,
        plan_json=request.plan_json if request.HasField("plan_json") else None,
        asked=limits_from_proto(request.asked),
        priority=request.priority,
        key=request.idempotency_key if request.HasField("idempotency_key") else None,
        fingerprint=request.request_fingerprint,
        wait_seconds=request.wait_seconds,
        scheduled_at=_time(request.scheduled_at) if request.HasField("scheduled_at") else None,
        agent=_agent(request.agent) if request.HasField("agent") else None,
    )


def batch(request: service_pb.SubmitTasksRequest) -> Batch:
    """A request to submit several tasks. PawlError: what cannot be read, with its task."""
    submissions, refused = [], {}
    for place, one in enumerate(request.tasks):
        try:
            submissions.append(submission(one))
        except PawlError as error:
            refused[place] = error
    if (why := refusal(refused)) is not None:
        raise why
    return Batch(
        submissions=tuple(submissions),
        key=request.idempotency_key if request.HasField("idempotency_key") else None,
        fingerprint=request.request_fingerprint,
    )


def _time(message: Timestamp, field: str = "scheduled_at") -> datetime:
    try:
        return from_timestamp(message)
    except (ValueError, OverflowError) as error:
        raise field_error("validation_failed", field, f"no time: {error}") from error


def _agent(message: service_pb.AgentRef) -> Agent:
    agent_id = parse_id(message.agent_id)
    if agent_id is None:
        raise field_error("validation_failed", "agent.agent_id", "it is not a UUID")
    limited = message.HasField("max_concurrent_tasks")
    return Agent(
        agent_id=agent_id,
        max_concurrent_tasks=message.max_concurrent_tasks if limited else None,
    )


def replay_request(request: service_pb.ReplayTaskRequest) -> ReplayRequest:
    """A request to replay."""
    mode = _REPLAY_MODES.get(request.mode)
    if mode is None:
        raise field_error("validation_failed", "mode", f"{request.mode} is no mode")
    return ReplayRequest(
        task_id=task_id(request.task_id),
        mode=mode,
        key=request.idempotency_key if request.HasField("idempotency_key") else None,
        fingerprint=request.request_fingerprint,
        wait_seconds=request.wait_seconds,
    )


def list_request(request: service_pb.ListTasksRequest) -> ListRequest:
    """A request for a page of tasks. PawlError validation_failed for what no task can have."""
    unknown = [value for value in request.states if value not in _OF_PROTO]
    if unknown:
        raise field_error("validation_failed", "states", f"{unknown[0]} is no state of a task")
    if request.mode not in {"", *MODES}:
        detail = f"{request.mode[:64]!a} is no mode; it must be one of {', '.join(MODES)}"
        raise field_error("validation_failed", "mode", detail)
    agent_id = _optional_id(request, "agent_id")
    states = frozenset(_OF_PROTO[value] for value in request.states)
    wanted = TaskFilter(
        states=states or frozenset(TaskState),
        created_from=_optional_time(request, "created_from"),
        created_before=_optional_time(request, "created_before"),
        agent_ids=None if agent_id is None else frozenset({agent_id}),
        replay_of=_optional_id(request, "replay_of_task_id"),
        mode=request.mode or None,
    )
    return ListRequest(wanted=wanted, page_size=request.page_size, page_token=request.page_token)


def _optional_id(
    request: service_pb.ListTasksRequest, field: Literal["agent_id", "replay_of_task_id"]
) -> UUID | None:
    if not request.HasField(field):
        return None
    found = parse_id(getattr(request, field))
    if found is None:
        raise field_error("validation_failed", field, "it is not a UUID")
    return found


def _optional_time(
    request: service_pb.ListTasksRequest, field: Literal["created_from", "created_before"]
) -> datetime | None:
    return _time(getattr(request, field), field) if request.HasField(field) else None


def waiting_to_proto(waiting: Waiting) -> task_pb2.Waiting:
    """Why a task waits."""
    return task_pb2.Waiting(
        reason=_REASONS[waiting.reason], detail=waiting.detail, position=waiting.position
    )


def task_to_proto(task: StoredTask, *, waiting: Waiting | None = None) -> task_pb2.Task:
    """A task, and why it waits if that is known."""
    message = task_pb2.Task(
        id=str(task.id),
        tenant_id=str(task.tenant_id),
        state=_STATES[task.state],
        seq=task.seq,
        input_json=task.task_input,
        planned_by=task.planned_by,
        result_json=task.result,
        created_at=to_timestamp(task.created_at),
        cost_usd=task.cost_usd,
        mode=task.mode,
        priority=task.priority,
        plan_hash=task.plan_hash,
        task_hash=task.task_hash,
        planner_note=task.planner_note,
        tokens_used=task.tokens_used,
        agent_id=None if task.agent is None else str(task.agent.agent_id),
    )
    if task.scheduled_at is not None:
        message.scheduled_at.FromDatetime(task.scheduled_at)
    if task.cancel_requested_at is not None:
        message.cancel_requested_at.FromDatetime(task.cancel_requested_at)
    if waiting is not None:
        message.waiting.CopyFrom(waiting_to_proto(waiting))
    if task.plan is not None:
        message.plan.CopyFrom(plan_to_proto(plan_from_json(read_canonical(task.plan))))
    if task.failure is not None:
        message.failure.CopyFrom(failure_to_proto(task.failure))
    if task.execution_started_at is not None:
        message.execution_started_at.FromDatetime(task.execution_started_at)
    if task.finished_at is not None:
        message.finished_at.FromDatetime(task.finished_at)
    if task.replay is not None:
        message.replay_of_task_id = str(task.replay.task_id)
    return message


def task_of_batch_to_proto(task: StoredTask) -> task_pb2.Task:
    """A task as the answer to its batch says it: without its texts, which may be many together."""
    message = task_to_proto(replace(task, plan=None, result=None))
    message.ClearField("input_json")
    message.ClearField("planner_note")
    return message


def event_to_proto(event: StoredEvent) -> task_pb2.TaskEvent:
    """An event."""
    return task_pb2.TaskEvent(
        task_id=str(event.task_id),
        seq=event.seq,
        type=event.type,
        from_state=_STATES[event.from_state] if event.from_state else _UNSPECIFIED,
        to_state=_STATES[event.to_state],
        at=to_timestamp(event.at),
        data_json=event.data,
        position=event.position,
    )


def step_to_proto(step: StoredStep, tool: ToolRef, *, of_task: UUID) -> trace_pb2.StepRecord:
    """A step's record; its id follows from the task and the index."""
    message = trace_pb2.StepRecord(
        id=str(uuid5(of_task, str(step.step_index))),
        step_index=step.step_index,
        tool=tool_ref_to_proto(tool),
        resolved_input_json=step.resolved_input,
        output_json=step.output,
        status=_STATUSES[step.status],
        step_hash=step.step_hash,
        schema_failures_json=step.schema_failures,
        cost_usd=step.cost_usd,
        tokens=step.tokens,
        sandbox_ms=step.sandbox_ms,
    )
    if step.failure is not None:
        message.failure.CopyFrom(failure_to_proto(step.failure))
    if step.started_at is not None:
        message.started_at.FromDatetime(step.started_at)
    if step.finished_at is not None:
        message.finished_at.FromDatetime(step.finished_at)
    return message


def page_to_proto(part: TracePart, *, of_task: UUID) -> trace_pb2.TracePage:
    """A page of a trace."""
    page = trace_pb2.TracePage(
        events=[event_to_proto(event) for event in part.events],
        steps=[step_to_proto(step, tool, of_task=of_task) for step, tool in part.steps],
    )
    if part.head is not None:
        page.head.task.CopyFrom(task_to_proto(part.head, waiting=part.waiting))
        page.head.tool_set.extend(tool_ref_to_proto(tool) for tool in part.head.tool_set)
        if part.head.replay is not None:
            page.head.replay.CopyFrom(_replay_to_proto(part.head.replay, part.comparison))
    return page


def _replay_to_proto(replay: ReplayOf, comparison: Comparison | None) -> trace_pb2.Replay:
    message = trace_pb2.Replay(of_task_id=str(replay.task_id), mode=_MODES[replay.mode])
    if comparison is not None and comparison.matches is not None:
        message.matches = comparison.matches
    if comparison is not None and (first := comparison.first_divergence) is not None:
        original, replayed = shown_values(first)
        divergence = trace_pb2.Divergence(
            step_index=first.step_index,
            field=first.field.value,
            original_json=canonical_text(original),
            replayed_json=canonical_text(replayed),
        )
        message.first_divergence.CopyFrom(divergence)
    return message


def watched(request: service_pb.WatchEventsRequest) -> tuple[UUID | None, int, int | None]:
    """What to follow: the task or None, after which seq, after which position or None for new ones.

    PawlError validation_failed for what does not go together.
    """
    after_position = request.after_position if request.HasField("after_position") else None
    if request.after_seq < 0:
        raise field_error("validation_failed", "after_seq", "it must not be negative")
    if after_position is not None and after_position < 0:
        raise field_error("validation_failed", "after_position", "it must not be negative")
    if not request.HasField("task_id"):
        if request.after_seq:
            raise field_error("validation_failed", "after_seq", "it needs a task_id")
        return None, 0, after_position
    if after_position is not None:
        raise field_error("validation_failed", "after_position", "it goes without a task_id")
    return task_id(request.task_id), request.after_seq, None


def republished(request: service_pb.RepublishEventsRequest) -> UUID | None:
    """The task whose events are meant; None: those of the dead letters.

    PawlError validation_failed when neither is said.
    """
    if request.WhichOneof("which") == "task_id":
        return task_id(request.task_id)
    if not request.from_dead_letters:
        raise field_error(
            "validation_failed", "from_dead_letters", "it must be true when there is no task_id"
        )
    return None
