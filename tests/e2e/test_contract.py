"""Every field of the runtime dialect's reference, by name and type, in answers about real tasks.

The table runtime_contract.csv has a row per field of its examples: `a.b` is a member, `a[]` every
item, and a type is one of TYPES or several with | between. Members of what is null are not there.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from libs.cli.client import Client
from libs.cli.stack import Stack
from libs.core.errors import FailureCode
from tests.e2e.tasks import (
    CHAIN,
    EXECUTE,
    FAILING,
    UNPLANNABLE,
    UNRESOLVED,
    WAITING,
    finished,
    trace_of,
)
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}\+00:00")
_STATUSES = {"created", "planned", "queued", "running", "succeeded", "failed"}
SLOW: dict[str, Any] = {
    "task_definition": {},
    "plan": {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": 20}}]},
}


def later() -> dict[str, Any]:
    """A task that is due in an hour."""
    due = datetime.now(UTC) + timedelta(hours=1)
    return {"task_definition": {"expression": "1+1"}, "scheduled_at": due.isoformat()}


def _is_uuid(value: object) -> bool:
    return isinstance(value, str) and str(UUID(value)) == value


TYPES: dict[str, Callable[[Any], bool]] = {
    "any": lambda _: True,
    "null": lambda value: value is None,
    "text": lambda value: isinstance(value, str) and value != "",
    "uuid": _is_uuid,
    "time": lambda value: isinstance(value, str) and _TIME.fullmatch(value) is not None,
    "hash": lambda value: isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value),  # type: ignore[dict-item,return-value]
    "status": lambda value: value in _STATUSES,
    "step_status": lambda value: value in {"running", "succeeded", "failed", "interrupted"},
    "code": lambda value: value in set(FailureCode),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
}


def rows_of(answer: str) -> list[tuple[str, str]]:
    """The fields of an answer, with their types."""
    with (Path(__file__).parent / "runtime_contract.csv").open(encoding="utf-8") as table:
        found = [(r["field"], r["type"]) for r in csv.DictReader(table) if r["answer"] == answer]
    assert found
    return found


def values_at(value: Any, field: str) -> Iterator[Any]:
    """Every value that a field of the table names; nothing under null. KeyError: it is missing."""
    if value is None and field:
        return
    if not field:
        yield value
        return
    head, _, rest = field.partition(".")
    name = head.removesuffix("[]")
    inner = value[name] if name else value
    if head.endswith("[]"):
        for item in inner:
            yield from values_at(item, rest)
    else:
        yield from values_at(inner, rest)


def check(answer: str, record: dict[str, Any]) -> int:
    """AssertionError unless the record has every field of the table; how many values it has."""
    checked = 0
    for field, types in rows_of(answer):
        for value in values_at(record, field):
            checked += 1
            fits = any(TYPES[name](value) for name in types.split("|"))
            assert fits, f"{answer}: {field} is {value!r}, not {types}"
    return checked


@pytest.fixture(scope="module")
def client(stack: Stack) -> Client:
    """A client with the operator's key."""
    return Client(stack.server)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (CHAIN, "succeeded"),
        ({"task_definition": {"topic": "Summarize weekly release notes"}}, "succeeded"),
        (FAILING, "failed"),
        (UNRESOLVED, "failed"),
        (WAITING, "failed"),
        (UNPLANNABLE, "failed"),
    ],
)
def test_a_task_that_has_ended_has_every_field(
    client: Client, body: dict[str, Any], status: str
) -> None:
    at_once = client.post(EXECUTE, body)
    done = finished(client, body)
    task, trace = client.get(f"/api/v1/tasks/{done['task_id']}"), trace_of(client, done["task_id"])

    for name, record in (("execute", at_once), ("execute", done), ("task", task), ("trace", trace)):
        assert check(name, record) >= 8
    assert done["status"] == task["status"] == trace["status"] == status
    assert done["failure"] == task["failure"] == trace["failure"]
    assert (done["error"] is None) == (status == "succeeded")
    assert done["error"] == task["error"] == (done["failure"] or {}).get("message")
    assert task["id"] == task["task_id"] == trace["task_id"] == done["task_id"]
    assert isinstance(done["duration_seconds"], float)


def test_what_the_reference_shows_of_a_failure_is_shown(client: Client) -> None:
    """A step that takes too long: the example of the reference."""
    plan = {
        "steps": [
            {"step_index": 1, "tool": "math", "input": {"expression": "1+1"}},
            {"step_index": 2, "tool": "wait", "input": {"seconds": 20}},
        ],
        "limits": {"max_step_seconds": 0.3},
    }

    trace = trace_of(client, finished(client, {"task_definition": {}, "plan": plan})["task_id"])

    failure, summary = trace["failure"], trace["summary"]
    assert (failure["step"], failure["index"], failure["code"]) == ("wait", 2, "TIMEOUT")
    assert failure["message"].startswith("STEP_TIMEOUT: ")
    first, second = trace["steps"]
    assert (first["output"], first["status"], first["error"]) == ({"result": 2}, "succeeded", None)
    assert second["status"] == "failed"
    assert failure["message"].startswith(second["error"])
    assert second["duration_ms"] >= 300
    assert (summary["total_steps"], summary["succeeded_steps"], summary["failed_steps"]) == (
        2,
        1,
        1,
    )
    assert (summary["running_steps"], summary["retry_count"], summary["sandbox_runs"]) == (0, 0, 0)
    assert summary["total_duration_ms"] == first["duration_ms"] + second["duration_ms"]
    assert len(summary["step_hashes"]) == 2
    assert summary["queue_latency_ms"] >= 0
    assert (trace["plan_validation_failures"], trace["runtime_schema_failures"]) == ([], [])


def test_a_broken_schema_is_listed(client: Client) -> None:
    trace = trace_of(client, finished(client, UNRESOLVED)["task_id"])

    (wrong,) = trace["runtime_schema_failures"]
    assert (wrong["step_index"], wrong["tool_name"]) == (2, "json_query")
    assert trace["failure"]["code"] == "INPUT_SCHEMA"


def test_the_words_of_an_event_are_those_of_the_reference(client: Client) -> None:
    trace = trace_of(client, finished(client, CHAIN)["task_id"])

    moves = [one for one in trace["events"] if one["event"] == "task.status_transition"]
    assert [check("transition", one) for one in moves] == [5] * 5
    states = [(one["payload"]["from"], one["payload"]["to"]) for one in moves]
    assert states[0] == (None, "created")
    assert [to for _, to in states] == ["created", "planned", "queued", "running", "succeeded"]
    assert all(one[1] == other[0] for one, other in pairwise(states))


async def test_a_task_that_runs_and_one_that_waits_have_every_field(client: Client) -> None:
    running = client.post(EXECUTE, SLOW)["task_id"]
    waiting = client.post(EXECUTE, later())["task_id"]

    def begun() -> bool:
        return bool(trace_of(client, running)["steps"])

    await eventually(begun, timeout=10)
    seen = {}
    for task_id in (running, waiting):
        task, trace = client.get(f"/api/v1/tasks/{task_id}"), trace_of(client, task_id)
        assert check("task", task) + check("trace", trace) > 40
        seen[task_id] = task, trace
    cancelled = client.post(f"/v1/tasks/{running}/cancel", {})
    client.post(f"/v1/tasks/{waiting}/cancel", {})

    task, trace = seen[running]
    assert (task["status"], trace["steps"][0]["status"]) == ("running", "running")
    assert (trace["steps"][0]["finished_at"], trace["summary"]["running_steps"]) == (None, 1)
    assert trace["summary"]["task_hash"] is None
    task, trace = seen[waiting]
    assert (task["status"], trace["summary"]["queue_latency_ms"]) == ("planned", None)
    assert cancelled["status"] == "cancelled"
    for task_id in (running, waiting):
        task, trace = client.get(f"/api/v1/tasks/{task_id}"), trace_of(client, task_id)
        check("task", task)
        check("trace", trace)
        assert (task["status"], task["failure"]["code"]) == ("failed", "CANCELLED")


def test_a_replay_and_a_listed_task_have_every_field(client: Client) -> None:
    original = finished(client, CHAIN)["task_id"]
    replay = client.post(f"/api/v1/tasks/{original}/replay?wait=25", {})

    check("execute", replay)
    task = client.get(f"/api/v1/tasks/{replay['task_id']}")
    trace = trace_of(client, replay["task_id"])
    check("task", task)
    check("trace", trace)
    assert task["replay_of_task_id"] == trace["replay_of_task_id"] == original
    (listed,) = client.get("/api/v1/tasks", {"replay_of_task_id": original})["data"]
    assert listed == {name: task[name] for name in listed}
    left_out = {field.partition(".")[0] for field, _ in rows_of("task")} - set(listed)
    assert left_out == {"plan"}
