"""`pawl up` with the services themselves: whatever is killed, tasks run again soon after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from libs.cli.up.ready_file import ReadyFile
from tests.e2e.ups import REAL, ROOT, Up, end, start_up
from tests.stacks import StackEnvirons
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

_BODY = json.dumps({"task_definition": {"expression": "6 * 7"}})


@pytest_asyncio.fixture(scope="module")
async def up(
    tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons
) -> AsyncIterator[Up]:
    """One running Pawl for all tests here."""
    data_dir = tmp_path_factory.mktemp("real") / "data"
    up = start_up(data_dir, "--port", "0", program=REAL, env=environs.bus())
    try:
        await up.ready()
        yield up
    finally:
        await end(up)


def run_task(ready: ReadyFile) -> tuple[int, object]:
    """Run one task through REST: status and result."""
    connection = HTTPConnection(ready.url.removeprefix("http://"), timeout=15)
    headers = {"Authorization": f"Bearer {ready.api_key}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/api/v1/tasks/execute?wait=10", _BODY, headers)
        answer = connection.getresponse()
        return answer.status, json.load(answer).get("result")
    except (OSError, HTTPException):
        return 0, None
    finally:
        connection.close()


def pid_of(ready: ReadyFile | None, name: str) -> int | None:
    assert ready is not None
    return ready.postgres.pid if name == "postgres" else ready.services[name][0].pid


async def test_task_runs_through_rest(up: Up) -> None:
    assert run_task(await up.ready()) == (200, {"result": 42})


@pytest.mark.parametrize(
    "name", ["auth", "planner", "scheduler", "executor", "artifact", "gateway", "postgres"]
)
async def test_tasks_run_again_after_a_kill(up: Up, name: str) -> None:
    before = await up.ready()
    others = [other for other in [*before.services, "postgres"] if other != name]
    killed = pid_of(before, name)
    assert killed is not None

    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: pid_of(up.ready_now(), name) != killed, timeout=30)
    await eventually(lambda: run_task(before) == (200, {"result": 42}), timeout=30)

    after = await up.ready()
    assert [pid_of(after, other) for other in others] == [pid_of(before, o) for o in others]


async def test_state_survives_a_stop(tmp_path: Path, environs: StackEnvirons) -> None:
    env = environs.bus()
    first = start_up(tmp_path / "data", "--port", "0", program=REAL, env=env)
    try:
        before = await first.ready()
        run_task(before)
        assert await first.stop() == 0
    finally:
        await end(first)

    second = start_up(tmp_path / "data", "--port", "0", program=REAL, env=env)
    try:
        after = await second.ready()
        assert (after.url, after.api_key) == (before.url, before.api_key)
        with psycopg.connect(after.postgres.dsn) as connection:
            found = connection.execute("SELECT state FROM scheduler.tasks").fetchall()
        assert found == [("succeeded",)]
        assert run_task(after) == (200, {"result": 42})
        assert await second.stop() == 0
    finally:
        await end(second)


def test_migrate_prepares_a_database_once(tmp_path: Path) -> None:
    def migrate() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "libs.cli", "migrate", "--data-dir", str(tmp_path / "d")],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert migrate().stdout == "The database is up to date.\n"
    assert migrate().stdout == "There was nothing to do.\n"
