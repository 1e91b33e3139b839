"""Replays against a whole Pawl: what repeats matches, what does not is named, nothing is called
that is on record.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from libs.cli.client import Client, Refused
from libs.cli.stack import Stack, running_stack
from libs.core.prices import PRICES
from libs.core.verification import verify
from tests.e2e.tasks import (
    CHAIN,
    FAILING,
    UNRESOLVED,
    hashes,
    new_tenant,
    run_and_trace,
    trace_of,
)
from tests.replay_tools import COUNTER, calls_in, install_replay_tools
from tests.stacks import StackEnvirons
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

_ROOT = Path(__file__).parents[2]
_ADD = {"expression": "a + 1", "variables": {"a": {"$ref": "steps.1.output.n"}}}


def plan_of(*steps: tuple[str, Any]) -> dict[str, Any]:
    """A submission of these steps (tool, input)."""
    listed = [
        {"step_index": index, "tool": tool, "input": value}
        for index, (tool, value) in enumerate(steps, start=1)
    ]
    return {"task_definition": {}, "plan": {"steps": listed}}


COUNTED = plan_of(("counter", {"place": 1}), ("math", _ADD))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A running Pawl with the tools of these tests, and the file in which they count."""

    stack: Stack
    counter: Path

    @property
    def client(self) -> Client:
        """A client with the operator's key."""
        return Client(self.stack.server)

    @property
    def calls(self) -> int:
        """How often a tool that counts was called."""
        return calls_in(self.counter)

    def replay(self, task_id: str, **body: Any) -> dict[str, Any]:
        """Replay a task to its end; the trace of the replay."""
        answer = self.client.post(f"/api/v1/tasks/{task_id}/replay?wait=25", body)
        return trace_of(self.client, answer["task_id"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons) -> Iterator[World]:
    place = tmp_path_factory.mktemp("replay")
    install_replay_tools(place / "tools")
    counter = place / "calls"
    environ = environs.fresh(PYTHONPATH=f"{place / 'tools'}:{_ROOT}", **{COUNTER: str(counter)})
    with running_stack(place / "data", environ=environ) as stack:
        yield World(stack=stack, counter=counter)


@pytest.mark.parametrize(
    "body", [CHAIN, FAILING, UNRESOLVED], ids=["chain", "failing", "unresolved"]
)
@pytest.mark.parametrize("mode", ["live", "recorded"])
def test_what_is_pure_matches(world: World, body: dict[str, Any], mode: str) -> None:
    original = run_and_trace(world.client, body)

    trace = world.replay(original["task_id"], mode=mode)

    assert trace["replay_of_task_id"] == original["task_id"]
    assert trace["replay"] == {
        "of_task_id": original["task_id"],
        "mode": mode,
        "matches": True,
        "first_divergence": None,
    }
    assert hashes(trace) == hashes(original)
    assert verify(trace).holds
    task = world.client.get(f"/api/v1/tasks/{trace['task_id']}")
    assert task["replay_of_task_id"] == original["task_id"]
    assert original["replay"] is None


def test_a_live_replay_names_the_output_that_differs(world: World) -> None:
    original = run_and_trace(world.client, COUNTED)

    trace = world.replay(original["task_id"])

    n = original["steps"][0]["output"]["n"]
    assert trace["status"] == "succeeded"
    assert trace["replay"]["matches"] is False
    assert trace["replay"]["first_divergence"] == {
        "step_index": 1,
        "field": "output",
        "original": {"n": n},
        "replayed": {"n": n + 1},
    }
    assert hashes(trace)[0] == hashes(original)[0]


def test_a_recorded_replay_calls_nothing_and_matches(world: World) -> None:
    original = run_and_trace(world.client, COUNTED)
    before = world.calls

    trace = world.replay(original["task_id"], mode="recorded")
    again = world.replay(trace["task_id"], mode="recorded")

    assert world.calls == before
    assert (trace["replay"]["matches"], again["replay"]["matches"]) == (True, True)
    assert again["replay_of_task_id"] == trace["task_id"]
    assert hashes(again) == hashes(trace) == hashes(original)
    assert trace["estimated_cost_usd"] == float(PRICES.of(steps=len(trace["steps"])))


def test_a_recorded_failure_fails_again_without_a_call(world: World) -> None:
    original = run_and_trace(world.client, plan_of(("counter", {"fails": True})))
    before = world.calls

    trace = world.replay(original["task_id"], mode="recorded")

    assert world.calls == before
    assert trace["replay"]["matches"] is True
    assert trace["failure"]["code"] == "TOOL_ERROR"
    assert trace["failure"]["reason"] == "TOLD_TO"


def test_another_input_than_the_recorded_one_is_never_called(world: World) -> None:
    body = plan_of(("drift", {}), ("counter", {"from": {"$ref": "steps.1.output.n"}}))
    original = run_and_trace(world.client, body)
    before = world.calls

    trace = world.replay(original["task_id"], mode="recorded")

    assert world.calls == before + 1, "drift ran, counter did not"
    assert (trace["status"], trace["failure"]["reason"]) == ("failed", "RECORDING_MISSING")
    assert "counter@1.0.0 was not called" in trace["failure"]["message"]
    first = trace["replay"]["first_divergence"]
    assert (first["step_index"], first["field"]) == (1, "output")
    assert verify(trace).holds


def test_tools_of_a_replay_see_the_original_clock(world: World) -> None:
    original = run_and_trace(world.client, plan_of(("clock", {})))
    created_at = world.client.get(f"/api/v1/tasks/{original['task_id']}")["created_at"]

    trace = world.replay(world.replay(original["task_id"])["task_id"])

    assert original["steps"][0]["output"] == {"now": created_at}
    assert trace["replay"]["matches"] is True
    later = world.client.get(f"/api/v1/tasks/{trace['task_id']}")["created_at"]
    assert later > created_at


def test_a_key_stands_for_one_replay(world: World) -> None:
    original = run_and_trace(world.client, CHAIN)
    path = f"/api/v1/tasks/{original['task_id']}/replay"
    headers = {"Idempotency-Key": f"replay {original['task_id']}"}

    one = world.client.post(path, {}, headers=headers)
    same = world.client.post(path, {}, headers=headers)
    with pytest.raises(Refused) as other:
        world.client.post(path, {"mode": "recorded"}, headers=headers)

    assert one["task_id"] == same["task_id"]
    assert other.value.code == "idempotency_key_reused"


def test_anothers_task_cannot_be_replayed(world: World) -> None:
    tenant = new_tenant(world.stack, "replays")
    original = run_and_trace(tenant, CHAIN)
    path = f"/api/v1/tasks/{original['task_id']}/replay"

    with pytest.raises(Refused) as foreign:
        world.client.post(path, {})

    assert foreign.value.status == 404
    assert tenant.post(path, {})["status"] == "queued"


def test_a_tool_that_is_gone_is_named_unless_it_is_on_record(
    tmp_path: Path, environs: StackEnvirons
) -> None:
    install_replay_tools(tmp_path / "tools")
    environ = environs.fresh(**{COUNTER: str(tmp_path / "calls")})
    with_tools = environ | {"PYTHONPATH": f"{tmp_path / 'tools'}:{_ROOT}"}
    with running_stack(tmp_path / "data", environ=with_tools) as stack:
        original = run_and_trace(Client(stack.server), COUNTED)
    with running_stack(tmp_path / "data", environ=environ) as stack:
        client = Client(stack.server)
        path = f"/api/v1/tasks/{original['task_id']}/replay"

        with pytest.raises(Refused) as live:
            client.post(path, {})
        recorded = client.post(f"{path}?wait=25", {"mode": "recorded"})

        assert (live.value.status, live.value.code) == (422, "tool_unavailable")
        assert live.value.problem["errors"][0]["field"] == "plan.steps[0].tool"
        assert "counter@1.0.0" in live.value.problem["detail"]
        assert trace_of(client, recorded["task_id"])["replay"]["matches"] is True


async def test_a_replay_whose_executor_dies_is_not_run_twice(world: World) -> None:
    body = plan_of(("counter", {}), ("wait", {"seconds": 3}), ("counter", {}))
    original = run_and_trace(world.client, body)
    before = world.calls
    path = f"/api/v1/tasks/{original['task_id']}/replay"
    task_id = world.client.post(path, {})["task_id"]
    await eventually(lambda: len(trace_of(world.client, task_id)["steps"]) == 2)
    running = trace_of(world.client, task_id)

    os.kill(world.stack.pids["executor-1"], signal.SIGKILL)
    await eventually(
        lambda: world.client.get(f"/api/v1/tasks/{task_id}")["status"] == "failed", timeout=20
    )

    trace = trace_of(world.client, task_id)
    assert world.calls == before + 1
    assert trace["failure"]["code"] == "EXECUTOR_LOST"
    assert [step["status"] for step in trace["steps"]] == ["succeeded", "interrupted"]
    assert running["replay"]["matches"] is False, "the counter had counted on"
    assert trace["replay"]["first_divergence"]["field"] == "output"
    recorded = world.replay(original["task_id"], mode="recorded")
    assert recorded["replay"]["matches"] is True


def _pawl(stack: Stack, *args: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PAWL_")}
    env = kept | {"PAWL_URL": stack.server.url, "PAWL_API_KEY": stack.server.api_key}
    command = [sys.executable, "-m", "libs.cli", *args]
    return subprocess.run(
        command, cwd=_ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_command_line_replays_and_compares_what_was_saved(world: World, tmp_path: Path) -> None:
    original = run_and_trace(world.client, COUNTED)["task_id"]

    same = _pawl(world.stack, "replay", original, "--mode", "recorded")
    other = _pawl(world.stack, "replay", original, "--json")
    files = []
    for name, task_id in (("a", json.loads(other.stdout)["task_id"]), ("b", original)):
        path = tmp_path / f"{name}.json"
        path.write_text(_pawl(world.stack, "trace", task_id, "--json").stdout)
        files.append(str(path))
    saved = _pawl(world.stack, "verify", files[0], "--against", files[1])

    assert (same.returncode, same.stdout) == (0, "hashes match\n"), same.stderr
    assert "✓ step 1/2 counter" in same.stderr
    assert other.returncode == saved.returncode == 1
    assert json.loads(other.stdout)["replay"]["first_divergence"]["field"] == "output"
    assert "step 1" in saved.stdout
