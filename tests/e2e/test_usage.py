"""What a run of tasks costs is known before, and metered to the last digit."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from libs.cli.client import Client, Server
from libs.cli.stack import Stack, await_tool, running_stack
from libs.core.prices import Prices, usd
from tests.e2e.tasks import EXECUTE, FAILING, UNPLANNABLE, finished, new_tenant, trace_of
from tests.published import check_published
from tests.stacks import StackEnvirons
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

PRICES = Prices(
    step_usd=Decimal("0.01"),
    sandbox_second_usd=Decimal("0.7"),
    thousand_tokens_usd=Decimal(3),
)
TABLE = "step_usd = 0.01\nsandbox_second_usd = 0.7\nthousand_tokens_usd = 3\n"
USAGE = "/api/v1/tasks/usage"


def plan_of(*steps: tuple[str, Any], **limits: Any) -> dict[str, Any]:
    listed = [
        {"step_index": index, "tool": tool, "input": value}
        for index, (tool, value) in enumerate(steps, start=1)
    ]
    plan: dict[str, Any] = {"steps": listed} | ({"limits": limits} if limits else {})
    return {"task_definition": {}, "plan": plan}


MATH = ("math", {"expression": "1 + 1"})
WAIT = ("wait", {"seconds": 30})
THREE = plan_of(MATH, MATH, MATH)
CODE = plan_of(("python_sandbox", {"code": "result = sum(range(100000))"}))
BROKEN_CODE = plan_of(("python_sandbox", {"code": "1 / 0"}), MATH)
ENDLESS = {"code": "while True: pass"}
ENDLESS_CODE = plan_of(MATH, ("python_sandbox", ENDLESS))
WAITING = plan_of(MATH, WAIT, MATH)


@pytest_asyncio.fixture(scope="module")
async def priced(
    tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons
) -> AsyncIterator[Stack]:
    """A Pawl with a price table of its own, whose code steps run in Monty."""
    pytest.importorskip("pydantic_monty")
    directory = tmp_path_factory.mktemp("priced")
    table = directory / "prices.toml"
    table.write_text(TABLE, encoding="utf-8")
    environ = environs.fresh(PAWL_SANDBOX="monty", PAWL_PRICES=str(table))
    with running_stack(directory / "data", environ=environ) as stack:
        await_tool(stack, "python_sandbox")
        yield stack
        await check_published(stack)


def key_of(stack: Stack, tenant: str, *, mode: str) -> Client:
    """A client with a further key of a tenant."""
    made = Client(stack.server).post("/v1/keys", {"tenant": tenant, "mode": mode})
    return Client(Server(url=stack.server.url, api_key=made["key"]))


async def cancelled(client: Client, body: dict[str, Any]) -> str:
    """The id of a task that was cancelled in its second step."""
    task_id = str(client.post(EXECUTE, body)["task_id"])
    await eventually(lambda: len(trace_of(client, task_id)["steps"]) == 2)
    client.post(f"/v1/tasks/{task_id}/cancel", {})
    return task_id


def used_by(trace: dict[str, Any]) -> tuple[int, int]:
    """Finished steps, and milliseconds in the sandbox with those of a step that was killed."""
    closed = [step for step in trace["steps"] if step["finished_at"]]
    killed = trace["events"][-1]["payload"].get("sandbox_ms", 0)
    return len(closed), sum(step["sandbox_ms"] for step in closed) + killed


def cost_of(traces: Iterable[dict[str, Any]]) -> Decimal:
    """What the price table says of them."""
    used = [used_by(trace) for trace in traces]
    return PRICES.of(steps=sum(n for n, _ in used), sandbox_ms=sum(ms for _, ms in used))


async def test_usage_of_a_run_of_tasks_is_predicted(priced: Stack) -> None:
    name = f"used-{secrets.token_hex(4)}"
    client = new_tenant(priced, name)
    tested = key_of(priced, name, mode="test")
    bodies = (THREE, FAILING, UNPLANNABLE, CODE, BROKEN_CODE)
    answers = [finished(client, body) for body in bodies]
    in_test = finished(tested, THREE)
    killed = [await cancelled(client, body) for body in (WAITING, ENDLESS_CODE)]

    traces = [trace_of(client, one["task_id"]) for one in answers]
    traces += [trace_of(client, task_id) for task_id in killed]
    steps = [used_by(trace)[0] for trace in traces]
    expected = {
        "monthly_task_executions": 7,
        "monthly_steps": sum(steps),
        "monthly_sandbox_seconds": sum(used_by(trace)[1] for trace in traces) / 1000,
        "total_usage_usd": float(cost_of(traces)),
        "active_tasks": 0,
    }

    def is_metered() -> bool:
        said = client.get(USAGE)
        return {member: said[member] for member in expected} == expected

    assert steps == [3, 2, 0, 1, 1, 1, 1]
    await eventually(is_metered, timeout=10)
    # Each task by itself: in the answer, in the trace, and its steps.
    for answer, trace in zip(answers, traces, strict=False):
        assert answer["cost_usd"] == trace["estimated_cost_usd"] == float(cost_of([trace]))
    assert all(trace["estimated_cost_usd"] == float(cost_of([trace])) for trace in traces)
    waited, looped = traces[-2:]
    assert waited["estimated_cost_usd"] == 0.01
    assert looped["events"][-1]["payload"]["sandbox_ms"] > 0
    code = traces[3]["steps"][0]
    assert code["sandbox_ms"] > 0
    assert usd(code["cost_usd"]) == PRICES.of(steps=1, sandbox_ms=code["sandbox_ms"])
    # A test key sees what its tasks would cost; nobody is charged for them.
    assert in_test["cost_usd"] == 0.03
    assert tested.get(USAGE)["total_usage_usd"] == expected["total_usage_usd"]


async def test_days_table_and_command_say_the_same(priced: Stack) -> None:
    client = new_tenant(priced, f"days-{secrets.token_hex(4)}", tier="starter")
    for _ in range(3):
        finished(client, THREE)
    await eventually(lambda: client.get(USAGE)["monthly_steps"] == 9, timeout=10)

    account = client.get(USAGE)
    days = client.get("/v1/usage")
    rows = list(csv.DictReader(client.text("/v1/usage", {"format": "csv"}).splitlines()))
    command = [sys.executable, "-m", "libs.cli", "usage", "--json"]
    env = {n: v for n, v in os.environ.items() if not n.startswith("PAWL_")}
    env |= {"PAWL_URL": client.server.url, "PAWL_API_KEY": client.server.api_key}
    shown = await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, timeout=60, check=True
    )

    assert (account["plan"], account["rate_limit_per_minute"]) == ("starter", 60)
    assert account["total_usage_usd"] == 0.09
    total = days["total"]
    assert (total["tasks"], total["steps"], total["cost_usd"]) == (3, 9, 0.09)
    assert days["data"][0]["day"] == f"{account['month']}-01"
    assert sum(usd(row["cost_usd"]) for row in days["data"]) == Decimal("0.09")
    assert [row["day"] for row in rows] == [row["day"] for row in days["data"]]
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal("0.09")
    said = json.loads(shown.stdout)
    assert said["account"]["total_usage_usd"] == 0.09
    assert said["days"]["total"]["steps"] == 9


async def test_active_tasks_are_those_that_have_not_ended(priced: Stack) -> None:
    client = new_tenant(priced, f"active-{secrets.token_hex(4)}")
    task_id = str(client.post(EXECUTE, WAITING)["task_id"])

    await eventually(lambda: client.get(USAGE)["active_tasks"] == 1)
    client.post(f"/v1/tasks/{task_id}/cancel", {})

    assert client.get(USAGE)["active_tasks"] == 0


def test_task_stops_before_it_costs_more_than_it_may(priced: Stack) -> None:
    client = new_tenant(priced, f"limit-{secrets.token_hex(4)}")

    stopped = finished(client, plan_of(MATH, MATH, MATH, max_cost_usd=0.02))
    allowed = finished(client, plan_of(MATH, MATH, max_cost_usd=0.02))
    code = finished(client, plan_of(("python_sandbox", ENDLESS), max_cost_usd=0.15))

    assert (stopped["failure"]["code"], stopped["failure"]["index"]) == ("COST_LIMIT", None)
    assert (stopped["cost_usd"], allowed["cost_usd"]) == (0.02, 0.02)
    assert (allowed["status"], stopped["status"]) == ("succeeded", "failed")
    # 0.14 after the price of the step: a fifth of a second in the sandbox.
    assert (code["failure"]["code"], code["failure"]["index"]) == ("COST_LIMIT", 1)
    assert 0.14 <= code["cost_usd"] < 0.3
