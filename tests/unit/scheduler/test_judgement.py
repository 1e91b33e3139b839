"""What becomes of a task that its executor does not end."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from libs.core.lifecycle import TaskState
from services.scheduler.judgement import JudgedTask, Settlement, judge_due, judge_lost

TASK_ID = UUID("0193f9c8-0000-7000-8000-000000000001")


def make_task(**changes: Any) -> JudgedTask:
    """A running task of three steps, the second of which is open."""
    fields: dict[str, Any] = {
        "task_id": TASK_ID,
        "state": TaskState.RUNNING,
        "seq": 7,
        "lease_token": 3,
        "steps_begun": 2,
        "steps_closed": 1,
        "step_count": 3,
        "is_cancelling": False,
        "is_offered": True,
        "max_total_seconds": 45.0,
        "open_tool": "math",
    }
    return JudgedTask(**fields | changes)


def code_of(settlement: Settlement) -> tuple[str, str | None]:
    """The failure's code and reason."""
    assert settlement.end is TaskState.FAILED
    assert settlement.failure is not None
    return settlement.failure.code.value, settlement.failure.reason


def test_open_step_of_a_lost_executor_fails_the_task() -> None:
    settlement = judge_lost(make_task())

    assert code_of(settlement) == ("EXECUTOR_LOST", None)
    assert settlement.failure is not None
    assert (settlement.failure.step, settlement.failure.step_index) == ("math", 2)
    assert settlement.failure.message == (
        "the executor was lost during step 2, whose outcome is unknown; it is not run again. "
        "Step 1 of 3 ran, step 2 failed; step 3 did not run."
    )


@pytest.mark.parametrize("closed", [0, 1, 3])
def test_task_between_steps_is_freed(closed: int) -> None:
    settlement = judge_lost(make_task(steps_begun=closed, steps_closed=closed))

    assert (settlement.end, settlement.failure) == (None, None)


@pytest.mark.parametrize("begun", [1, 2])
def test_lost_task_that_was_to_be_cancelled_before_is_cancelled(begun: int) -> None:
    settlement = judge_lost(make_task(steps_begun=begun, is_cancelling=True))

    assert (settlement.end, settlement.failure) == (TaskState.CANCELLED, None)


def test_task_that_runs_too_long_times_out_and_names_the_open_step() -> None:
    settlement = judge_due(make_task())

    assert code_of(settlement) == ("TIMEOUT", "TASK_TIMEOUT")
    assert settlement.failure is not None
    assert settlement.failure.step_index == 2
    assert settlement.failure.message.startswith("TASK_TIMEOUT: the task took longer than 45 s.")
    between = judge_due(make_task(steps_begun=1))
    assert between.failure is not None
    assert (between.failure.step, between.failure.step_index) == (None, None)


@pytest.mark.parametrize(("is_offered", "code"), [(True, "TIMEOUT"), (False, "TOOL_UNAVAILABLE")])
def test_task_that_waits_too_long_says_for_what(is_offered: bool, code: str) -> None:
    waiting = make_task(
        state=TaskState.QUEUED, steps_begun=0, steps_closed=0, is_offered=is_offered
    )

    assert code_of(judge_due(waiting)) == (code, "QUEUE_TIMEOUT")


def test_cancelled_task_that_is_not_dead_in_time_is_cancelled() -> None:
    settlement = judge_due(make_task(is_cancelling=True))

    assert (settlement.end, settlement.failure) == (TaskState.CANCELLED, None)


@pytest.mark.parametrize("judge", [judge_lost, judge_due])
def test_judgement_holds_for_the_task_as_it_was_read(judge: Any) -> None:
    settlement = judge(make_task())

    assert (settlement.task_id, settlement.seq, settlement.lease_token) == (TASK_ID, 7, 3)
