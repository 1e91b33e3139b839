"""The commands, crontab lines and scripts of docs/automation.md, as they stand there."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from libs.cli.client import Client
from libs.cli.stack import Stack
from tests.e2e.tasks import new_tenant

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "automation.md").read_text(encoding="utf-8")
_FIVE_FIELDS = re.compile(r"^(?:[\d*/,-]+ +){5}(.*)$", re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def client(stack: Stack) -> Client:
    return new_tenant(stack, f"page-{secrets.token_hex(4)}")


def run(script: str, *, home: Path, client: Client) -> subprocess.CompletedProcess[str]:
    """Run a script in the directory of Pawl, with a home of its own."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PAWL_URL": client.server.url,
        "PAWL_API_KEY": client.server.api_key,
    }
    return subprocess.run(
        ["sh", "-c", script],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_commands_and_the_crontab_of_the_page_run(client: Client, tmp_path: Path) -> None:
    script = "set -eu\n" + "\n".join(f"{block}\necho '=== end'" for block in blocks("sh"))

    done = run(script, home=tmp_path, client=client)

    assert (done.returncode, done.stderr) == (0, "")
    by_cron, by_curl, rest = done.stdout.split("=== end\n")
    assert json.loads(by_cron)["status"] == "succeeded"
    assert '"status":"succeeded"' in by_curl
    assert '"task_hash"' in by_curl
    assert rest == ""
    assert (tmp_path / ".config" / "pawl" / "key").stat().st_mode & 0o777 == 0o600

    [crontab] = blocks("crontab")
    lines = [line.replace(r"\%", "%") for line in _FIVE_FIELDS.findall(crontab)]
    assert len(lines) == 2
    for line in lines:
        assert run(line, home=tmp_path, client=client).returncode == 0
    for name in ("release-notes", "daily"):
        answer = json.loads((tmp_path / f"{name}.out").read_text(encoding="utf-8"))
        assert answer["status"] == "succeeded"


def test_the_script_for_zapier_runs_and_submits_once(client: Client) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    [script] = blocks("js")
    data = {
        "url": client.server.url,
        "key": client.server.api_key,
        "id": "order-4711",
        "topic": "Summarize weekly release notes",
    }
    program = (
        f"(async (inputData) => {{{script}}})({json.dumps(data)})"
        ".then((output) => console.log(JSON.stringify(output)))"
    )

    first, again = (
        subprocess.run(["node", "-e", program], capture_output=True, text=True, check=False)
        for _ in range(2)
    )

    assert (first.returncode, first.stderr) == (0, "")
    output = json.loads(first.stdout)
    assert output["status"] == "succeeded"
    assert json.loads(again.stdout) == output
    tasks = list(client.pages("/api/v1/tasks"))
    assert [task["task_id"] for task in tasks] == [output["task_id"]]
