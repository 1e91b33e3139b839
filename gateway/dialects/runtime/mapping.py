"""The runtime dialect's words to the scheduler's and back. All renaming of this dialect is here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from gateway.answers import embedded, rfc3339, stamp
from gateway.idempotency import fingerprint
from gateway.members import Members
from gateway.tasks import TERMINAL, moment_of, no_such_task
from libs.core.canonical import Json
from libs.core.errors import PawlError
from libs.pb.pawl.common.v1 import failure_pb2
from libs.pb.pawl.plan.v1 import plan_pb2
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2, task_pb2
from libs.rpc.convert import from_timestamp, to_timestamp

TASKS_PATH = "/api/v1/tasks"
EXECUTE_PATH = "/api/v1/tasks/execute"
BATCH_PATH = "/api/v1/tasks/batch"
REPLAY_PATH = "/api/v1/tasks/{task_id}/replay"
MAX_STEPS = 2**31 - 1
MAX_PRIORITY = 1000
MAX_TASKS = 1000
"""Of one batch, whatever the tier; the scheduler knows how many it allows."""

STATES = {
    task_pb2.TASK_STATE_CREATED: "created",
    task_pb2.TASK_STATE_PLANNED: "planned",
    task_pb2.TASK_STATE_QUEUED: "queued",
    task_pb2.TASK_STATE_RUNNING: "running",
    task_pb2.TASK_STATE_SUCCEEDED: "succeeded",
    task_pb2.TASK_STATE_FAILED: "failed",
    task_pb2.TASK_STATE_CANCELLED: "cancelled",
}
"""The core's own words."""
STATUSES = {**STATES, task_pb2.TASK_STATE_CANCELLED: "failed"}
"""The words of this dialect: a cancelled task is one that failed, with code CANCELLED."""
WAIT_REASONS = {
    task_pb2.WAIT_REASON_SCHEDULED: "scheduled",
    task_pb2.WAIT_REASON_NO_EXECUTOR: "no_executor",
    task_pb2.WAIT_REASON_TENANT_LIMIT: "tenant_limit",
    task_pb2.WAIT_REASON_AGENT_LIMIT: "agent_limit",
    task_pb2.WAIT_REASON_NO_SLOT: "no_slot",
    task_pb2.WAIT_REASON_TURN: "turn",
}
"""Why a task waits, in the core's own words."""
MODES = {task_pb2.REPLAY_MODE_LIVE: "live", task_pb2.REPLAY_MODE_RECORDED: "recorded"}
"""How a task is replayed."""

_FIELDS = {
    "task_input_json": "task_definition",
    "task_input": "task_definition",
    "plan_json": "plan",
    "asked.max_steps": "max_steps",
    "max_total_seconds": "timeout_seconds",
    "asked.max_total_seconds": "timeout_seconds",
    "page_size": "limit",
    "page_token": "cursor",
}
"""How the services call a field → how this dialect does; others are the same in both."""
_ROOT = re.compile(r"(tasks\[[0-9]+\]\.)?((?:asked\.)?[a-z_]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What comes beside the body of a submission."""

    wait_seconds: float = 0.0
    idempotency_key: str | None = None


def submission(body: dict[str, Json], options: Options) -> scheduler_service_pb2.SubmitTaskRequest:
    """The request that a body of execute means.

    Raises PawlError: validation_failed, unknown_field (422). Of the plan nothing is checked here:
    the planner says what is wrong with it, whatever it is.
    """
    members = Members(body)
    request = _task_wanted(members)
    members.check()
    if options.idempotency_key is not None:
        request.idempotency_key = options.idempotency_key
        request.request_fingerprint = fingerprint("POST", EXECUTE_PATH, body)
    request.wait_seconds = options.wait_seconds
    return request


def batch(
    body: dict[str, Json], *, idempotency_key: str | None
) -> scheduler_service_pb2.SubmitTasksRequest:
    """The request that a body of batch means. Raises PawlError as `submission`; each field begins
    with its task: `tasks[2].max_steps`.
    """
    members = Members(body)
    request = scheduler_service_pb2.SubmitTasksRequest(
        tasks=[_task_wanted(one) for one in members.records("tasks", max_items=MAX_TASKS)]
    )
    members.check()
    if idempotency_key is not None:
        request.idempotency_key = idempotency_key
        request.request_fingerprint = fingerprint("POST", BATCH_PATH, body)
    return request


def replay(
    body: dict[str, Json], task_id: str, options: Options
) -> scheduler_service_pb2.ReplayTaskRequest:
    """The request that a body of replay means; an empty one means live.

    Raises PawlError: validation_failed, unknown_field (422).
    """
    members = Members(body)
    mode = members.word("mode", allowed=MODES.values())
    members.check()
    key = options.idempotency_key
    path = REPLAY_PATH.format(task_id=task_id)
    return scheduler_service_pb2.ReplayTaskRequest(
        task_id=task_id,
        mode=next(
            (value for value, word in MODES.items() if word == mode),
            task_pb2.REPLAY_MODE_UNSPECIFIED,
        ),
        idempotency_key=key,
        request_fingerprint=fingerprint("POST", path, body) if key is not None else "",
        wait_seconds=options.wait_seconds,
    )


@contextmanager
def in_this_dialect() -> Iterator[None]:
    """Turn a service's refusal into this dialect's words."""
    try:
        yield
    except PawlError as error:
        raise _renamed(error) from error


def execution(task: task_pb2.Task, *, version: str, now: datetime) -> dict[str, Any]:
    """The answer of execute. `now` measures a task that is still running."""
    why = failure(task)
    return {
        "version": version,
        "task_id": task.id,
        "status": STATUSES[task.state],
        "duration_seconds": _seconds(task, now=now),
        "cost_usd": task.cost_usd,
        "result": result(task) if task.state in TERMINAL else {"queued": True},
        "error": why["message"] if why else None,
        "failure": why,
    }


def task_record(task: task_pb2.Task, *, version: str) -> dict[str, Any]:
    """The answer of GET task."""
    why = failure(task)
    return {
        "version": version,
        "id": task.id,
        "task_id": task.id,
        "replay_of_task_id": _optional(task, "replay_of_task_id"),
        "input": embedded(task.input_json),
        "status": STATUSES[task.state],
        "plan": plan_record(task),
        "planned_by": task.planned_by or None,
        "planner_note": _optional(task, "planner_note"),
        "result": result(task),
        "error": why["message"] if why else None,
        "priority": task.priority,
        "queue": queue_record(task),
        "created_at": stamp(task.created_at),
        "scheduled_at": time_record(task, "scheduled_at"),
        "cancel_requested_at": time_record(task, "cancel_requested_at"),
        "execution_started_at": time_record(task, "execution_started_at"),
        "execution_finished_at": time_record(task, "finished_at"),
        "failure": why,
    }


def result(task: task_pb2.Task) -> Any:
    """Output of the last step, None unless the task succeeded."""
    return embedded(task.result_json) if task.HasField("result_json") else None


def plan_record(task: task_pb2.Task) -> dict[str, Any] | None:
    """The frozen plan as it was hashed, None before it is planned."""
    if not task.HasField("plan"):
        return None
    steps = [
        {"step_index": s.step_index, "tool": s.tool, "input": embedded(s.input_json)}
        for s in task.plan.steps
    ]
    limits = {field.name: _number(value) for field, value in task.plan.limits.ListFields()}
    return {"steps": steps, "limits": limits}


def queue_record(task: task_pb2.Task) -> dict[str, Any] | None:
    """What the task waits for, None when it does not wait."""
    if not task.HasField("waiting"):
        return None
    waiting = task.waiting
    return {
        "reason": WAIT_REASONS[waiting.reason],
        "detail": waiting.detail,
        "position": waiting.position if waiting.HasField("position") else None,
    }


def time_record(task: task_pb2.Task, name: str) -> str | None:
    """One of the task's times, None when it has none of that name."""
    at = moment_of(task, name)
    return None if at is None else rfc3339(at)


def failure(task: task_pb2.Task) -> dict[str, Any] | None:
    """Why the task failed, None when it did not."""
    if task.HasField("failure"):
        return failure_record(task.failure)
    if task.state != task_pb2.TASK_STATE_CANCELLED:
        return None
    message = "The task was cancelled on request; no step began after that."
    return {"step": None, "index": None, "code": "CANCELLED", "message": message, "reason": None}


def failure_record(why: failure_pb2.Failure) -> dict[str, Any]:
    """A failure in this dialect's shape."""
    return {
        "step": why.step if why.HasField("step") else None,
        "index": why.step_index if why.HasField("step_index") else None,
        "code": why.code,
        "message": why.message,
        "reason": why.reason if why.HasField("reason") else None,
    }


def _renamed(error: PawlError) -> PawlError:
    if error.code == "not_found":
        return no_such_task()
    message = error.message
    errors = []
    for one in error.errors:
        name = _ROOT.sub(_here, one.field, count=1)
        message = message.replace(f"{one.field}:", f"{name}:") if name != one.field else message
        errors.append(replace(one, field=name))
    return error.reworded(message, errors)


def _here(root: re.Match[str]) -> str:
    return (root[1] or "") + _FIELDS.get(root[2], root[2])


def _task_wanted(members: Members) -> scheduler_service_pb2.SubmitTaskRequest:
    """What the members of one task mean; whoever holds them checks them."""
    task_input = members.record("task_definition", required=True)
    asked = plan_pb2.Limits(
        max_steps=members.integer("max_steps", minimum=1, maximum=MAX_STEPS),
        max_total_seconds=members.number("timeout_seconds", above=0),
    )
    has_plan, plan = "plan" in members, members.anything("plan")
    priority = members.integer("priority", minimum=-MAX_PRIORITY, maximum=MAX_PRIORITY)
    scheduled_at = members.instant("scheduled_at")
    return scheduler_service_pb2.SubmitTaskRequest(
        task_input_json=_json_text(task_input),
        plan_json=_json_text(plan) if has_plan else None,
        asked=asked,
        priority=priority or 0,
        scheduled_at=None if scheduled_at is None else to_timestamp(scheduled_at),
    )


def _json_text(value: Json) -> str:
    """Not the canonical form: that spells 1e16 as an integer, which a strict reader refuses."""
    return orjson.dumps(value).decode()


def _seconds(task: task_pb2.Task, *, now: datetime) -> float:
    if not task.HasField("execution_started_at"):
        return 0.0
    begin = from_timestamp(task.execution_started_at)
    end = moment_of(task, "finished_at") or now
    return round(max(0.0, (end - begin).total_seconds()), 6)


def _optional(task: task_pb2.Task, name: str) -> str | None:
    return getattr(task, name) if task.HasField(name) else None  # type: ignore[arg-type]


def _number(value: float) -> float:
    return int(value) if isinstance(value, float) and value.is_integer() else value
