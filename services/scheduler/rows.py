"""Rows of the scheduler's tables to its model, and parameters of its statements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from libs.core.canonical import canonical_text, read_canonical
from libs.core.errors import Failure, FailureCode
from libs.core.lifecycle import TaskState
from libs.core.plan import plan_from_json
from libs.core.tool_spec import ToolRef, tool_set_json
from services.scheduler.model import (
    Agent,
    Assigned,
    NewTask,
    ReportRow,
    StepClosed,
    StepStatus,
    StoredEvent,
    StoredStep,
    StoredTask,
    TaskEnd,
)
from services.scheduler.replay_model import RecordedAnswer, ReplayOf

Row = Mapping[str, Any]


def stored_task(row: Row) -> StoredTask:
    """A row of tasks with its `result`."""
    return StoredTask(
        id=row["id"],
        tenant_id=row["tenant_id"],
        state=TaskState(row["state"]),
        seq=row["seq"],
        mode=row["mode"],
        priority=row["priority"],
        task_input=row["input"],
        plan=row["plan"],
        plan_hash=row["plan_hash"] or "",
        tool_set=tool_set(row["tool_set"]),
        planned_by=row["planned_by"] or "",
        planner_note=row["planner_note"],
        steps_begun=row["steps_begun"],
        steps_closed=row["steps_closed"],
        step_started_at=row["step_started_at"],
        result=row["result"],
        failure=_task_failure(row),
        cost_usd=float(row["cost_usd"]),
        created_at=row["created_at"],
        execution_started_at=row["execution_started_at"],
        finished_at=row["finished_at"],
        replay=_replay(row),
        clock_at=row["clock_at"] or row["created_at"],
        task_hash=row["task_hash"] or "",
        scheduled_at=row["scheduled_at"],
        cancel_requested_at=row["cancel_requested_at"],
        tokens_used=row["tokens_used"],
        agent=_agent(row),
        is_held=row["boot_id"] is not None,
    )


def stored_event(row: Row) -> StoredEvent:
    """A row of task_events."""
    return StoredEvent(
        task_id=row["task_id"],
        seq=row["seq"],
        type=row["type"],
        from_state=None if row["from_state"] is None else TaskState(row["from_state"]),
        to_state=TaskState(row["to_state"]),
        at=row["at"],
        data=row["data"],
    )


def stored_step(row: Row, *, tool: str) -> StoredStep:
    """A row of steps; `tool` is the name that the plan says."""
    return StoredStep(
        step_index=row["step_index"],
        status=StepStatus(row["status"]),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        resolved_input=row["resolved_input"],
        output=row["output"],
        failure=_step_failure(row, tool=tool),
        step_hash=row["step_hash"],
        schema_failures=row["schema_failures"],
        cost_usd=float(row["cost_usd"]),
        tokens=row["tokens"],
        sandbox_ms=row["sandbox_ms"],
    )


def assigned(row: Row) -> Assigned:
    """A row of tasks with what closed steps left behind."""
    return Assigned(
        task_id=row["id"],
        tenant_id=row["tenant_id"],
        lease_token=row["lease_token"],
        plan=plan_from_json(read_canonical(row["plan"])),
        tool_set=tool_set(row["tool_set"]),
        task_input=row["input"],
        plan_hash=row["plan_hash"],
        closed_outputs=tuple(row["closed_outputs"] or ()),
        last_step_hash=row["last_step_hash"] or "",
        seconds_left=float(row["seconds_left"]),
        clock_at=row["clock_at"] or row["created_at"],
        mode=row["mode"],
        traceparent=row["traceparent"],
        request_id=row["request_id"],
        is_step_open=row["steps_begun"] > row["steps_closed"],
        is_cancelling=row["is_cancelling"],
        tokens_used=row["tokens_used"],
        cost_usd=float(row["cost_usd"]),
        recorded_tools=frozenset(row["recorded_tools"] or ()),
    )


def recorded_answer(row: Row) -> RecordedAnswer:
    """A row of `recall_step`."""
    return RecordedAnswer(
        of_task_id=row["replay_of_task_id"],
        input_sha256=row["input_sha256"],
        output=row["output"],
        failure=_step_failure(row, tool=None),
    )


def tool_set(text: str | None) -> tuple[ToolRef, ...]:
    """A stored tool set; none before the task is planned."""
    return () if text is None else tuple(ToolRef(*tool) for tool in orjson.loads(text))


def submit_parameters(task: NewTask, *, batch: Sequence[UUID] | None = None) -> dict[str, object]:
    """Everything that the statement `submit` binds; `batch`: the tasks that the key names."""
    frozen, key, agent, replay = task.frozen, task.idempotency, task.agent, task.replay
    recorded = None if replay is None else replay.recorded_tools
    limits = None if frozen is None else frozen.plan.limits
    return {
        "id": task.id,
        "tenant_id": task.tenant_id,
        "mode": task.mode,
        "state": (TaskState.CREATED if frozen is None else TaskState.QUEUED).value,
        "priority": task.priority,
        "key": None if key is None else key.key,
        "fingerprint": None if key is None else key.fingerprint,
        "batch": None if batch is None else list(batch),
        "tools": [tool.offer for tool in task.called_tools],
        "step_count": None if frozen is None else len(frozen.plan.steps),
        "max_queue_seconds": None if limits is None else limits.max_queue_seconds,
        "max_total_seconds": None if limits is None else limits.max_total_seconds,
        "plan_hash": None if frozen is None else frozen.plan_hash,
        "planned_by": None if frozen is None else frozen.planned_by,
        "planner_note": None if frozen is None else frozen.note,
        "tool_set": None if frozen is None else canonical_text(tool_set_json(frozen.tool_set)),
        "plan": None if frozen is None else canonical_text(frozen.plan.as_json()),
        "input": task.task_input,
        "replay_of_task_id": None if replay is None else replay.task_id,
        "clock_at": None if replay is None else replay.clock_at,
        "recorded_tools": None if recorded is None else sorted(recorded),
        "request_id": task.request_id,
        "traceparent": task.traceparent,
        "scheduled_at": task.scheduled_at,
        "tenant_limit": task.tenant_limit,
        "agent_id": None if agent is None else agent.agent_id,
        "agent_limit": None if agent is None else agent.max_concurrent_tasks,
    }


def report_parameters(rows: Iterable[ReportRow]) -> dict[str, object]:
    """Everything that the statement `report` binds: one JSON array, and the ids to lock."""
    written = [_report(row) for row in rows]
    return {
        "ids": [one["task_id"] for one in written],
        "reports": orjson.dumps(written).decode(),
    }


def _report(row: ReportRow) -> dict[str, object]:
    report = row.report
    said: dict[str, object] = {
        "task_id": report.task_id,
        "boot_id": row.boot_id,
        "token": report.lease_token,
        "start": report.begins,
        "start_tool": row.begins_tool,
    }
    if (closed := report.closed) is not None:
        said |= {
            "fin": closed.step_index,
            "fin_tool": row.closed_tool,
            "resolved_input": closed.resolved_input,
            "output": closed.output,
            "step_hash": closed.step_hash,
            "schema_failures": closed.schema_failures,
        } | _use(closed)
        if (failure := closed.failure) is not None:
            said |= {
                "fin_code": failure.code.value,
                "fin_message": failure.message,
                "fin_reason": failure.reason,
            }
    if (end := report.end) is not None:
        if closed is None:
            said |= _use(end)
        said["term"] = end.state.value
        if (failure := end.failure) is not None:
            said |= {
                "term_code": failure.code.value,
                "term_message": failure.message,
                "term_step": failure.step,
                "term_step_index": failure.step_index,
                "term_reason": failure.reason,
            }
    return said


def _use(used: StepClosed | TaskEnd) -> dict[str, object]:
    # The shortest text of the double, which is the decimal number that the executor charged.
    return {"cost": used.cost_usd, "tokens": used.tokens, "sandbox_ms": used.sandbox_ms}


def _replay(row: Row) -> ReplayOf | None:
    if row["replay_of_task_id"] is None:
        return None
    recorded = row["recorded_tools"]
    return ReplayOf(
        task_id=row["replay_of_task_id"],
        clock_at=row["clock_at"],
        recorded_tools=None if recorded is None else frozenset(recorded),
    )


def _agent(row: Row) -> Agent | None:
    if row["agent_id"] is None:
        return None
    return Agent(agent_id=row["agent_id"], max_concurrent_tasks=row["agent_limit"])


def _step_failure(row: Row, *, tool: str | None) -> Failure | None:
    if row["failure_code"] is None:
        return None
    return Failure(
        code=FailureCode(row["failure_code"]),
        message=row["failure_message"],
        step=tool,
        step_index=row["step_index"],
        reason=row["failure_reason"],
    )


def _task_failure(row: Row) -> Failure | None:
    if row["failure_code"] is None:
        return None
    return Failure(
        code=FailureCode(row["failure_code"]),
        message=row["failure_message"],
        step=row["failure_step"],
        step_index=row["failure_step_index"],
        reason=row["failure_reason"],
    )
