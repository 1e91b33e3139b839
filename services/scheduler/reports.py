"""What a report of an executor must be, whatever the database then says of its task."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from uuid import UUID

from libs.core.errors import Failure, FailureCode
from libs.core.lifecycle import TaskState
from services.scheduler.failure_text import with_progress
from services.scheduler.model import Assigned, Report, ReportRow, StepClosed, TaskEnd

_SHA256 = re.compile(r"[0-9a-f]{64}")


class MalformedReportError(ValueError):
    """A report that makes no sense; the message says why. Nothing of it is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a task has come: the last step begun and the last one closed; 0: none."""

    begun: int
    closed: int

    def after(self, report: Report) -> Progress:
        """The progress once `report` is written."""
        return Progress(
            begun=self.begun if report.begins is None else report.begins,
            closed=self.closed if report.closed is None else report.closed.step_index,
        )


def written_form(report: Report, *, task: Assigned, progress: Progress, boot_id: UUID) -> ReportRow:
    """The report as it is written, its failure completed by what ran and what did not.

    Raises MalformedReportError.
    """
    check(report, step_count=task.step_count)
    end = report.end
    if end is not None and end.failure is not None:
        then = progress.after(report)
        failed = report.closed is not None and report.closed.failure is not None
        open_or_failed = then.closed if failed else then.begun if then.begun > then.closed else None
        failure = with_progress(
            end.failure,
            step_count=task.step_count,
            succeeded=then.closed - 1 if failed else then.closed,
            failed_step=open_or_failed,
        )
        end = replace(end, failure=failure)
    return ReportRow(
        report=replace(report, end=end),
        boot_id=boot_id,
        closed_tool=None if report.closed is None else task.tool_of(report.closed.step_index),
        begins_tool=None if report.begins is None else task.tool_of(report.begins),
    )


def judged_form(report: Report, *, boot_id: UUID) -> ReportRow:
    """The report of a task that the stream does not hold: the database says why, and writes
    nothing.
    """
    return ReportRow(report=report, boot_id=boot_id, closed_tool=None, begins_tool=None)


def broken_form(task: Assigned, *, boot_id: UUID, progress: Progress) -> ReportRow:
    """The end of a task whose executor sent what cannot be written: INTERNAL, where it stands."""
    failure = Failure(
        code=FailureCode.INTERNAL,
        message="the executor sent a report that the scheduler could not record",
    )
    return _ended_form(task, failure, boot_id=boot_id, progress=progress)


def lost_form(task: Assigned, *, boot_id: UUID) -> ReportRow:
    """The end of a task whose open step its executor does not know: nobody can say what it did."""
    progress = progress_of(task)
    failure = Failure(
        code=FailureCode.EXECUTOR_LOST,
        message=f"the executor lost step {progress.begun}, whose outcome is unknown; "
        "it is not run again",
        step=task.tool_of(progress.begun),
        step_index=progress.begun,
    )
    return _ended_form(task, failure, boot_id=boot_id, progress=progress)


def progress_of(task: Assigned) -> Progress:
    """How far a task had come when it was assigned."""
    closed = len(task.closed_outputs)
    return Progress(begun=closed + task.is_step_open, closed=closed)


def _ended_form(
    task: Assigned, failure: Failure, *, boot_id: UUID, progress: Progress
) -> ReportRow:
    failure = with_progress(
        failure,
        step_count=task.step_count,
        succeeded=progress.closed,
        failed_step=progress.begun if progress.begun > progress.closed else None,
    )
    end = TaskEnd(state=TaskState.FAILED, failure=failure)
    report = Report(task_id=task.task_id, lease_token=task.lease_token, end=end)
    return ReportRow(report=report, boot_id=boot_id, closed_tool=None, begins_tool=None)


def check(report: Report, *, step_count: int) -> None:
    """MalformedReportError unless the parts are whole and fit each other and the plan."""
    closed, begins, end = report.closed, report.begins, report.end
    if closed is None and begins is None and end is None:
        raise MalformedReportError("it says nothing")
    if closed is not None:
        _check_closed(closed, step_count=step_count)
    if begins is not None:
        if not 1 <= begins <= step_count:
            raise MalformedReportError(f"step {begins} begins; the plan has {step_count}")
        if end is not None:
            raise MalformedReportError(f"step {begins} begins and the task ends")
        if closed is not None and (closed.failure is not None or closed.step_index + 1 != begins):
            raise MalformedReportError(f"step {begins} begins after step {closed.step_index}")
    if end is not None:
        _check_end(end, closed=closed, step_count=step_count)
    elif closed is not None and closed.failure is not None:
        raise MalformedReportError(f"step {closed.step_index} failed and the task goes on")


def _check_closed(closed: StepClosed, *, step_count: int) -> None:
    if not 1 <= closed.step_index <= step_count:
        raise MalformedReportError(f"step {closed.step_index} closes; the plan has {step_count}")
    if (closed.output is None) == (closed.failure is None):
        raise MalformedReportError("a step has either an output or a failure")
    if not _SHA256.fullmatch(closed.step_hash):
        raise MalformedReportError("the step's hash is not a SHA-256 in hex")
    _check_use(closed)
    # JSON text spells a NUL as an escape; a raw one cannot be stored.
    if any(
        "\x00" in (t or "") for t in (closed.resolved_input, closed.output, closed.schema_failures)
    ):
        raise MalformedReportError("a text has a NUL character")


def _check_use(used: StepClosed | TaskEnd) -> None:
    is_cost = math.isfinite(used.cost_usd) and used.cost_usd >= 0
    if not is_cost or used.tokens < 0 or used.sandbox_ms < 0:
        raise MalformedReportError(
            f"a step costs {used.cost_usd}, {used.tokens} tokens and {used.sandbox_ms} ms"
        )


def _check_end(end: TaskEnd, *, closed: StepClosed | None, step_count: int) -> None:
    _check_use(end)
    if not end.state.is_terminal:
        raise MalformedReportError(f"an executor ends a task as {end.state}")
    if (end.failure is None) == (end.state is TaskState.FAILED):
        raise MalformedReportError("a task that failed has a failure, any other has none")
    if closed is None or end.state is not TaskState.SUCCEEDED:
        return
    if closed.failure is not None or closed.step_index != step_count:
        raise MalformedReportError(
            f"the task succeeds with step {closed.step_index} of {step_count}"
        )
