"""Assignments, reports and acknowledgements: proto to model and back; pure."""

from __future__ import annotations

from uuid import UUID

from libs.core.canonical import canonical_text, read_canonical
from libs.core.errors import Failure, FailureCode
from libs.core.lifecycle import TaskState
from libs.core.plan import Plan, Step
from libs.core.prices import usd
from libs.pb.pawl.common.v1 import failure_pb2
from libs.pb.pawl.scheduler.v1 import task_pb2, work_service_pb2
from libs.rpc.convert import (
    failure_to_proto,
    from_timestamp,
    limits_from_proto,
    tool_ref_from_proto,
)
from services.executor.model import (
    AckStatus,
    Report,
    SchemaFailure,
    StepOutcome,
    TaskAssignment,
    TaskEnd,
    Used,
)

_ACKS = {
    work_service_pb2.ACK_STATUS_OK: AckStatus.OK,
    work_service_pb2.ACK_STATUS_SEEN: AckStatus.SEEN,
    work_service_pb2.ACK_STATUS_STALE_LEASE: AckStatus.STALE_LEASE,
    work_service_pb2.ACK_STATUS_LATE: AckStatus.LATE,
    work_service_pb2.ACK_STATUS_TERMINAL: AckStatus.TERMINAL,
}
_ENDS = {
    TaskState.SUCCEEDED: task_pb2.TASK_STATE_SUCCEEDED,
    TaskState.FAILED: task_pb2.TASK_STATE_FAILED,
    TaskState.CANCELLED: task_pb2.TASK_STATE_CANCELLED,
}


def assignment_from_proto(
    message: work_service_pb2.Assignment, *, received_at: float
) -> TaskAssignment:
    """An assignment; ValueError when it is not one. `received_at` is on the monotonic clock."""
    steps = tuple(
        Step(step_index=step.step_index, tool=step.tool, input=read_canonical(step.input_json))
        for step in message.plan.steps
    )
    if [step.step_index for step in steps] != list(range(1, len(steps) + 1)):
        raise ValueError("the steps are not numbered from 1 without gaps")
    texts = [step.input_json for step in message.plan.steps]
    texts += [message.task_input_json, *message.closed_output_json]
    return TaskAssignment(
        task_id=UUID(message.task_id),
        tenant_id=UUID(message.tenant_id),
        lease_token=message.lease_token,
        plan=Plan(steps=steps, limits=limits_from_proto(message.plan.limits)),
        tool_set=tuple(tool_ref_from_proto(tool) for tool in message.tool_set),
        task_input=read_canonical(message.task_input_json),
        plan_hash=message.plan_hash,
        closed_outputs=tuple(read_canonical(text) for text in message.closed_output_json),
        last_step_hash=message.last_step_hash or None,
        used=Used(tokens=message.tokens_used, cost_usd=usd(message.cost_usd)),
        seconds_left=message.seconds_left or None,
        received_at=received_at,
        created_at=from_timestamp(message.created_at),
        mode=message.mode,
        size_bytes=sum(len(text) for text in texts),
        recorded_tools=tuple(tool_ref_from_proto(tool) for tool in message.recorded_tools),
        traceparent=message.traceparent,
        request_id=message.request_id,
    )


def report_to_proto(
    report: Report, *, report_id: int, task_id: str, lease_token: int
) -> work_service_pb2.StepReport:
    """One report of one task."""
    return work_service_pb2.StepReport(
        report_id=report_id,
        task_id=task_id,
        lease_token=lease_token,
        finished=None if report.finished is None else _finished_to_proto(report.finished),
        started_step_index=report.started_step_index,
        end=None if report.end is None else _end_to_proto(report.end),
    )


def ack_status_from_proto(status: work_service_pb2.AckStatus.ValueType) -> AckStatus:
    """An acknowledgement's status; one that is not known means: stop."""
    return _ACKS.get(status, AckStatus.STALE_LEASE)


def unreadable_assignment(message: work_service_pb2.Assignment) -> Report:
    """The end of a task whose assignment this executor cannot read; nothing of it ran."""
    failure = Failure(
        code=FailureCode.INTERNAL,
        message=f"the executor could not read the assignment of task {message.task_id}",
    )
    return Report(end=TaskEnd(state=TaskState.FAILED, failure=failure))


def _finished_to_proto(outcome: StepOutcome) -> work_service_pb2.StepFinished:
    return work_service_pb2.StepFinished(
        step_index=outcome.step_index,
        resolved_input_json=outcome.resolved_input_json,
        output_json=outcome.output_json,
        failure=_optional_failure(outcome.failure),
        step_hash=outcome.step_hash,
        schema_failures_json=_schema_failures_json(outcome.schema_failures),
        cost_usd=float(outcome.used.cost_usd),
        tokens=outcome.used.tokens,
        sandbox_ms=outcome.used.sandbox_ms,
    )


def _end_to_proto(end: TaskEnd) -> work_service_pb2.TaskEnd:
    return work_service_pb2.TaskEnd(
        state=_ENDS[end.state],
        failure=_optional_failure(end.failure),
        cost_usd=float(end.used.cost_usd),
        tokens=end.used.tokens,
        sandbox_ms=end.used.sandbox_ms,
    )


def _optional_failure(failure: Failure | None) -> failure_pb2.Failure | None:
    return None if failure is None else failure_to_proto(failure)


def _schema_failures_json(failures: tuple[SchemaFailure, ...]) -> str:
    if not failures:
        return ""
    return canonical_text(
        [{"path": f.path, "message": f.message, "where": f.where} for f in failures]
    )
