"""Makes traces to be drawn: with times, of any length, and with whatever somebody may put in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from libs.client.reading import read
from libs.client.traces import Trace
from libs.core.hashing import written_plan_hash
from libs.core.tool_spec import ToolRef
from tests.recorded_traces import make_trace, rehash

BEGIN = datetime(2026, 2, 27, 11, 18, 2, tzinfo=UTC)


def as_trace(trace: dict[str, Any]) -> Trace:
    """The record of a trace."""
    return read(Trace, trace)


def make_timed_trace(
    *, queued_seconds: float = 0.5, step_seconds: tuple[float, ...] = (1.0, 2.0, 0.25), **how: Any
) -> dict[str, Any]:
    """The three-step trace of `make_trace`, with times: queued, then one step after the other."""
    trace = make_trace(**how)
    state = trace["verification"]["state"]
    at = BEGIN + timedelta(seconds=queued_seconds)
    told = [(BEGIN, None, "created"), (BEGIN, "created", "planned"), (BEGIN, "planned", "queued")]
    told.append((at, "queued", "running"))
    for step, seconds in zip(trace["steps"], step_seconds, strict=False):
        step["started_at"] = at.isoformat()
        at += timedelta(seconds=seconds)
        finished = step["step_hash"] is not None
        step["finished_at"] = at.isoformat() if finished else None
        step["duration_ms"] = round(seconds * 1000) if finished else None
    if state in {"succeeded", "failed", "cancelled"}:
        told.append((at, "running", "failed" if state == "cancelled" else state))
    trace["events"] = [
        _transition(seq, moment, before, after)
        for seq, (moment, before, after) in enumerate(told, start=1)
    ]
    return trace


def make_long_trace(steps: int, *, output: Any = None) -> dict[str, Any]:
    """A trace of so many steps of half a second, every hash of which matches."""
    trace = make_timed_trace()
    block = trace["verification"]
    first_planned, first, shown = block["plan"]["steps"][0], block["steps"][0], trace["steps"][0]
    numbers = range(1, steps + 1)
    value = {"result": 2} if output is None else output
    block["plan"]["steps"] = [first_planned | {"step_index": n} for n in numbers]
    block["plan"]["limits"]["max_steps"] = steps
    block["tool_set"] = [tool for tool in block["tool_set"] if tool[0] == "math"]
    block["steps"] = [first | {"step_index": n, "output": value} for n in numbers]
    at = BEGIN + timedelta(seconds=0.5)
    half = timedelta(seconds=0.5)
    trace["steps"] = [
        shown
        | {
            "id": f"0198c0de-7000-5abc-8def-{n:012d}",
            "step_index": n,
            "output": value,
            "started_at": (at + (n - 1) * half).isoformat(),
            "finished_at": (at + n * half).isoformat(),
            "duration_ms": 500,
        }
        for n in numbers
    ]
    end = at + steps * half
    trace["events"][-1] = _transition(5, end, "running", "succeeded")
    trace["summary"] |= {"total_steps": steps, "succeeded_steps": steps}
    _plan_anew(trace)
    rehash(trace)
    return trace


def _plan_anew(trace: dict[str, Any]) -> None:
    block = trace["verification"]
    block["plan_hash"] = written_plan_hash(
        block["plan"],
        tools=[ToolRef(*tool) for tool in block["tool_set"]],
        task_input=block["task_input"],
    )


def _transition(seq: int, at: datetime, before: str | None, after: str) -> dict[str, Any]:
    moment = at.isoformat()
    return {
        "event": "task.status_transition",
        "payload": {"from": before, "to": after, "at": moment},
        "created_at": moment,
        "seq": seq,
    }
