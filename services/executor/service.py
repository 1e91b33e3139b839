"""Runs one assigned task: one step after another, each reported before and after; the first failure
stops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from libs.core.canonical import Json
from libs.core.clock import Clock
from libs.core.errors import Failure, FailureCode, StepFailed
from libs.core.lifecycle import TaskState
from libs.core.plan import Step
from libs.core.tool_spec import ToolRef
from libs.process.crash_points import pass_crash_point
from services.executor.bounds import TASK_TIMEOUT, Bounds, bounds_of, check_steps
from services.executor.cancellation import Cancellation
from services.executor.model import (
    AckStatus,
    Report,
    StepKilled,
    StepOutcome,
    TaskAssignment,
    TaskEnd,
)
from services.executor.step_runner import BULKY_BYTES, StepRunner, StepWork
from services.executor.tools.recorded import Recordings, recorded_tools
from services.executor.tools.registry import OfferedTool, ToolRegistry
from services.executor.usage import exceeded

SUCCEEDED = TaskEnd(state=TaskState.SUCCEEDED)
CANCELLED = TaskEnd(state=TaskState.CANCELLED)


class Reporter(Protocol):
    """Where the reports of one task go."""

    async def report(self, report: Report) -> AckStatus:
        """Send a report and wait until it is acknowledged, however long that takes."""
        ...


class ExecutorService:
    """The use case of the executor."""

    def __init__(
        self,
        registry: ToolRegistry,
        *,
        runner: StepRunner,
        recordings: Recordings,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._recordings = recordings
        self._runner = runner
        self._clock = clock

    @property
    def live_calls(self) -> int:
        """How many calls of tools have not ended, those that outlived their task included."""
        return self._runner.live_calls

    async def run_task(
        self,
        assignment: TaskAssignment,
        reporter: Reporter,
        *,
        cancellation: Cancellation | None = None,
        hands_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Run the task from its first open step to its end, as far as the acknowledgements allow.

        No step begins before its `started` record is acknowledged. An acknowledgement that forbids
        to go on ends the run in silence: the scheduler has decided. While handing over, no further
        step begins; the task is left between two closed steps, where another executor takes it
        over. A cancellation kills the running step; once it is dead, the task's end is reported as
        cancelled. A step that closed by itself is reported as ever. The asyncio task cancelled: the
        tool has been stopped and nothing is reported.
        """
        try:
            tools = self._tools(assignment)
            check_steps(assignment.plan)
        except StepFailed as refused:
            await reporter.report(Report(end=_failed(_task_failure(refused))))
            return
        run = _TaskRun(
            assignment,
            tools=tools,
            reporter=reporter,
            runner=self._runner,
            clock=self._clock,
            cancellation=cancellation or Cancellation(),
            hands_over=hands_over,
        )
        await run.run()

    def _tools(self, assignment: TaskAssignment) -> dict[str, OfferedTool]:
        """The tools of the plan by name, exactly those of the frozen tool set, and the stand-ins
        of those that are not called.
        """
        by_name: dict[str, ToolRef] = {ref.name: ref for ref in assignment.tool_set}
        found = recorded_tools(assignment, recordings=self._recordings)
        for step in assignment.plan.steps:
            if step.tool in found:
                continue
            ref = by_name.get(step.tool)
            offered = None if ref is None else self._registry.find(ref)
            if offered is None:
                said = step.tool if ref is None else f"{ref.label} (digest {ref.digest[:12]})"
                raise StepFailed(
                    FailureCode.TOOL_UNAVAILABLE, f"this executor does not offer {said}"
                )
            found[step.tool] = offered
        return found


class _TaskRun:
    """The state of one run: which steps are closed, and with what."""

    def __init__(
        self,
        assignment: TaskAssignment,
        *,
        tools: dict[str, OfferedTool],
        reporter: Reporter,
        runner: StepRunner,
        clock: Clock,
        cancellation: Cancellation,
        hands_over: Callable[[], bool],
    ) -> None:
        self._assignment = assignment
        self._tools = tools
        self._reporter = reporter
        self._runner = runner
        self._clock = clock
        self._cancellation = cancellation
        self._hands_over = hands_over
        self._bounds: Bounds = bounds_of(assignment)
        self._outputs: dict[int, Json] = dict(enumerate(assignment.closed_outputs, start=1))
        self._last_hash = assignment.last_step_hash or assignment.plan_hash
        self._used = assignment.used
        self._size_bytes = assignment.size_bytes

    async def run(self) -> None:
        open_steps = self._assignment.plan.steps[len(self._outputs) :]
        report = self._before(open_steps)
        while report is not None:
            status = await self._reporter.report(report)
            if report.finished is not None:
                pass_crash_point("step.after_commit")
            if not status.may_go_on or report.started_step_index is None:
                return
            step, open_steps = open_steps[0], open_steps[1:]
            outcome = await self._run_step(step)
            if isinstance(outcome, StepKilled):
                report = Report(end=replace(CANCELLED, used=outcome.used))
            else:
                report = self._after(outcome, open_steps)

    async def _run_step(self, step: Step) -> StepOutcome | StepKilled:
        pass_crash_point("step.after_record_before_call")
        outcome = await self._runner.run(
            StepWork(
                assignment=self._assignment,
                step=step,
                tool=self._tools[step.tool],
                bounds=self._bounds,
                outputs=self._outputs,
                previous_hash=self._last_hash,
                used=self._used,
                cancellation=self._cancellation,
                is_bulky=self._size_bytes > BULKY_BYTES,
            )
        )
        if isinstance(outcome, StepKilled):
            return outcome
        pass_crash_point("step.after_call_before_commit")
        self._last_hash = outcome.step_hash
        self._used += outcome.used
        if outcome.output_json is not None:
            self._outputs[step.step_index] = outcome.output
            self._size_bytes += len(outcome.output_json)
        return outcome

    def _before(self, open_steps: tuple[Step, ...]) -> Report | None:
        """The first report: the first open step begins, or there is nothing left to do."""
        if self._cancellation.is_asked:
            return Report(end=CANCELLED)
        if not open_steps:
            return Report(end=SUCCEEDED)
        beyond = self._beyond_bounds()
        if beyond is not None:
            return Report(end=beyond)
        if self._hands_over():
            return None
        pass_crash_point("step.before_record")
        return Report(started_step_index=open_steps[0].step_index)

    def _after(self, outcome: StepOutcome, open_steps: tuple[Step, ...]) -> Report:
        """The report of a closed step, and of what follows from it."""
        if outcome.failure is not None:
            return Report(finished=outcome, end=_failed(outcome.failure))
        if not open_steps:
            return Report(finished=outcome, end=SUCCEEDED)
        beyond = self._beyond_bounds()
        if beyond is not None:
            return Report(finished=outcome, end=beyond)
        if self._hands_over():
            return Report(finished=outcome)
        return Report(finished=outcome, started_step_index=open_steps[0].step_index)

    def _beyond_bounds(self) -> TaskEnd | None:
        """The end of a task that may not begin another step; None when it may."""
        if self._bounds.is_over(self._clock.monotonic()):
            return _failed(_task_failure(self._bounds.timed_out(TASK_TIMEOUT)))
        over = exceeded(
            self._used,
            self._assignment.plan.limits,
            next_step_usd=self._runner.prices.step_usd,
        )
        return None if over is None else _failed(_task_failure(over))


def _task_failure(failed: StepFailed) -> Failure:
    """A failure between steps: no step is to blame."""
    return Failure(code=failed.code, message=failed.message, reason=failed.reason)


def _failed(failure: Failure) -> TaskEnd:
    return TaskEnd(state=TaskState.FAILED, failure=failure)
