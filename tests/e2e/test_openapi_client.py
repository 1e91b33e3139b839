"""A client that openapi-python-client makes from the OpenAPI document runs the quickstart."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from libs.cli.client import Client
from libs.cli.stack import Stack

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
GENERATOR = Path(sys.executable).parents[1] / "generator" / "bin"
CURL_BODY = re.compile(r"--data '(\{.*?\})'", re.DOTALL)

LOOKS = {
    "get_usage",
    "healthz",
    "list_audit",
    "list_keys",
    "list_tasks",
    "list_tenants",
    "list_tools",
    "list_usage",
    "list_users",
    "readyz",
}
"""Operations that need nothing but a key."""
PAGE_EXAMPLE = re.compile(r"```py\n(.+?)```", re.DOTALL)


@pytest.fixture(scope="module")
def generated(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the package `pawl_client`, made without a warning."""
    if not (GENERATOR / "openapi-python-client").exists():
        pytest.skip("openapi-python-client is not installed: make generator")
    directory = tmp_path_factory.mktemp("generated")
    document = directory / "openapi.json"
    document.write_text(json.dumps(Client(stack.server).get("/openapi.json")))

    options = (
        "--meta",
        "none",
        "--fail-on-warning",
        "--path",
        document.name,
        "--output-path",
        "pawl_client",
    )
    run = subprocess.run(
        [str(GENERATOR / "openapi-python-client"), "generate", *options],
        env=os.environ | {"PATH": f"{GENERATOR}:{os.environ['PATH']}"},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "arning" not in run.stdout + run.stderr
    return directory


def test_the_readme_quickstart_runs_with_a_generated_client(
    stack: Stack, generated: Path, tmp_path: Path
) -> None:
    task, trace = tmp_path / "task.json", tmp_path / "trace.json"
    task.write_text(readme_task())
    program = ROOT / "tests/e2e/generated_quickstart.py"

    run = run_beside(generated, stack, program, task, trace)

    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["status"] == "succeeded"
    assert said["refusal"] == "not_found"
    assert set(said["read"]) == LOOKS
    assert said["result"] == Client(stack.server).api.get(said["task_id"]).result
    verified = subprocess.run(
        [sys.executable, "-m", "libs.cli", "verify", trace],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_the_example_of_the_page_runs(stack: Stack, generated: Path, tmp_path: Path) -> None:
    found = PAGE_EXAMPLE.search((ROOT / "docs/client.md").read_text())
    assert found is not None
    program = tmp_path / "example.py"
    program.write_text(found[1])

    run = run_beside(generated, stack, program)

    assert (run.returncode, run.stdout) == (0, "{'result': 42}\n"), run.stderr


def run_beside(
    generated: Path, stack: Stack, program: Path, *arguments: Path
) -> subprocess.CompletedProcess[str]:
    """Run a program where there is the generated client, and nothing of Pawl."""
    return subprocess.run(
        [GENERATOR / "python", program, *arguments],
        env={
            "PYTHONPATH": str(generated),
            "PAWL_URL": stack.server.url,
            "PAWL_API_KEY": stack.server.api_key,
        },
        cwd=generated,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def readme_task() -> str:
    """The body of the README's first curl."""
    found = CURL_BODY.search((ROOT / "README.md").read_text())
    assert found is not None
    return found[1]
