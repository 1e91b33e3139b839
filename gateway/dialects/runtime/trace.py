"""The runtime dialect's trace and events, from the scheduler's records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from gateway.answers import embedded, stamp
from gateway.dialects.runtime.mapping import (
    MODES,
    STATES,
    STATUSES,
    failure,
    failure_record,
    plan_record,
    queue_record,
    time_record,
)
from libs.core.hashing import RECIPE
from libs.pb.pawl.scheduler.v1 import task_pb2, trace_pb2
from libs.rpc.convert import from_timestamp

TRANSITION = "status_transition"
VALIDATION_FAILED = "plan_validation_failed"
SANDBOX_TOOLS = frozenset({"python_sandbox"})

STEP_STATUSES = {
    trace_pb2.STEP_STATUS_RUNNING: "running",
    trace_pb2.STEP_STATUS_SUCCEEDED: "succeeded",
    trace_pb2.STEP_STATUS_FAILED: "failed",
    trace_pb2.STEP_STATUS_INTERRUPTED: "interrupted",
}
INTERRUPTED = "The step was started and never finished; whether it had an effect is not known."

_SAID_ELSEWHERE = frozenset({"task_id", "tenant_id", "seq", "from_state", "to_state", "at", "mode"})
"""Members of an event's data that the event itself says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRecord:
    """All pages of a trace."""

    task: task_pb2.Task
    replay: trace_pb2.Replay | None
    tools: Sequence[Sequence[str]]
    events: Sequence[task_pb2.TaskEvent]
    steps: Sequence[trace_pb2.StepRecord]


def collected(pages: Iterable[trace_pb2.TracePage]) -> TraceRecord:
    """One record of all pages; ValueError when no page has the head."""
    heads: list[trace_pb2.TraceHead] = []
    events: list[task_pb2.TaskEvent] = []
    steps: list[trace_pb2.StepRecord] = []
    for page in pages:
        if page.HasField("head"):
            heads.append(page.head)
        events += page.events
        steps += page.steps
    if len(heads) != 1:
        raise ValueError(f"a trace has one head; this one has {len(heads)}")
    tools = sorted([tool.name, tool.version, tool.digest] for tool in heads[0].tool_set)
    head = heads[0]
    return TraceRecord(
        task=head.task,
        replay=head.replay if head.HasField("replay") else None,
        tools=tools,
        events=events,
        steps=steps,
    )


def trace_record(trace: TraceRecord, *, version: str) -> dict[str, Any]:
    """The answer of GET trace."""
    task = trace.task
    return {
        "version": version,
        "task_id": task.id,
        "replay_of_task_id": task.replay_of_task_id if task.HasField("replay_of_task_id") else None,
        "status": STATUSES[task.state],
        "failure": failure(task),
        "estimated_cost_usd": task.cost_usd,
        "scheduled_at": time_record(task, "scheduled_at"),
        "cancel_requested_at": time_record(task, "cancel_requested_at"),
        "queue": queue_record(task),
        "events": [event_record(event) for event in trace.events],
        "steps": [_step(step, task) for step in trace.steps],
        "plan_validation_failures": [
            event_record(event)["payload"]
            for event in trace.events
            if event.type == VALIDATION_FAILED
        ],
        "runtime_schema_failures": [
            wrong for step in trace.steps for wrong in _schema_failures(step)
        ],
        "replay": None if trace.replay is None else _replay(trace.replay),
        "summary": _summary(trace),
        "verification": _verification(trace),
    }


def event_record(
    event: task_pb2.TaskEvent, *, words: Mapping[task_pb2.TaskState.ValueType, str] = STATUSES
) -> dict[str, Any]:
    """One event; states are named by `words`."""
    at = stamp(event.at)
    payload: dict[str, Any] = {}
    if event.type == TRANSITION:
        payload = {"from": words.get(event.from_state), "to": words[event.to_state]}
    payload["at"] = at
    data = orjson.loads(event.data_json) if event.data_json else {}
    payload |= {name: value for name, value in data.items() if name not in _SAID_ELSEWHERE}
    return {
        "event": f"task.{event.type}",
        "payload": payload,
        "created_at": at,
        "seq": event.seq,
    }


def _replay(replay: trace_pb2.Replay) -> dict[str, Any]:
    """A replay beside its original."""
    first = replay.first_divergence
    return {
        "of_task_id": replay.of_task_id,
        "mode": MODES[replay.mode],
        "matches": replay.matches if replay.HasField("matches") else None,
        "first_divergence": {
            "step_index": first.step_index if first.HasField("step_index") else None,
            "field": first.field,
            "original": embedded(first.original_json),
            "replayed": embedded(first.replayed_json),
        }
        if replay.HasField("first_divergence")
        else None,
    }


def _step(step: trace_pb2.StepRecord, task: task_pb2.Task) -> dict[str, Any]:
    why = failure_record(step.failure) if step.HasField("failure") else None
    interrupted = step.status == trace_pb2.STEP_STATUS_INTERRUPTED
    error = why["message"] if why else INTERRUPTED if interrupted else None
    finished = step.HasField("finished_at")
    return {
        "id": step.id,
        "step_index": step.step_index,
        "tool_name": step.tool.name,
        "tool_version": step.tool.version,
        "input": _input(step, task),
        "output": embedded(step.output_json) if step.HasField("output_json") else None,
        "status": STEP_STATUSES[step.status],
        "error": error,
        "failure": why,
        "started_at": stamp(step.started_at),
        "finished_at": stamp(step.finished_at) if finished else None,
        "duration_ms": _duration_ms(step) if finished else None,
        "step_hash": step.step_hash or None,
        "cost_usd": step.cost_usd,
        "tokens": step.tokens,
        "sandbox_ms": step.sandbox_ms,
    }


def _input(step: trace_pb2.StepRecord, task: task_pb2.Task) -> Any:
    """The resolved input, or what the plan says of a step that has not finished."""
    if step.HasField("resolved_input_json"):
        return embedded(step.resolved_input_json)
    planned = task.plan.steps
    place = step.step_index - 1
    return embedded(planned[place].input_json) if place < len(planned) else None


def _schema_failures(step: trace_pb2.StepRecord) -> list[dict[str, Any]]:
    if not step.schema_failures_json:
        return []
    about = {"step_index": step.step_index, "tool_name": step.tool.name}
    return [about | wrong for wrong in orjson.loads(step.schema_failures_json)]


def _summary(trace: TraceRecord) -> dict[str, Any]:
    statuses = [STEP_STATUSES[step.status] for step in trace.steps]
    return {
        "total_steps": len(statuses),
        "succeeded_steps": statuses.count("succeeded"),
        "failed_steps": statuses.count("failed"),
        "running_steps": statuses.count("running"),
        "interrupted_steps": statuses.count("interrupted"),
        "total_duration_ms": sum(_duration_ms(step) for step in trace.steps),
        "tokens": trace.task.tokens_used,
        "sandbox_runs": sum(step.tool.name in SANDBOX_TOOLS for step in trace.steps),
        "task_hash": trace.task.task_hash or None,
        "step_hashes": [step.step_hash for step in trace.steps if step.step_hash],
        "queue_latency_ms": _queue_latency_ms(trace.events),
        "retry_count": 0,
    }


def _verification(trace: TraceRecord) -> dict[str, Any]:
    task = trace.task
    return {
        "recipe": RECIPE,
        "task_input": embedded(task.input_json),
        "plan": plan_record(task),
        "tool_set": trace.tools,
        "plan_hash": task.plan_hash or None,
        "state": STATES[task.state],
        "failure_code": task.failure.code if task.HasField("failure") else None,
        "steps": [_verified_step(step) for step in trace.steps],
        "task_hash": task.task_hash or None,
    }


def _verified_step(step: trace_pb2.StepRecord) -> dict[str, Any]:
    has = step.HasField
    return {
        "step_index": step.step_index,
        "tool": step.tool.name,
        "tool_version": step.tool.version,
        "tool_digest": step.tool.digest,
        "resolved_input": embedded(step.resolved_input_json)
        if has("resolved_input_json")
        else None,
        "output": embedded(step.output_json) if has("output_json") else None,
        "status": STEP_STATUSES[step.status],
        "failure_code": step.failure.code if has("failure") and step.step_hash else None,
        "step_hash": step.step_hash or None,
    }


def _duration_ms(step: trace_pb2.StepRecord) -> int:
    if not step.HasField("finished_at"):
        return 0
    return _milliseconds(from_timestamp(step.started_at), from_timestamp(step.finished_at))


def _queue_latency_ms(events: Sequence[task_pb2.TaskEvent]) -> int | None:
    """Milliseconds from queued to running, None while one of them has not happened."""
    reached = {
        event.to_state: from_timestamp(event.at) for event in events if event.type == TRANSITION
    }
    queued = reached.get(task_pb2.TASK_STATE_QUEUED)
    running = reached.get(task_pb2.TASK_STATE_RUNNING)
    return None if queued is None or running is None else _milliseconds(queued, running)


def _milliseconds(begin: datetime, end: datetime) -> int:
    return max(0, round((end - begin).total_seconds() * 1000))
