"""Cancelling and due times on a whole Pawl."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from libs.cli.client import Client, Refused, Server
from libs.cli.stack import Stack, running_stack
from libs.cli.up.ready_file import Instance
from libs.core.verification import verify
from tests.e2e.tasks import CHAIN, EXECUTE, finished, new_tenant, trace_of
from tests.stacks import StackEnvirons
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

LONG: dict[str, Any] = {
    "task_definition": {},
    "plan": {
        "steps": [
            {"step_index": 1, "tool": "math", "input": {"expression": "1"}},
            {"step_index": 2, "tool": "wait", "input": {"seconds": 30}},
            {"step_index": 3, "tool": "math", "input": {"expression": "3"}},
        ],
        "limits": {"max_step_seconds": 40},
    },
}
"""Stands in step 2 for half a minute."""


def cancelled(client: Client, task_id: str) -> dict[str, Any]:
    return client.post(f"/v1/tasks/{task_id}/cancel", {})


def looked_at(client: Client, task_id: str) -> dict[str, Any]:
    return client.get(f"/api/v1/tasks/{task_id}")


async def in_step_2(client: Client) -> str:
    """The id of a new task that stands in its second step."""
    task_id = str(client.post(EXECUTE, LONG)["task_id"])
    await eventually(lambda: len(trace_of(client, task_id)["steps"]) == 2)
    return task_id


async def test_cancel_kills_the_running_step_and_keeps_what_was_closed(client: Client) -> None:
    task_id = await in_step_2(client)

    began = time.monotonic()
    task = cancelled(client, task_id)
    took = time.monotonic() - began

    trace = trace_of(client, task_id)
    assert (task["status"], task["task_id"]) == ("cancelled", f"task_{task_id}")
    assert took < 2
    assert [step["status"] for step in trace["steps"]] == ["succeeded", "interrupted"]
    assert trace["failure"]["code"] == "CANCELLED"
    assert "task.cancel_requested" in [event["event"] for event in trace["events"]]
    assert verify(trace).holds


async def test_cancel_of_an_ended_task_changes_nothing(client: Client) -> None:
    task_id = str(finished(client, CHAIN)["task_id"])
    before = trace_of(client, task_id)

    with pytest.raises(Refused) as refused:
        cancelled(client, task_id)

    assert (refused.value.status, refused.value.code) == (409, "conflict")
    assert trace_of(client, task_id) == before


async def test_cancel_is_for_the_task_s_tenant_and_the_scope_to_write(
    stack: Stack, client: Client
) -> None:
    task_id = await in_step_2(client)
    stranger = new_tenant(stack, "canceller")
    reading = client.post("/v1/keys", {"scopes": ["tasks:read"]})["key"]
    reader = Client(Server(url=stack.server.url, api_key=reading))

    refusals = []
    for who in (stranger, reader):
        with pytest.raises(Refused) as refused:
            cancelled(who, task_id)
        refusals.append((refused.value.status, refused.value.code))

    assert refusals == [(404, "not_found"), (403, "insufficient_scope")]
    assert looked_at(client, task_id)["status"] == "running"
    assert cancelled(client, task_id)["status"] == "cancelled"


async def test_task_with_a_due_time_is_planned_until_then(client: Client) -> None:
    due = datetime.now(UTC) + timedelta(seconds=4)

    accepted = client.post(EXECUTE, CHAIN | {"scheduled_at": due.isoformat(), "priority": 3})
    waiting = looked_at(client, accepted["task_id"])
    ended = client.get(f"/api/v1/tasks/{accepted['task_id']}", {"wait": 20})

    assert (accepted["status"], waiting["status"]) == ("planned", "planned")
    assert (waiting["queue"]["reason"], waiting["priority"]) == ("scheduled", 3)
    assert ended["status"] == "succeeded"
    assert ended["queue"] is None
    assert datetime.fromisoformat(ended["execution_started_at"]) >= due


async def test_task_that_is_not_due_yet_is_cancelled_at_once(client: Client) -> None:
    due = datetime.now(UTC) + timedelta(days=1)
    task_id = client.post(EXECUTE, CHAIN | {"scheduled_at": due.isoformat()})["task_id"]

    assert cancelled(client, task_id)["status"] == "cancelled"
    assert trace_of(client, task_id)["steps"] == []


async def test_cancel_reaches_executors_of_the_other_scheduler(
    tmp_path: Path, environs: StackEnvirons
) -> None:
    environ = environs.fresh(PAWL_EXECUTOR_SLOTS="1")
    options = ("--executors", "2", "--schedulers", "2")
    with running_stack(tmp_path / "data", *options, environ=environ) as running:
        client = Client(running.server)
        streams = [await streams_of(one.metrics_address) for one in schedulers_of(running)]
        task_ids = [await in_step_2(client) for _ in range(2)]
        third = str(client.post(EXECUTE, LONG)["task_id"])
        waiting = looked_at(client, third)
        began = time.monotonic()
        tasks = [cancelled(client, task_id) for task_id in (*task_ids, third)]
        took = time.monotonic() - began

    # One each, unless one of them was slow to answer: then its executor went to the other.
    assert sum(streams) == 2.0
    assert waiting["queue"]["reason"] == "no_slot"
    assert [task["status"] for task in tasks] == ["cancelled"] * 3
    assert took < 6


def schedulers_of(running: Stack) -> tuple[Instance, ...]:
    return running.ready.services["scheduler"]


async def streams_of(metrics_address: str) -> float:
    """How many executors are connected to the scheduler with these metrics."""
    async with httpx2.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"http://{metrics_address}/metrics")).text
    found = re.search(r"^pawl_work_streams ([0-9.]+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])
