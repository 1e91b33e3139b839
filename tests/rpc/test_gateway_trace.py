"""GET trace over HTTP: every field of the contract, and a verification block that verifies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from libs.core.hashing import plan_hash, step_hash, task_hash
from libs.core.plan import Limits, Plan, Step
from libs.core.tool_spec import ToolRef
from libs.core.verification import verify
from libs.pb.pawl.common.v1 import failure_pb2
from libs.pb.pawl.plan.v1 import plan_pb2
from libs.pb.pawl.scheduler.v1 import task_pb2, trace_pb2
from libs.rpc.convert import plan_to_proto
from libs.rpc.tokens import KeyRing
from tests.gateway_fakes import at, make_event, make_task
from tests.gateway_world import VERSION, GatewayWorld, gateway_world

MATH = ToolRef("math", "1.0.0", "c" * 64)
TOOL = plan_pb2.ToolRef(name="math", version="1.0.0", digest="c" * 64)
PLAN = Plan(
    steps=tuple(
        Step(step_index=n, tool="math", input={"expression": text})
        for n, text in ((1, "1+1"), (2, "1/0"), (3, "3"))
    ),
    limits=Limits(max_steps=12, max_total_seconds=45),
)
HASHED = plan_hash(PLAN, tools=[MATH], task_input={"topic": "x"})
FIRST = step_hash(
    HASHED,
    step_index=1,
    tool="math@1.0.0",
    resolved_input={"expression": "1+1"},
    output={"result": 2},
    failure_code=None,
)
SECOND = step_hash(
    FIRST,
    step_index=2,
    tool="math@1.0.0",
    resolved_input={"expression": "1/0"},
    output=None,
    failure_code="TOOL_ERROR",
)
ENDED = task_hash(HASHED, step_hashes=[FIRST, SECOND], state="failed", failure_code="TOOL_ERROR")
WHY = failure_pb2.Failure(
    code="TOOL_ERROR", message="division by zero", step="math", step_index=2, reason="MATH_DOMAIN"
)
NONE = task_pb2.TASK_STATE_UNSPECIFIED
CREATED = task_pb2.TASK_STATE_CREATED
PLANNED = task_pb2.TASK_STATE_PLANNED
QUEUED = task_pb2.TASK_STATE_QUEUED
RUNNING = task_pb2.TASK_STATE_RUNNING
FAILED = task_pb2.TASK_STATE_FAILED
CANCELLED = task_pb2.TASK_STATE_CANCELLED
EVENTS = [
    make_event(1, "status_transition", NONE, CREATED),
    make_event(2, "status_transition", CREATED, PLANNED, data='{"mode":"live"}'),
    make_event(3, "status_transition", PLANNED, QUEUED),
    make_event(4, "status_transition", QUEUED, RUNNING),
    make_event(5, "step_started", RUNNING, RUNNING, data='{"step_index":1,"tool":"math","seq":5}'),
    make_event(6, "plan_validation_failed", RUNNING, RUNNING, data='{"message":"bad"}'),
    make_event(7, "status_transition", RUNNING, FAILED, data='{"task_hash":"h"}'),
]
STEPS = [
    trace_pb2.StepRecord(
        id="fe5e1e18-e2cc-4985-845f-76c0e24c7a65",
        step_index=1,
        tool=TOOL,
        resolved_input_json='{"expression":"1+1"}',
        output_json='{"result":2}',
        status=trace_pb2.STEP_STATUS_SUCCEEDED,
        started_at=at(1),
        finished_at=at(1.0114),
        step_hash=FIRST,
        cost_usd=0.0001,
        tokens=30,
        sandbox_ms=12,
    ),
    trace_pb2.StepRecord(
        id="fe5e1e18-e2cc-4985-845f-76c0e24c7a66",
        step_index=2,
        tool=TOOL,
        resolved_input_json='{"expression":"1/0"}',
        status=trace_pb2.STEP_STATUS_FAILED,
        failure=WHY,
        started_at=at(2),
        finished_at=at(7),
        step_hash=SECOND,
        schema_failures_json='[{"path":"","message":"m","where":"input"}]',
    ),
]


def make_trace_task(state: task_pb2.TaskState.ValueType, **members: Any) -> task_pb2.Task:
    return make_task(state, plan=plan_to_proto(PLAN), plan_hash=HASHED, **members)


@pytest_asyncio.fixture(scope="module")
async def started(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as world:
        yield world


@pytest.fixture
def world(started: GatewayWorld) -> GatewayWorld:
    started.forget()
    return started


async def trace_of(world: GatewayWorld, task: task_pb2.Task, *pages: trace_pb2.TracePage) -> Any:
    head = trace_pb2.TraceHead(task=task, tool_set=[TOOL])
    world.scheduler.pages = [trace_pb2.TracePage(head=head), *pages]
    answer = await world.http.get(f"/api/v1/tasks/{world.scheduler.keep(task)}/trace")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_trace_has_every_field_of_the_contract(world: GatewayWorld) -> None:
    task = make_trace_task(FAILED, failure=WHY, task_hash=ENDED, cost_usd=0.0012)

    trace = await trace_of(
        world,
        task,
        trace_pb2.TracePage(events=EVENTS[:4]),
        trace_pb2.TracePage(events=EVENTS[4:], steps=STEPS[:1]),
        trace_pb2.TracePage(steps=STEPS[1:]),
    )

    assert {name: trace[name] for name in list(trace)[:6]} == {
        "version": VERSION,
        "task_id": task.id,
        "replay_of_task_id": None,
        "status": "failed",
        "failure": {
            "step": "math",
            "index": 2,
            "code": "TOOL_ERROR",
            "message": "division by zero",
            "reason": "MATH_DOMAIN",
        },
        "estimated_cost_usd": 0.0012,
    }
    assert trace["summary"] == {
        "total_steps": 2,
        "succeeded_steps": 1,
        "failed_steps": 1,
        "running_steps": 0,
        "interrupted_steps": 0,
        "total_duration_ms": 5011,
        "tokens": 0,
        "sandbox_runs": 0,
        "task_hash": ENDED,
        "step_hashes": [FIRST, SECOND],
        "queue_latency_ms": 100,
        "retry_count": 0,
    }
    assert trace["steps"][0] == {
        "id": "fe5e1e18-e2cc-4985-845f-76c0e24c7a65",
        "step_index": 1,
        "tool_name": "math",
        "tool_version": "1.0.0",
        "input": {"expression": "1+1"},
        "output": {"result": 2},
        "status": "succeeded",
        "error": None,
        "failure": None,
        "started_at": "2026-02-27T11:18:02.127894+00:00",
        "finished_at": "2026-02-27T11:18:02.139294+00:00",
        "duration_ms": 11,
        "step_hash": FIRST,
        "cost_usd": 0.0001,
        "tokens": 30,
        "sandbox_ms": 12,
    }
    assert trace["steps"][1]["error"] == "division by zero"


async def test_events_say_what_happened_and_when(world: GatewayWorld) -> None:
    task = make_trace_task(FAILED, failure=WHY, task_hash=ENDED)

    trace = await trace_of(world, task, trace_pb2.TracePage(events=EVENTS))

    assert [event["seq"] for event in trace["events"]] == [1, 2, 3, 4, 5, 6, 7]
    assert trace["events"][0]["payload"]["from"] is None
    assert trace["events"][3] == {
        "event": "task.status_transition",
        "payload": {"from": "queued", "to": "running", "at": "2026-02-27T11:18:01.527894+00:00"},
        "created_at": "2026-02-27T11:18:01.527894+00:00",
        "seq": 4,
    }
    assert trace["events"][4]["payload"] == {
        "at": "2026-02-27T11:18:01.627894+00:00",
        "step_index": 1,
        "tool": "math",
    }
    assert trace["events"][6]["payload"]["task_hash"] == "h"
    assert trace["plan_validation_failures"] == [
        {"at": "2026-02-27T11:18:01.727894+00:00", "message": "bad"}
    ]


async def test_schema_failures_name_their_step(world: GatewayWorld) -> None:
    task = make_trace_task(FAILED, failure=WHY, task_hash=ENDED)

    trace = await trace_of(world, task, trace_pb2.TracePage(steps=STEPS))

    assert trace["runtime_schema_failures"] == [
        {"step_index": 2, "tool_name": "math", "path": "", "message": "m", "where": "input"}
    ]


async def test_the_trace_verifies(world: GatewayWorld) -> None:
    task = make_trace_task(FAILED, failure=WHY, task_hash=ENDED)

    trace = await trace_of(world, task, trace_pb2.TracePage(events=EVENTS, steps=STEPS))

    report = verify(trace, expected_task_hash=ENDED)
    assert report.holds, report.first_difference


async def test_the_trace_of_a_running_task_verifies(world: GatewayWorld) -> None:
    running = trace_pb2.StepRecord(
        id="fe5e1e18-e2cc-4985-845f-76c0e24c7a66",
        step_index=2,
        tool=TOOL,
        status=trace_pb2.STEP_STATUS_RUNNING,
        started_at=at(2),
    )

    trace = await trace_of(
        world, make_trace_task(RUNNING), trace_pb2.TracePage(steps=[STEPS[0], running])
    )

    assert trace["steps"][1]["input"] == {"expression": "1/0"}
    assert trace["steps"][1]["duration_ms"] is None
    assert trace["summary"]["running_steps"] == 1
    assert verify(trace).holds


async def test_the_trace_of_a_cancelled_task_verifies(world: GatewayWorld) -> None:
    lost = trace_pb2.StepRecord(
        id="fe5e1e18-e2cc-4985-845f-76c0e24c7a66",
        step_index=2,
        tool=TOOL,
        status=trace_pb2.STEP_STATUS_INTERRUPTED,
        started_at=at(2),
    )
    ended = task_hash(HASHED, step_hashes=[FIRST], state="cancelled", failure_code=None)
    task = make_trace_task(CANCELLED, task_hash=ended)
    last = make_event(5, "status_transition", RUNNING, CANCELLED)

    trace = await trace_of(
        world, task, trace_pb2.TracePage(steps=[STEPS[0], lost], events=[*EVENTS[:4], last])
    )

    assert trace["status"] == "failed"
    assert trace["failure"]["code"] == "CANCELLED"
    assert trace["verification"]["state"] == "cancelled"
    assert trace["events"][-1]["payload"]["to"] == "failed"
    assert trace["steps"][1]["status"] == "interrupted"
    assert trace["steps"][1]["error"]
    assert verify(trace).holds


async def test_the_trace_of_a_task_that_was_never_planned_verifies(world: GatewayWorld) -> None:
    why = failure_pb2.Failure(code="PLANNER_UNAVAILABLE", message="configure a model")
    ended = task_hash("", step_hashes=[], state="failed", failure_code="PLANNER_UNAVAILABLE")
    task = make_task(FAILED, plan=None, plan_hash="", failure=why, task_hash=ended)
    world.scheduler.pages = [trace_pb2.TracePage(head=trace_pb2.TraceHead(task=task))]

    answer = await world.http.get(f"/api/v1/tasks/{world.scheduler.keep(task)}/trace")

    trace = answer.json()
    assert trace["verification"]["plan"] is None
    assert trace["summary"]["queue_latency_ms"] is None
    assert verify(trace).holds
