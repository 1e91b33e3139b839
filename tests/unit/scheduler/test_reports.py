"""What a report must be, and what is added to it before it is written."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from libs.core.errors import Failure, FailureCode
from libs.core.lifecycle import TaskState
from services.scheduler.model import Assigned, Report, StepClosed, TaskEnd
from services.scheduler.reports import (
    MalformedReportError,
    Progress,
    broken_form,
    check,
    judged_form,
    lost_form,
    progress_of,
    written_form,
)
from tests.scheduler_world import MATH, TENANT, make_plan

TASK = UUID("01936b2e-0000-7000-8000-00000000000f")
BOOT = UUID("01936b2e-0000-7000-8000-00000000000b")
BROKE = Failure(code=FailureCode.TOOL_ERROR, message="it broke", step="math", step_index=2)
CLOSED = StepClosed(
    step_index=1,
    resolved_input="{}",
    output="1",
    failure=None,
    step_hash="a" * 64,
    schema_failures="",
    cost_usd=0.0,
)
FAILED_STEP = replace(CLOSED, output=None, failure=BROKE)
SUCCESS = TaskEnd(state=TaskState.SUCCEEDED, failure=None)
FAILURE = TaskEnd(state=TaskState.FAILED, failure=BROKE)
CANCELLED = TaskEnd(state=TaskState.CANCELLED, failure=None)


def make_report(
    closed: StepClosed | None = None, begins: int | None = None, end: TaskEnd | None = None
) -> Report:
    return Report(task_id=TASK, lease_token=1, closed=closed, begins=begins, end=end)


def make_assigned(*, closed: int = 0, is_step_open: bool = False) -> Assigned:
    return Assigned(
        task_id=TASK,
        tenant_id=TENANT,
        lease_token=1,
        plan=make_plan(3),
        tool_set=(MATH,),
        task_input="{}",
        plan_hash="p",
        closed_outputs=("1",) * closed,
        last_step_hash="",
        seconds_left=1.0,
        clock_at=datetime(2026, 1, 1, tzinfo=UTC),
        mode="live",
        traceparent="",
        request_id="",
        is_step_open=is_step_open,
    )


@pytest.mark.parametrize(
    "report",
    [
        make_report(begins=1),
        make_report(CLOSED, begins=2),
        make_report(CLOSED),
        make_report(replace(CLOSED, step_index=3), end=SUCCESS),
        make_report(FAILED_STEP, end=FAILURE),
        make_report(CLOSED, end=FAILURE),
        make_report(end=FAILURE),
        make_report(end=SUCCESS),
        make_report(end=replace(CANCELLED, cost_usd=0.1, tokens=1, sandbox_ms=1)),
    ],
)
def test_whole_report_passes(report: Report) -> None:
    check(report, step_count=3)


@pytest.mark.parametrize(
    "report",
    [
        make_report(),
        make_report(begins=0),
        make_report(begins=4),
        make_report(begins=1, end=FAILURE),
        make_report(CLOSED, begins=3),
        make_report(CLOSED, begins=1),
        make_report(FAILED_STEP, begins=2),
        make_report(FAILED_STEP),
        make_report(FAILED_STEP, end=SUCCESS),
        make_report(CLOSED, end=SUCCESS),
        make_report(replace(CLOSED, step_index=0)),
        make_report(replace(CLOSED, step_index=4)),
        make_report(replace(CLOSED, output=None)),
        make_report(replace(CLOSED, failure=BROKE), end=FAILURE),
        make_report(replace(CLOSED, step_hash="A" * 64)),
        make_report(replace(CLOSED, cost_usd=-1.0)),
        make_report(replace(CLOSED, cost_usd=float("nan"))),
        make_report(replace(CLOSED, cost_usd=float("inf"))),
        make_report(replace(CLOSED, tokens=-1)),
        make_report(replace(CLOSED, sandbox_ms=-1)),
        make_report(end=replace(CANCELLED, cost_usd=-0.1)),
        make_report(end=replace(CANCELLED, cost_usd=float("nan"))),
        make_report(end=replace(CANCELLED, tokens=-1)),
        make_report(end=replace(CANCELLED, sandbox_ms=-1)),
        make_report(replace(CLOSED, output='"\x00"')),
        make_report(replace(CLOSED, resolved_input='"\x00"')),
        make_report(replace(CLOSED, schema_failures="\x00")),
        make_report(end=TaskEnd(state=TaskState.CANCELLED, failure=BROKE)),
        make_report(end=TaskEnd(state=TaskState.RUNNING, failure=None)),
        make_report(end=TaskEnd(state=TaskState.FAILED, failure=None)),
        make_report(end=TaskEnd(state=TaskState.SUCCEEDED, failure=BROKE)),
    ],
)
def test_report_that_makes_no_sense_is_malformed(report: Report) -> None:
    with pytest.raises(MalformedReportError):
        check(report, step_count=3)


def test_written_form_names_the_tools() -> None:
    row = written_form(
        make_report(CLOSED, begins=2),
        task=make_assigned(),
        progress=Progress(begun=1, closed=0),
        boot_id=BOOT,
    )

    assert (row.closed_tool, row.begins_tool, row.boot_id) == ("math", "math", BOOT)


@pytest.mark.parametrize(
    ("report", "progress", "sentence"),
    [
        (
            make_report(FAILED_STEP, end=FAILURE),
            Progress(begun=1, closed=0),
            "Step 1 of 3 began and failed; steps 2 to 3 did not run.",
        ),
        (
            make_report(replace(FAILED_STEP, step_index=3), end=FAILURE),
            Progress(begun=3, closed=2),
            "Steps 1 to 2 of 3 ran, step 3 failed; no step was left.",
        ),
        (
            make_report(CLOSED, end=FAILURE),
            Progress(begun=1, closed=0),
            "Step 1 of 3 ran; steps 2 to 3 did not run.",
        ),
        (make_report(end=FAILURE), Progress(begun=0, closed=0), "No step was executed."),
        (
            make_report(end=FAILURE),
            Progress(begun=2, closed=1),
            "Step 1 of 3 ran, step 2 failed; step 3 did not run.",
        ),
    ],
)
def test_failure_says_what_ran(report: Report, progress: Progress, sentence: str) -> None:
    row = written_form(report, task=make_assigned(), progress=progress, boot_id=BOOT)

    assert row.report.end is not None
    assert row.report.end.failure is not None
    assert row.report.end.failure.message == f"it broke. {sentence}"
    assert row.report.closed == report.closed


def test_report_of_a_task_that_is_not_held_names_no_tools() -> None:
    row = judged_form(make_report(CLOSED, begins=2), boot_id=BOOT)

    assert (row.closed_tool, row.begins_tool) == (None, None)


def test_broken_report_ends_the_task_as_internal() -> None:
    row = broken_form(make_assigned(), boot_id=BOOT, progress=Progress(begun=1, closed=1))

    assert row.report.closed is None
    assert row.report.end is not None
    assert row.report.end.failure is not None
    assert row.report.end.failure.code is FailureCode.INTERNAL
    assert row.report.end.failure.message.endswith("Step 1 of 3 ran; steps 2 to 3 did not run.")


def test_lost_step_ends_the_task_as_executor_lost() -> None:
    row = lost_form(make_assigned(closed=1, is_step_open=True), boot_id=BOOT)

    assert row.report.end is not None
    failure = row.report.end.failure
    assert failure is not None
    assert (failure.code, failure.step, failure.step_index) == (
        FailureCode.EXECUTOR_LOST,
        "math",
        2,
    )


def test_progress_grows_with_reports() -> None:
    start = progress_of(make_assigned(closed=1, is_step_open=True))

    assert start == Progress(begun=2, closed=1)
    then = start.after(make_report(replace(CLOSED, step_index=2), begins=3))
    assert then == Progress(begun=3, closed=2)
