"""Makes honest traces in memory, as the runtime dialect writes them."""

from __future__ import annotations

import json
from typing import Any

from libs.core.hashing import RECIPE, plan_hash, step_hash, task_hash
from libs.core.plan import Limits, Plan, Step
from libs.core.tool_spec import ToolRef, tool_set_json

TASK_ID = "0198c0de-7000-7abc-8def-0123456789ab"
AT = "2026-02-27T11:18:02.991451+00:00"
EVENTS = [
    {
        "event": "task.status_transition",
        "payload": {"from": None, "to": "created", "at": AT},
        "created_at": AT,
        "seq": 1,
    },
    {
        "event": "task.step_started",
        "payload": {"at": AT, "step_index": 1, "tool": "math"},
        "created_at": AT,
        "seq": 2,
    },
]
MATH = ToolRef("math", "1", "ab" * 32)
QUERY = ToolRef("json_query", "1", "cd" * 32)
TASK_INPUT = {"topic": "numbers"}
PLAN = Plan(
    steps=(
        Step(step_index=1, tool="math", input={"expression": "1+1"}),
        Step(
            step_index=2,
            tool="math",
            input={"expression": "a*2", "variables": {"a": {"$ref": "steps.1.output.result"}}},
        ),
        Step(
            step_index=3,
            tool="json_query",
            input={"query": "r", "data": {"r": {"$ref": "steps.2.output.result"}}},
        ),
    ),
    limits=Limits(max_steps=12, max_total_seconds=45, max_step_seconds=10),
)
RESOLVED: tuple[dict[str, Any], ...] = (
    {"expression": "1+1"},
    {"expression": "a*2", "variables": {"a": 2}},
    {"query": "r", "data": {"r": 4}},
)
OUTPUTS: tuple[dict[str, Any], ...] = ({"result": 2}, {"result": 4}, {"result": 4})


def make_trace(
    *,
    state: str = "succeeded",
    failed_step: int | None = None,
    open_step: int | None = None,
    failure_code: str | None = None,
) -> dict[str, Any]:
    """A trace of the three-step plan, ended at `failed_step` or standing in `open_step`."""
    block = _block(state, failed_step, open_step, failure_code)
    shown = [_shown(step) for step in block["steps"]]
    code = "CANCELLED" if state == "cancelled" else failure_code
    trace = {
        "version": "pawl-0.0.0",
        "task_id": TASK_ID,
        "replay_of_task_id": None,
        "status": "failed" if state == "cancelled" else state,
        "failure": None
        if code is None
        else {"step": None, "index": None, "code": code, "message": "It went wrong."},
        "estimated_cost_usd": 0.0,
        "events": EVENTS,
        "steps": shown,
        "plan_validation_failures": [],
        "runtime_schema_failures": [],
        "summary": {
            "total_steps": len(shown),
            "succeeded_steps": sum(step["status"] == "succeeded" for step in shown),
            "failed_steps": sum(step["status"] == "failed" for step in shown),
            "running_steps": 0,
            "total_duration_ms": 7,
            "sandbox_runs": 0,
            "task_hash": block["task_hash"],
            "step_hashes": [s["step_hash"] for s in block["steps"] if s["step_hash"]],
            "queue_latency_ms": 3,
            "retry_count": 0,
        },
        "verification": block,
    }
    copied: dict[str, Any] = json.loads(json.dumps(trace))
    return copied


def make_unplanned_trace() -> dict[str, Any]:
    """A trace of a task that nobody could plan."""
    trace = make_trace(state="failed", failure_code="PLANNER_UNAVAILABLE")
    made = task_hash("", step_hashes=(), state="failed", failure_code="PLANNER_UNAVAILABLE")
    trace["verification"] |= {"plan": None, "plan_hash": None, "tool_set": [], "steps": []}
    trace["verification"]["task_hash"] = made
    trace["steps"] = []
    trace["summary"] |= {"task_hash": made, "step_hashes": []}
    return trace


def rehash(trace: dict[str, Any], *, from_step: int = 1) -> None:
    """Compute all hashes from `from_step` on again, as a careful forger would."""
    block = trace["verification"]
    previous = block["plan_hash"] if from_step == 1 else block["steps"][from_step - 2]["step_hash"]
    for step in block["steps"][from_step - 1 :]:
        step["step_hash"] = previous = step_hash(
            previous,
            step_index=step["step_index"],
            tool=f"{step['tool']}@{step['tool_version']}",
            resolved_input=step["resolved_input"],
            output=step["output"],
            failure_code=step["failure_code"],
        )
    hashes = [step["step_hash"] for step in block["steps"] if step["step_hash"]]
    block["task_hash"] = task_hash(
        block["plan_hash"],
        step_hashes=hashes,
        state=block["state"],
        failure_code=block["failure_code"],
    )
    trace["summary"] |= {"task_hash": block["task_hash"], "step_hashes": hashes}
    for shown, step in zip(trace["steps"], block["steps"], strict=False):
        shown["step_hash"] = step["step_hash"]


def _shown(step: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"0198c0de-7000-5abc-8def-00000000000{step['step_index']}",
        "step_index": step["step_index"],
        "tool_name": step["tool"],
        "input": step["resolved_input"],
        "output": step["output"],
        "status": step["status"],
        "error": step["failure_code"],
        "started_at": AT,
        "finished_at": AT if step["step_hash"] else None,
        "duration_ms": 2 if step["step_hash"] else None,
        "step_hash": step["step_hash"],
    }


def _block(
    state: str, failed_step: int | None, open_step: int | None, failure_code: str | None
) -> dict[str, Any]:
    tools = {tool.name: tool for tool in (MATH, QUERY)}
    previous = first = plan_hash(PLAN, tools=tools.values(), task_input=TASK_INPUT)
    steps: list[dict[str, Any]] = []
    for planned, resolved, output in zip(PLAN.steps, RESOLVED, OUTPUTS, strict=True):
        tool, index = tools[planned.tool], planned.step_index
        step: dict[str, Any] = {
            "step_index": index,
            "tool": tool.name,
            "tool_version": tool.version,
            "tool_digest": tool.digest,
            "resolved_input": None if index == open_step else resolved,
            "output": None if index in {failed_step, open_step} else output,
            "status": "succeeded",
            "failure_code": failure_code if index == failed_step else None,
            "step_hash": None,
        }
        steps.append(step)
        if index == open_step:
            step["status"] = "running" if state == "running" else "interrupted"
            break
        step["status"] = "failed" if index == failed_step else "succeeded"
        step["step_hash"] = previous = step_hash(
            previous,
            step_index=index,
            tool=tool.label,
            resolved_input=resolved,
            output=step["output"],
            failure_code=step["failure_code"],
        )
        if index == failed_step:
            break
    hashes = [step["step_hash"] for step in steps if step["step_hash"]]
    ended = state in {"succeeded", "failed", "cancelled"}
    return {
        "recipe": RECIPE,
        "task_input": TASK_INPUT,
        "plan": PLAN.as_json(),
        "tool_set": tool_set_json(tools.values()),
        "plan_hash": first,
        "state": state,
        "failure_code": failure_code,
        "steps": steps,
        "task_hash": task_hash(first, step_hashes=hashes, state=state, failure_code=failure_code)
        if ended
        else None,
    }
