"""A tool that another package brings: docs/tools.md, its commands and its package."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.cli.client import Client, Refused
from libs.cli.stack import Stack, running_stack
from services.executor.tools.registry import ToolRegistry
from tests.e2e.tasks import EXECUTE, run_and_trace
from tests.stacks import StackEnvirons

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "iban_check"
PAGE = (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")
BODY = {
    "task_definition": {"iban": "GB82 WEST 1234 5698 7654 32"},
    "plan": {
        "steps": [
            {"step_index": 1, "tool": "iban_check", "input": {"iban": {"$ref": "input.iban"}}}
        ]
    },
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    return [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PYTHONPATH on which the package is installed, apart from the tests' own environment."""
    target = tmp_path_factory.mktemp("installed")
    [install] = [command for command in commands() if command[0] == "pip"]
    subprocess.run(
        [
            *(sys.executable, "-m"),
            *install,
            *("--target", str(target), "--quiet", "--disable-pip-version-check"),
        ],
        cwd=ROOT,
        check=True,
    )
    return os.pathsep.join((str(target), str(ROOT)))


@pytest.fixture(scope="module")
def iban_stack(
    installed: str, tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons
) -> Iterator[Stack]:
    """A whole Pawl with the package."""
    data_dir = tmp_path_factory.mktemp("iban") / "data"
    with running_stack(data_dir, environ=environs.fresh(PYTHONPATH=installed)) as running:
        yield running


@pytest.mark.parametrize(
    ("language", "name"), [("python", "iban_check.py"), ("toml", "pyproject.toml")]
)
def test_the_page_shows_the_files_of_the_example(language: str, name: str) -> None:
    assert blocks(language)[-1] == (EXAMPLE / name).read_text(encoding="utf-8")


async def test_the_shortest_tool_of_the_page_is_one() -> None:
    shortest, _ = blocks("python")
    defined: dict[str, Any] = {}
    exec(shortest, defined)

    assert len(shortest.splitlines()) <= 20
    [ref] = ToolRegistry((defined["SlugTool"](),)).refs
    made = await defined["SlugTool"]().call({"title": "Tea, and 2 Cups!"}, context=None)
    assert (ref.label, made) == ("slug@1.0.0", {"slug": "tea-and-2-cups"})


def test_the_package_s_own_tests_pass(installed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(EXAMPLE), "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": installed},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_the_commands_of_the_page_work(iban_stack: Stack, installed: str) -> None:
    server = iban_stack.server
    outputs = [
        subprocess.run(
            [sys.executable, "-m", "libs.cli", *command[1:]],
            cwd=ROOT,
            env={
                **os.environ,
                "PAWL_URL": server.url,
                "PAWL_API_KEY": server.api_key,
                "PYTHONPATH": installed,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for command in commands()
        if command[0] == "pawl" and command[1] != "up"
    ]

    shown, ran = outputs
    assert "An IBAN as it stands on a letter" in shown
    assert json.loads(ran) == {"valid": True, "country": "DE"}


def test_a_task_runs_the_tool_and_its_trace_names_it(iban_stack: Stack) -> None:
    trace = run_and_trace(Client(iban_stack.server), BODY)

    [step] = trace["steps"]
    assert (step["tool_name"], step["output"]) == ("iban_check", {"valid": True, "country": "GB"})
    assert [tool[:2] for tool in trace["verification"]["tool_set"]] == [["iban_check", "1.0.0"]]


def test_the_tool_stands_in_the_catalogue_with_its_examples(iban_stack: Stack) -> None:
    tools = {tool["name"]: tool for tool in Client(iban_stack.server).pages("/v1/tools")}

    assert tools["iban_check"]["available"] is True
    assert tools["iban_check"]["examples"][0]["output"] == {"valid": True, "country": "DE"}
    assert all(tool["examples"] for tool in tools.values())


def test_without_the_package_the_plan_is_refused(client: Client) -> None:
    with pytest.raises(Refused) as refused:
        client.post(EXECUTE, BODY)

    assert (refused.value.status, refused.value.code) == (422, "unknown_tool")
