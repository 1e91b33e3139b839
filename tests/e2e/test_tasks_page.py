"""The commands of docs/tasks-api.md, as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from libs.cli.stack import Stack

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[2] / "docs" / "tasks-api.md"


def test_the_commands_of_the_page_run(stack: Stack, tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    script = "set -eu\n" + "\n".join(f"{block}\necho\necho '=== end'" for block in blocks)
    env = {"PATH": os.environ["PATH"], "PAWL_URL": stack.server.url}

    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=env | {"PAWL_API_KEY": stack.server.api_key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    submitted, polled, again, waited, followed, batch, page, *rest = done.stdout.split("=== end\n")
    assert json.loads(submitted)["status"] == "queued"
    assert "retry-after: 1" in polled or '"status":"succeeded"' in polled
    assert again.strip() in {"200", "304"}
    assert '"result":{"result":42}' in waited
    assert "preference-applied: wait=20" in waited
    assert re.findall(r"^id: (\d+)", followed, re.MULTILINE)[0] == "3"
    assert len(json.loads(batch)["tasks"]) == 2
    listed = json.loads(page)
    assert {task["status"] for task in listed["data"]} <= {"succeeded", "failed"}
    assert rest == [""]
