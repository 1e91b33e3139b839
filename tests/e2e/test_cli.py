"""The `pawl` command and the README against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from libs.cli.client import Client
from libs.cli.stack import Stack, running_stack
from tests.e2e.tasks import CHAIN, EXECUTE, FAILING, finished
from tests.html_page import read_page
from tests.published import read_published
from tests.stacks import StackEnvirons
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

_ROOT = Path(__file__).parents[2]
_README = (_ROOT / "README.md").read_text(encoding="utf-8")
_COMMANDS = re.findall(r"^```sh\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)


def _env(stack: Stack, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PAWL_")}
    return kept | {"PAWL_URL": stack.server.url, "PAWL_API_KEY": stack.server.api_key} | more


def _pawl(env: Mapping[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "libs.cli", *args]
    return subprocess.run(
        command, cwd=_ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_run_prints_the_result_of_a_task_that_succeeds(stack: Stack) -> None:
    done = _pawl(_env(stack), "run", "--expression", "6 * 7")

    assert (done.returncode, json.loads(done.stdout)) == (0, {"result": 42}), done.stderr
    assert "✓ step 1/1 math" in done.stderr


def test_run_of_a_failing_plan_exits_1_and_names_the_step(stack: Stack, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(FAILING["plan"]), encoding="utf-8")

    done = _pawl(_env(stack), "run", "--plan", f"@{plan}")

    assert (done.returncode, done.stdout) == (1, "")
    assert "✗ step 2/3 math" in done.stderr
    assert "failed in step 2 (math): TOOL_ERROR" in done.stderr


def test_cancel_ends_a_task_once(stack: Stack, client: Client) -> None:
    body = {
        "task_definition": {},
        "plan": {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": 9}}]},
    }
    task_id = client.post(EXECUTE, body)["task_id"]

    done = _pawl(_env(stack), "cancel", task_id)
    again = _pawl(_env(stack), "cancel", f"task_{task_id}")

    assert (done.returncode, "has ended: cancelled" in done.stdout) == (0, True), done
    assert (again.returncode, "had ended already: cancelled" in again.stdout) == (1, True), again


def test_run_refused_exits_2(stack: Stack) -> None:
    plan = '{"steps": [{"step_index": 1, "tool": "no_such_tool", "input": {}}]}'

    done = _pawl(_env(stack), "run", "--plan", plan)

    assert (done.returncode, "unknown_tool" in done.stderr) == (2, True)


def test_a_trace_saved_by_the_command_line_verifies_until_it_is_changed(
    stack: Stack, client: Client, tmp_path: Path
) -> None:
    task_id = finished(client, CHAIN)["task_id"]
    saved = tmp_path / "trace.json"
    saved.write_text(_pawl(_env(stack), "trace", task_id, "--json").stdout, encoding="utf-8")
    offline = {"PATH": os.defpath}

    honest = _pawl(offline, "verify", str(saved))
    trace = json.loads(saved.read_text(encoding="utf-8"))
    trace["verification"]["steps"][1]["output"]["result"][0] = 7
    saved.write_text(json.dumps(trace), encoding="utf-8")
    changed = _pawl(offline, "verify", str(saved))

    assert honest.returncode == 0, honest.stderr
    assert (changed.returncode, "step 2 (json_query) differs" in changed.stdout) == (1, True)


def test_trace_shows_tables(stack: Stack, client: Client) -> None:
    done = _pawl(_env(stack, COLUMNS="150"), "trace", finished(client, FAILING)["task_id"])

    assert done.returncode == 0
    for words in ("Plan", "Steps", "Events", "Hashes", "TOOL_ERROR"):
        assert words in done.stdout


@pytest.mark.parametrize(("body", "state"), [(CHAIN, "✓ succeeded"), (FAILING, "✗ failed")])
def test_trace_draws_a_page(
    stack: Stack, client: Client, tmp_path: Path, body: dict[str, Any], state: str
) -> None:
    task_id = finished(client, body)["task_id"]

    done = _pawl(_env(stack), "trace", task_id, "--html", str(tmp_path / "out.html"))

    page = read_page((tmp_path / "out.html").read_text(encoding="utf-8"))
    steps = len(client.get(f"/api/v1/tasks/{task_id}/trace")["steps"])
    assert (done.returncode, done.stderr) == (0, "")
    assert page.one("h1").text == f"Task {state}"
    assert len(page.all("tr", class_="exchange")) == steps
    assert "Every hash matches." in page.by_id("hashes").text


def test_commands_find_a_running_server_by_its_data_directory(stack: Stack) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PAWL_")}

    found = _pawl(env | {"PAWL_DATA_DIR": str(stack.data_dir)}, "run", "--topic", "x", "--json")
    lost = _pawl(env | {"PAWL_DATA_DIR": "/no/such/directory"}, "run", "--topic", "x")

    assert json.loads(found.stdout)["status"] == "succeeded"
    assert (lost.returncode, "pawl up" in lost.stderr) == (2, True)


def test_tenants_and_keys_from_the_command_line(stack: Stack) -> None:
    env, name = _env(stack), f"cli-{secrets.token_hex(4)}"

    made = _pawl(env, "tenants", "create", name, "--tier", "starter")
    key = json.loads(_pawl(env, "keys", "create", "--tenant", name, "--json").stdout)
    used = _pawl(env | {"PAWL_API_KEY": key["key"]}, "run", "--expression", "1")
    above = _pawl(env | {"PAWL_API_KEY": key["key"]}, "tenants", "list")
    revoked = _pawl(env, "keys", "revoke", key["id"])
    listed = json.loads(_pawl(env, "keys", "list", "--tenant", name, "--json").stdout)

    assert [made.returncode, used.returncode, revoked.returncode] == [0, 0, 0]
    assert (above.returncode, "insufficient_scope" in above.stderr) == (2, True)
    assert [(one["id"], one["revoked_at"] is not None) for one in listed] == [(key["id"], True)]


def test_events_prints_what_happened(stack: Stack, client: Client) -> None:
    task_id = finished(client, CHAIN)["task_id"]

    of_task = _pawl(_env(stack), "events", "--task", task_id, "--json")
    of_all = _pawl(_env(stack), "events", "--json")

    assert len(of_task.stdout.splitlines()) == 11
    mine = [line for line in of_all.stdout.splitlines() if json.loads(line)["task_id"] == task_id]
    assert len(mine) == 11


async def test_events_replay_publishes_a_task_once_more(stack: Stack, client: Client) -> None:
    task_id = finished(client, CHAIN)["task_id"]
    wanted = [f"{task_id}:{seq}" for seq in range(1, 12)]

    async def ids() -> list[str]:
        of_task = [one for one in await read_published(stack) if one.key == task_id]
        return [one.headers["ce_id"] for one in of_task]

    async def once() -> bool:
        return await ids() == wanted

    async def twice() -> bool:
        return await ids() == wanted * 2

    await eventually(once)

    done = await asyncio.to_thread(_pawl, _env(stack), "events", "replay", "--task", task_id)

    assert (done.returncode, done.stdout) == (0, "11 events are published once more\n"), done.stderr
    await eventually(twice)


def test_the_demo_comes_out_as_said(stack: Stack) -> None:
    done = _pawl(_env(stack), "demo", "--url", stack.server.url)

    assert done.returncode == 0, done.stdout[-3000:]
    assert "All came out as said" in done.stdout


def test_the_commands_of_the_readme_work_as_they_stand(
    tmp_path: Path, environs: StackEnvirons
) -> None:
    pytest.importorskip("pydantic_monty", reason="the package pydantic-monty is not installed")
    # One of its plans has code in it.
    environ = environs.fresh(PAWL_SANDBOX="monty")
    with running_stack(tmp_path / "up" / "data", environ=environ) as stack:
        commands_of_the_readme(stack, tmp_path)


def commands_of_the_readme(stack: Stack, tmp_path: Path) -> None:
    assert len(_COMMANDS) == 5
    bin_dir = Path(sys.executable).parent
    unique = secrets.token_hex(4)
    script = "set -euo pipefail\n" + "\n".join(_COMMANDS)
    script = script.replace("acme", f"acme-{unique}").replace("invoice-2026-117", unique)

    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=_env(stack, PATH=f"{bin_dir}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "task.json").read_text())["result"] == {"result": 345.1}
    assert "Every hash matches." in done.stdout
    assert '"status":"succeeded"' in done.stdout


def test_the_readme_is_short() -> None:
    assert len(_README.splitlines()) < 150
