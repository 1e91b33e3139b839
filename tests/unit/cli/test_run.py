"""`pawl run`: submit, follow, print, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.recorded_traces import AT, PLAN, TASK_ID
from tests.unit.cli.conftest import Pawl
from tests.unit.cli.fake_server import FakeServer

_LATER = "2026-02-27T11:18:02.998451+00:00"
_EXECUTE = "POST /api/v1/tasks/execute"
_TASK = f"GET /api/v1/tasks/{TASK_ID}"
_EVENTS = f"{_TASK}/events"


def _task(status: str, **change: Any) -> dict[str, Any]:
    return {
        "task_id": TASK_ID,
        "status": status,
        "created_at": AT,
        "plan": PLAN.as_json(),
        "planned_by": "caller",
        "result": {"result": 4} if status == "succeeded" else None,
        "failure": None,
        **change,
    }


def _steps(fake: FakeServer, *, end: str = "succeeded") -> None:
    fake.json(_EXECUTE, {"task_id": TASK_ID, "status": "queued"})
    fake.json(_TASK, _task("running"))
    fake.json(_TASK, _task(end))
    fake.events(
        _EVENTS,
        (1, "task.status_transition", {"from": "queued", "to": "running", "at": AT}),
        (2, "task.step_started", {"step_index": 1, "tool": "math", "at": AT}),
        (
            3,
            "task.step_finished",
            {"step_index": 1, "tool": "math", "status": "succeeded", "at": _LATER},
        ),
        (4, "task.status_transition", {"from": "running", "to": end, "at": _LATER}),
    )


def test_run_prints_steps_as_they_finish_and_the_result_alone_on_stdout(
    pawl: Pawl, fake: FakeServer
) -> None:
    _steps(fake)

    done = pawl("run", "--expression", "1+1")

    assert (done.code, json.loads(done.out)) == (0, {"result": 4})
    assert "✓ step 1/3 math  7 ms" in done.err
    assert "math → math → json_query" in done.err
    assert fake.asked[0].body == {"task_definition": {"expression": "1+1"}}


def test_run_sends_everything_it_was_told(pawl: Pawl, fake: FakeServer, tmp_path: Path) -> None:
    _steps(fake)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN.as_json()), encoding="utf-8")

    pawl(
        *("run", "--definition", '{"a": 1}', "--topic", "t", "--plan", f"@{plan}"),
        *("--max-steps", "5", "--timeout", "2.5", "--idempotency-key", "k-1"),
    )

    assert fake.asked[0].body == {
        "task_definition": {"a": 1, "topic": "t"},
        "plan": PLAN.as_json(),
        "max_steps": 5,
        "timeout_seconds": 2.5,
    }
    assert fake.asked[0].headers["idempotency-key"] == "k-1"


def test_run_with_json_prints_the_ended_task_alone(pawl: Pawl, fake: FakeServer) -> None:
    fake.json(_EXECUTE, {"task_id": TASK_ID, "status": "queued"})
    fake.json(_TASK, _task("succeeded"))
    fake.events(_EVENTS)

    done = pawl("run", "--topic", "x", "--json")

    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["status"] == "succeeded"


def test_run_exits_1_and_says_why_when_the_task_failed(pawl: Pawl, fake: FakeServer) -> None:
    failure = {
        "step": "math",
        "index": 2,
        "code": "TOOL_ERROR",
        "message": "division by zero",
        "reason": "MATH_DOMAIN",
    }
    fake.json(_EXECUTE, {"task_id": TASK_ID, "status": "queued"})
    fake.json(_TASK, _task("failed", failure=failure))
    fake.events(_EVENTS)

    done = pawl("run", "--topic", "x")

    assert (done.code, done.out) == (1, "")
    assert "failed in step 2 (math): TOOL_ERROR, MATH_DOMAIN: division by zero" in done.err


def test_run_folds_a_long_reason_at_the_width_of_the_terminal(
    pawl: Pawl, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    failure = {"step": "math", "index": 2, "code": "TOOL_ERROR", "message": "word " * 40}
    fake.json(_EXECUTE, {"task_id": TASK_ID, "status": "queued"})
    fake.json(_TASK, _task("failed", failure=failure))
    fake.events(_EVENTS)

    done = pawl("run", "--topic", "x")

    assert max(map(len, done.err.splitlines())) <= 80
    assert "failed in step 2 (math): TOOL_ERROR: word word" in done.err


def test_run_takes_up_a_stream_that_ended_early_after_the_last_event(
    pawl: Pawl, fake: FakeServer
) -> None:
    fake.json(_EXECUTE, {"task_id": TASK_ID, "status": "queued"})
    for status in ("running", "succeeded"):
        fake.json(_TASK, _task(status))
    fake.events(_EVENTS, (7, "task.status_transition", {"from": None, "to": "created", "at": AT}))
    fake.events(_EVENTS)

    done = pawl("run", "--topic", "x")

    streams = [asked for asked in fake.asked if asked.path.endswith("/events")]
    assert done.code == 0
    assert [asked.headers.get("last-event-id") for asked in streams] == [None, "7"]


def test_run_exits_2_when_it_is_refused(pawl: Pawl, fake: FakeServer) -> None:
    problem = {
        "code": "unknown_tool",
        "detail": "plan.steps[0].tool: nobody offers it",
        "errors": [{"field": "plan.steps[0].tool", "detail": "nobody offers it"}],
    }
    fake.json(_EXECUTE, problem, status=422)

    done = pawl("run", "--topic", "x")

    assert done.code == 2
    assert done.err == "pawl: 422 (unknown_tool): plan.steps[0].tool: nobody offers it\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "say what to run"),
        (["run", "--plan", "@/no/such/file"], "--plan: /no/such/file cannot be read"),
        (["run", "--plan", "[1]"], "--plan: it is an array; it must be an object"),
        (["run", "--definition", "{"], "--definition: it is not JSON"),
        (["run", "--definition", '{"a": NaN}'], "--definition: NaN is not a number"),
        (["run", "--definition", '{"a": 1, "a": 2}'], "occurs twice"),
        (["run", "--max-steps", "x"], "Invalid value"),
        (["no-such-command"], "No such command"),
    ],
)
def test_a_wrong_argument_exits_2_and_is_named(
    pawl: Pawl, fake: FakeServer, arguments: list[str], words: str
) -> None:
    done = pawl(*arguments)

    assert (done.code, words in " ".join(done.err.split())) == (2, True), done.err
    assert fake.asked == []


def test_what_a_server_says_cannot_drive_the_terminal(pawl: Pawl, fake: FakeServer) -> None:
    fake.json(_EXECUTE, {"code": "x", "detail": "\x1b[2J[bold]gone[/bold]\x07"}, status=422)

    done = pawl("run", "--topic", "x")

    assert "\x1b" not in done.err
    assert "[2J[bold]gone[/bold]" in done.err
