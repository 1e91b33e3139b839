"""A task from REST through all services to a trace that verifies."""

from __future__ import annotations

import http.client
import json
import secrets
from datetime import datetime
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest

from libs.cli.client import Client, Refused, Server
from libs.cli.stack import Stack
from libs.core.lifecycle import TaskState, may_follow
from libs.core.verification import verify
from tests.e2e.tasks import (
    CHAIN,
    EXECUTE,
    FAILING,
    UNPLANNABLE,
    UNRESOLVED,
    WAITING,
    finished,
    new_tenant,
    run_and_trace,
    trace_of,
)
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

_EXECUTION = {
    "version": str,
    "task_id": str,
    "status": str,
    "duration_seconds": float,
    "cost_usd": float,
    "result": object,
    "error": (str, type(None)),
    "failure": (dict, type(None)),
}
_TASK = {
    "version": str,
    "id": str,
    "task_id": str,
    "replay_of_task_id": type(None),
    "input": dict,
    "status": str,
    "plan": dict,
    "result": object,
    "error": (str, type(None)),
    "created_at": str,
    "execution_started_at": str,
    "execution_finished_at": str,
    "failure": (dict, type(None)),
}
_TRACE = {
    "version": str,
    "task_id": str,
    "replay_of_task_id": type(None),
    "status": str,
    "failure": (dict, type(None)),
    "estimated_cost_usd": (int, float),
    "events": list,
    "steps": list,
    "plan_validation_failures": list,
    "runtime_schema_failures": list,
    "summary": dict,
}
_STEP = {
    "id": str,
    "step_index": int,
    "tool_name": str,
    "input": object,
    "output": object,
    "status": str,
    "error": (str, type(None)),
    "started_at": str,
    "finished_at": (str, type(None)),
    "duration_ms": (int, type(None)),
}
_SUMMARY = {
    "total_steps": int,
    "succeeded_steps": int,
    "failed_steps": int,
    "running_steps": int,
    "total_duration_ms": int,
    "sandbox_runs": int,
    "task_hash": str,
    "step_hashes": list,
    "queue_latency_ms": (int, type(None)),
    "retry_count": int,
}


def _has(record: dict[str, Any], shape: dict[str, Any]) -> None:
    wrong = {
        name: record.get(name, "is missing")
        for name, kind in shape.items()
        if name not in record or not isinstance(record[name], kind)
    }
    assert not wrong


def test_the_request_of_the_reference_is_answered_in_its_shape(any_stack: Stack) -> None:
    client = Client(any_stack.server)
    body = {
        "task_definition": {"topic": "Summarize weekly release notes"},
        "max_steps": 12,
        "timeout_seconds": 45,
    }

    at_once = client.post(EXECUTE, body)
    done = finished(client, body)

    _has(at_once, _EXECUTION)
    _has(done, _EXECUTION)
    assert (at_once["status"], at_once["result"]) == ("queued", {"queued": True})
    assert (done["status"], done["error"], done["failure"]) == ("succeeded", None, None)
    task = client.get(f"/api/v1/tasks/{done['task_id']}")
    _has(task, _TASK)
    assert task["input"] == body["task_definition"]
    assert task["plan"]["limits"]["max_steps"] == 12
    assert task["plan"]["limits"]["max_total_seconds"] == 45


def test_a_chain_of_references_gives_its_result_and_a_whole_trace(any_stack: Stack) -> None:
    trace = run_and_trace(Client(any_stack.server), CHAIN)

    _has(trace, _TRACE)
    _has(trace["summary"], _SUMMARY)
    for step in trace["steps"]:
        _has(step, _STEP)
    assert [step["input"] for step in trace["steps"]][2] == {
        "expression": "x / y",
        "variables": {"x": 6, "y": 2.5},
    }
    assert trace["steps"][2]["output"] == {"result": 2.4}
    assert (trace["summary"]["succeeded_steps"], trace["summary"]["retry_count"]) == (3, 0)
    report = verify(trace)
    assert report.holds, report.first_difference


def test_the_first_failure_ends_a_task_and_nothing_runs_after_it(any_stack: Stack) -> None:
    trace = run_and_trace(Client(any_stack.server), FAILING)

    failure = trace["failure"]
    assert (trace["status"], failure["step"], failure["index"]) == ("failed", "math", 2)
    assert failure["code"] == "TOOL_ERROR"
    assert [step["status"] for step in trace["steps"]] == ["succeeded", "failed"]
    assert trace["steps"][1]["error"]
    assert trace["steps"][1]["output"] is None
    assert verify(trace).holds


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (UNRESOLVED, "INPUT_SCHEMA"),
        (WAITING, "TIMEOUT"),
        (UNPLANNABLE, "PLANNER_UNAVAILABLE"),
        ({"task_definition": {"expression": "9**9**9"}}, "TOOL_ERROR"),
    ],
)
def test_a_task_that_fails_in_another_way_verifies_too(
    client: Client, body: dict[str, Any], code: str
) -> None:
    trace = run_and_trace(client, body)

    report = verify(trace)
    assert (trace["status"], trace["failure"]["code"]) == ("failed", code)
    assert report.holds, report.first_difference
    assert trace["summary"]["task_hash"]


@pytest.mark.parametrize(
    "definition",
    [
        {"expression": "(1 + 2) * 3"},
        {"text": "One. Two is longer. Three is here.", "topic": "two"},
        {"html": "<h1>Head</h1><p>Some words stand here.</p>"},
        {"data": {"a": [1, 2]}, "query": "a[1]"},
        {"topic": "A bare topic"},
    ],
)
def test_an_input_that_is_recognised_is_planned_without_a_model(
    client: Client, definition: dict[str, Any]
) -> None:
    done = finished(client, {"task_definition": definition})

    task = client.get(f"/api/v1/tasks/{done['task_id']}")
    assert (done["status"], task["planned_by"]) == ("succeeded", "offline")


def test_events_are_gapless_and_in_the_order_of_what_happened(client: Client) -> None:
    trace = run_and_trace(client, CHAIN)

    events = trace["events"]
    states = [
        (event["payload"]["from"], event["payload"]["to"])
        for event in events
        if event["event"] == "task.status_transition"
    ]
    steps = [
        (event["event"], event["payload"]["step_index"])
        for event in events
        if event["event"].startswith("task.step_")
    ]
    times = [datetime.fromisoformat(event["created_at"]) for event in events]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert states[0] == (None, "created")
    assert all(may_follow(TaskState(a), TaskState(b)) for a, b in states[1:])
    assert steps == [
        (f"task.step_{what}", n) for n in (1, 2, 3) for what in ("started", "finished")
    ]
    assert times == sorted(times)


def test_a_step_starts_only_after_the_record_of_the_one_before(client: Client) -> None:
    steps = run_and_trace(client, CHAIN)["steps"]

    for before, after in pairwise(steps):
        assert before["finished_at"] <= after["started_at"]


def test_the_stream_of_a_task_can_be_taken_up_after_any_event(client: Client) -> None:
    trace = run_and_trace(client, FAILING)

    whole = list(client.api.stream(trace["task_id"]))
    rest = list(client.api.stream(trace["task_id"], after=4))

    assert [event.raw for event in whole] == [
        event | {"task_id": trace["task_id"]} for event in trace["events"]
    ]
    assert rest == whole[4:]


def test_the_same_idempotency_key_submits_once(client: Client) -> None:
    headers = {"Idempotency-Key": secrets.token_hex(8)}

    first = client.post(EXECUTE, CHAIN, headers=headers)
    again = client.post(f"{EXECUTE}?wait=25", dict(reversed(CHAIN.items())), headers=headers)
    with pytest.raises(Refused) as other:
        client.post(EXECUTE, FAILING, headers=headers)

    assert (again["task_id"], again["status"]) == (first["task_id"], "succeeded")
    assert (other.value.status, other.value.code) == (422, "idempotency_key_reused")


def test_what_is_refused_leaves_nothing_behind(client: Client) -> None:
    before = client.get("/v1/tools")
    plan = {"steps": [{"step_index": 1, "tool": "no_such_tool", "input": {}}]}

    with pytest.raises(Refused) as refused:
        client.post(EXECUTE, {"task_definition": {}, "plan": plan})

    assert (refused.value.status, refused.value.code) == (422, "unknown_tool")
    assert refused.value.problem["errors"][0]["field"] == "plan.steps[0].tool"
    assert client.get("/v1/tools") == before


def test_another_tenant_sees_nothing_of_a_task(stack: Stack, client: Client) -> None:
    task_id = finished(client, CHAIN)["task_id"]
    stranger = new_tenant(stack, f"stranger-{secrets.token_hex(4)}")

    for path in ("", "/trace", "/events"):
        with pytest.raises(Refused) as refused:
            stranger.get(f"/api/v1/tasks/{task_id}{path}")
        assert (refused.value.status, refused.value.code) == (404, "not_found")
    assert finished(stranger, CHAIN)["status"] == "succeeded"


async def test_a_revoked_key_is_refused_within_five_seconds(stack: Stack, client: Client) -> None:
    tenant = f"short-{secrets.token_hex(4)}"
    client.post("/v1/tenants", {"name": tenant, "tier": "pro"})
    key = client.post("/v1/keys", {"tenant": tenant})
    holder = Client(Server(url=stack.server.url, api_key=key["key"]))
    holder.get("/v1/tools")

    client.delete(f"/v1/keys/{key['id']}")

    def is_refused() -> bool:
        try:
            holder.get("/v1/tools")
        except Refused as error:
            return error.status == 401
        return False

    await eventually(is_refused, timeout=6.0)


def test_another_spelling_of_the_id_is_the_same_task(client: Client) -> None:
    task_id = finished(client, CHAIN)["task_id"]

    for spelling in (f"task_{task_id}", f"task_{task_id.replace('-', '')}", task_id.upper()):
        assert client.get(f"/api/v1/tasks/{spelling}")["id"] == task_id


def test_numbers_come_back_as_the_same_numbers(client: Client) -> None:
    data = {"a": 1.0, "b": 0.1, "c": 1e21, "d": -0.0, "e": 9007199254740991, "f": "é\u2028😀"}
    query = {"data": data, "query": "@"}
    plan = {"steps": [{"step_index": 1, "tool": "json_query", "input": query}]}

    trace = run_and_trace(client, {"task_definition": {}, "plan": plan})

    assert trace["steps"][0]["output"]["result"] == data
    assert verify(trace).holds


def test_health_and_the_description_are_open_to_all(stack: Stack) -> None:
    parts = urlsplit(stack.server.url)

    def get(path: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, json.loads(content)

    assert get("/healthz")[0] == get("/readyz")[0] == 200
    status, description = get("/openapi.json")
    assert (status, description["openapi"][:3]) == (200, "3.1")
    assert EXECUTE in description["paths"]


def test_the_trace_of_a_running_task_verifies_so_far(client: Client) -> None:
    plan = {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": 2}}]}
    accepted = client.post(EXECUTE, {"task_definition": {}, "plan": plan})
    for event in client.api.stream(accepted["task_id"]):
        if event.event == "task.step_started":
            break

    report = verify(trace_of(client, accepted["task_id"]))

    assert (report.holds, report.state) == (True, TaskState.RUNNING), report.first_difference
