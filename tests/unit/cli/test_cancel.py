"""`pawl cancel`, and the due times and reasons to wait that other commands show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.recorded_traces import AT, PLAN, TASK_ID, make_trace
from tests.unit.cli.conftest import Pawl
from tests.unit.cli.fake_server import FakeServer

_CANCEL = f"POST /v1/tasks/{TASK_ID}/cancel"
_TASK = f"GET /api/v1/tasks/{TASK_ID}"
_EXECUTE = "POST /api/v1/tasks/execute"
_QUEUE = {"reason": "no_slot", "detail": "every executor is busy", "position": 3}
_CONFLICT = {"code": "conflict", "detail": "the task has ended already: complete"}


def _task(status: str, *, code: str | None = None, **change: Any) -> dict[str, Any]:
    failure = None
    if code is not None:
        failure = {"step": None, "index": None, "code": code, "message": "So it was."}
    return {
        "task_id": TASK_ID,
        "status": status,
        "created_at": AT,
        "plan": PLAN.as_json(),
        "planned_by": "caller",
        "result": {"result": 4} if status == "succeeded" else None,
        "failure": failure,
        "scheduled_at": None,
        "queue": None,
        **change,
    }


CANCELLED = _task("failed", code="CANCELLED")


def test_cancel_says_that_the_task_is_cancelled(pawl: Pawl, fake: FakeServer) -> None:
    fake.json(_CANCEL, {"status": "cancelled"})
    fake.json(_TASK, CANCELLED)

    done = pawl("cancel", TASK_ID)

    assert (done.code, done.out) == (0, f"task {TASK_ID} has ended: cancelled\n")
    assert fake.asked[0].body == {}


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (_task("succeeded"), "had ended already: succeeded"),
        (_task("failed", code="TIMEOUT"), "had ended already: failed"),
        (CANCELLED, "had ended already: cancelled"),
    ],
)
def test_cancel_exits_1_and_says_what_an_ended_task_had_become(
    pawl: Pawl, fake: FakeServer, task: dict[str, Any], words: str
) -> None:
    fake.json(_CANCEL, _CONFLICT, status=409)
    fake.json(_TASK, task)

    done = pawl("cancel", TASK_ID)

    assert (done.code, words in done.out) == (1, True), done.out
    assert ("TIMEOUT: So it was." in done.out) is (words == "had ended already: failed")


def test_cancel_asks_again_while_the_step_does_not_end(pawl: Pawl, fake: FakeServer) -> None:
    fake.json(_CANCEL, {"status": "running"})
    fake.json(_CANCEL, _CONFLICT, status=409)
    fake.json(_TASK, CANCELLED)

    done = pawl("cancel", TASK_ID)

    assert (done.code, done.out) == (0, f"task {TASK_ID} has ended: cancelled\n")


def test_cancel_does_not_ask_for_ever(pawl: Pawl, fake: FakeServer) -> None:
    fake.json(_CANCEL, {"status": "running"})
    fake.json(_TASK, _task("running"))

    done = pawl("cancel", TASK_ID)

    assert (done.code, done.out) == (1, f"task {TASK_ID} is still running; it is being ended\n")
    assert sum(asked.method == "POST" for asked in fake.asked) == 3


def test_cancel_of_a_task_that_is_lost_exits_1(pawl: Pawl, fake: FakeServer) -> None:
    fake.json(_CANCEL, {"status": "failed"})
    fake.json(_TASK, _task("failed", code="EXECUTOR_LOST"))

    done = pawl("cancel", TASK_ID)

    assert done.code == 1
    assert done.out.splitlines() == [
        f"task {TASK_ID} has ended: failed",
        "failed: EXECUTOR_LOST: So it was.",
    ]


def test_cancel_with_json_prints_the_task(pawl: Pawl, fake: FakeServer) -> None:
    fake.json(_CANCEL, {"status": "cancelled"})
    fake.json(_TASK, CANCELLED)

    assert json.loads(pawl("cancel", TASK_ID, "--json").out) == CANCELLED


def test_cancel_of_an_unknown_task_exits_2(pawl: Pawl, fake: FakeServer) -> None:
    done = pawl("cancel", "../keys")

    assert (done.code, "404 (not_found)" in done.err) == (2, True)
    assert fake.asked[0].path == "/v1/tasks/..%2Fkeys/cancel"


def test_run_sends_priority_and_due_time_and_says_when_it_is_due(
    pawl: Pawl, fake: FakeServer
) -> None:
    due = "2026-06-15T07:00:00.000000+00:00"
    fake.json(_EXECUTE, {"task_id": TASK_ID, "status": "planned"})
    fake.json(_TASK, _task("planned", scheduled_at=due))
    fake.json(_TASK, _task("succeeded", scheduled_at=due))
    fake.events(f"{_TASK}/events")

    done = pawl(
        *("run", "--topic", "x", "--priority", "-7", "--at", "2026-06-15T09:00:00+02:00"),
    )

    assert fake.asked[0].body == {
        "task_definition": {"topic": "x"},
        "priority": -7,
        "scheduled_at": "2026-06-15T09:00:00+02:00",
    }
    assert f"  due at {due}\n" in done.err


@pytest.mark.parametrize(("reason", "shown"), [("no_slot", True), ("turn", False)])
def test_run_says_why_its_task_waits(
    pawl: Pawl, fake: FakeServer, reason: str, *, shown: bool
) -> None:
    fake.json(_EXECUTE, {"task_id": TASK_ID, "status": "queued"})
    fake.json(_TASK, _task("queued", queue=_QUEUE | {"reason": reason}))
    fake.json(_TASK, _task("succeeded"))
    fake.events(f"{_TASK}/events")

    done = pawl("run", "--topic", "x")

    words = "waits: every executor is busy (no_slot); number 3 in the queue"
    assert (words in done.err) is shown


def test_trace_shows_due_time_reason_to_wait_and_request_to_cancel(
    pawl: Pawl, fake: FakeServer
) -> None:
    trace = make_trace() | {"scheduled_at": AT, "cancel_requested_at": AT, "queue": _QUEUE}
    trace["summary"]["tokens"] = 120
    fake.json(f"{_TASK}/trace", trace)

    shown = pawl("trace", TASK_ID).out

    for name, words in (
        ("due at", AT),
        ("waits", "every executor is busy (no_slot); number 3 in the queue"),
        ("cancel asked", AT),
        ("tokens", "120"),
    ):
        line = next(line for line in shown.splitlines() if name in line)
        assert words in line
