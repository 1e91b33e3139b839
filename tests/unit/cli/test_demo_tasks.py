"""The demo says what must come out, and notices when something else does."""

from __future__ import annotations

from typing import Any

import pytest

from libs.cli.demo_tasks import INVOICE, TASKS

_FAILING = next(task for task in TASKS if task.failed_step)


def _trace(steps: int) -> dict[str, Any]:
    return {"summary": {"total_steps": steps}}


def _failed(index: int, code: str) -> dict[str, Any]:
    return {"status": "failed", "error": "…", "failure": {"index": index, "code": code}}


def test_what_was_said_is_no_contradiction() -> None:
    done = {"status": "succeeded", "result": {"result": 357.0}, "error": None}

    assert INVOICE.contradiction(done, _trace(3)) is None
    assert _FAILING.contradiction(_failed(2, "TOOL_ERROR"), _trace(2)) is None


@pytest.mark.parametrize(
    ("task", "steps", "words"),
    [
        ({"status": "succeeded", "result": {"result": 358}}, 3, "was to be 357, and is 358"),
        ({"status": "succeeded", "result": {"result": 357}}, 2, "2 steps ran; 3 were to run"),
        (_failed(1, "TOOL_ERROR"), 3, "it was to succeed and failed"),
    ],
)
def test_another_outcome_is_named(task: dict[str, Any], steps: int, words: str) -> None:
    assert words in str(INVOICE.contradiction(task, _trace(steps)))


@pytest.mark.parametrize(
    "task",
    [_failed(1, "TOOL_ERROR"), _failed(2, "TIMEOUT"), {"status": "succeeded", "failure": None}],
)
def test_another_failure_is_named(task: dict[str, Any]) -> None:
    assert "it was to fail in step 2" in str(_FAILING.contradiction(task, _trace(2)))


def test_the_demo_shows_a_chain_a_summary_an_extraction_code_a_topic_and_a_failure() -> None:
    tools = [step["tool"] for task in TASKS for step in task.body.get("plan", {}).get("steps", [])]

    assert len(TASKS) == 6
    assert [task.needs for task in TASKS if "sandbox" in str(task.body)] == ["python_sandbox"]
    assert "text_extract" in tools
    assert sum(task.failure_code is not None for task in TASKS) == 1
