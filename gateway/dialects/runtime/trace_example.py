"""A whole trace as an example of the OpenAPI document: one step of `math`, whose hashes verify."""

from __future__ import annotations

from typing import Any

from gateway.dialects.runtime.schemas import TASK_ID

_SUBMITTED = "2026-02-27T11:18:02.983128+00:00"
_CLAIMED = "2026-02-27T11:18:02.991451+00:00"
_STARTED = "2026-02-27T11:18:03.006243+00:00"
_FINISHED = "2026-02-27T11:18:03.040055+00:00"
_TOOL_DIGEST = "df0af50f850e7b7b99bb81fa670d5560ea06ecd13fb42a12c60569993ded9719"
_PLAN_HASH = "8617d8c6418f08df1b843ce177fd2e4b88b63cb6e4cb5efe7393ac93e9d10c6f"
_STEP_HASH = "e3dac7aecd1deeeee1473a69e38c040c76fd0d5984ff21044b2debc69f537312"
_TASK_HASH = "1fa023e457f055f6aff824d3089c0b5e8221aa7d867de387523def796fb676e5"
_INPUT = {"expression": "1+1"}
_OUTPUT = {"result": 2}
_STEP = {"step_index": 1, "tool": "math"}
_PLAN: dict[str, Any] = {
    "steps": [_STEP | {"input": _INPUT}],
    "limits": {
        "max_steps": 12,
        "max_total_seconds": 45,
        "max_step_seconds": 10,
        "max_queue_seconds": 3600,
    },
}
_TRANSITION = "task.status_transition"
_HAPPENED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (_TRANSITION, _SUBMITTED, {"from": None, "to": "created"}),
    (_TRANSITION, _SUBMITTED, {"from": "created", "to": "planned"}),
    (_TRANSITION, _SUBMITTED, {"from": "planned", "to": "queued"}),
    (_TRANSITION, _CLAIMED, {"from": "queued", "to": "running"}),
    ("task.step_started", _STARTED, _STEP),
    (
        "task.step_finished",
        _FINISHED,
        _STEP | {"status": "succeeded", "step_hash": _STEP_HASH, "cost_usd": 0.0001},
    ),
    (_TRANSITION, _FINISHED, {"from": "running", "to": "succeeded", "task_hash": _TASK_HASH}),
)

TRACE: dict[str, Any] = {
    "version": "pawl-0.1.0",
    "task_id": TASK_ID,
    "replay_of_task_id": None,
    "status": "succeeded",
    "failure": None,
    "estimated_cost_usd": 0.0001,
    "scheduled_at": None,
    "cancel_requested_at": None,
    "queue": None,
    "events": [
        {"event": event, "payload": {"at": at, **payload}, "created_at": at, "seq": seq}
        for seq, (event, at, payload) in enumerate(_HAPPENED, start=1)
    ],
    "steps": [
        {
            "id": "f769b005-5129-555b-b576-377371ab6b08",
            "step_index": 1,
            "tool_name": "math",
            "tool_version": "1.0.0",
            "input": _INPUT,
            "output": _OUTPUT,
            "status": "succeeded",
            "error": None,
            "failure": None,
            "started_at": _STARTED,
            "finished_at": _FINISHED,
            "duration_ms": 34,
            "step_hash": _STEP_HASH,
            "cost_usd": 0.0001,
            "tokens": 0,
            "sandbox_ms": 0,
        }
    ],
    "plan_validation_failures": [],
    "runtime_schema_failures": [],
    "replay": None,
    "summary": {
        "total_steps": 1,
        "succeeded_steps": 1,
        "failed_steps": 0,
        "running_steps": 0,
        "interrupted_steps": 0,
        "total_duration_ms": 34,
        "tokens": 0,
        "sandbox_runs": 0,
        "task_hash": _TASK_HASH,
        "step_hashes": [_STEP_HASH],
        "queue_latency_ms": 8,
        "retry_count": 0,
    },
    "verification": {
        "recipe": "pawl:v1",
        "task_input": {},
        "plan": _PLAN,
        "tool_set": [["math", "1.0.0", _TOOL_DIGEST]],
        "plan_hash": _PLAN_HASH,
        "state": "succeeded",
        "failure_code": None,
        "steps": [
            {
                **_STEP,
                "tool_version": "1.0.0",
                "tool_digest": _TOOL_DIGEST,
                "resolved_input": _INPUT,
                "output": _OUTPUT,
                "status": "succeeded",
                "failure_code": None,
                "step_hash": _STEP_HASH,
            }
        ],
        "task_hash": _TASK_HASH,
    },
}
