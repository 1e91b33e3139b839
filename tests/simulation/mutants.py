"""Rules broken on purpose: each must be found by the same histories that find nothing otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from libs.core.lifecycle import TaskState
from services.executor.model import AckStatus, Report
from services.executor.service import ExecutorService, Reporter
from services.scheduler.judgement import JudgedTask, Settlement
from services.scheduler.model import ReportRow, Verdict
from tests.simulation.machines import Build
from tests.simulation.processes import SimulatedExecutor
from tests.simulation.sweep_statements import Statements
from tests.simulation.tables import BootRow, OutboxRow, S, TaskRow


class SettleKeepsToken(Statements):
    """Lease rule: a task is taken from its holder without a new token, and claimed under it."""

    def settled_token(self, task: TaskRow) -> int:
        """Not a new one."""
        return task.lease_token

    def next_token(self, task: TaskRow) -> int:
        """Not a new one, after the first."""
        return max(1, task.lease_token)

    def verdict(self, task: TaskRow, row: ReportRow) -> Verdict:
        """Looks at the token alone, as if every holder were told apart by it."""
        row = ReportRow(
            report=row.report,
            boot_id=task.boot_id if task.boot_id is not None else row.boot_id,
            closed_tool=row.closed_tool,
            begins_tool=row.begins_tool,
        )
        return super().verdict(task, row)


class SettlesWithoutLooking(Statements):
    """Lease rule: a judgement is carried out on a task that has moved on since."""

    def stands_as_judged(self, task: TaskRow, settlement: Settlement) -> bool:
        """Whatever has happened."""
        return not task.state.is_terminal and (
            settlement.end is not None or task.state is S.RUNNING
        )


class SweepsAfterAGap(Statements):
    """Lease rule: after a pause of the database, leases are judged as if they could be renewed."""

    def is_gap(self, longest: Any) -> bool:
        """Never."""
        del longest
        return False


class EndsTheLiving(Statements):
    """Lease rule: a boot ends as soon as its stream is away."""

    def is_dead(self, boot: BootRow, *, grace_seconds: float) -> bool:
        """With any stream that is away."""
        del grace_seconds
        return boot.lease_until < self.now() or boot.stream_ended_at is not None


class StartsAfterCancel(Statements):
    """Cancel rule: a cancelled task's next step may begin."""

    is_guarded = False

    def late_or_ok(self, task: TaskRow) -> Verdict:
        """Never late."""
        del task
        return Verdict.OK


class FinishesAfterCancel(Statements):
    """Cancel rule: whoever finishes a cancelled task wins."""

    is_guarded = False

    def late_or_ok(self, task: TaskRow) -> Verdict:
        """Late only between two steps."""
        if task.is_step_open and task.steps_begun == task.step_count:
            return Verdict.OK
        return super().late_or_ok(task)


class PollsASequence(Statements):
    """Outbox rule: the relay takes what has a higher number than the last it saw."""

    seen = 0

    def relay(self, *, most: int) -> int:
        """Rows in the order of their numbers, from the last one on."""
        rows = sorted(self.outbox, key=lambda row: row.ticket)
        taken = [row for row in rows if row.ticket > self.seen][:most]
        if taken:
            self.seen = taken[-1].ticket
        self.publish(taken)
        return len(taken)


class RelaysWithoutPrefix(Statements):
    """Outbox rule: the relay takes any rows, the youngest first."""

    def relay(self, *, most: int) -> int:
        """The last rows."""
        taken: Sequence[OutboxRow] = self.outbox[::-1][:most]
        self.outbox = self.outbox[: len(self.outbox) - len(taken)]
        self.publish(taken)
        return len(taken)


class RequeuesLost(Statements):
    """Loss: a task whose step was open is freed, and the step runs again."""

    is_guarded = False

    def settle(self, settlements: Sequence[Settlement]) -> dict[Any, TaskState]:
        """Forget that the step began."""
        for one in settlements:
            task = self.tasks.get(one.task_id)
            lost = one.failure is not None and one.failure.code == "EXECUTOR_LOST"
            if lost and task is not None and self.stands_as_judged(task, one):
                task.steps_begun = task.steps_closed
                task.boot_id, task.lease_token = None, task.lease_token + 1
        return super().settle(settlements)


class LosesBetweenSteps(Statements):
    """Loss: a task whose executor died between two steps fails, though it could go on."""

    def lost_tasks(self, *, most: int) -> list[JudgedTask]:
        """As if every step were open."""
        return [
            replace(task, steps_begun=task.steps_closed + 1, open_tool="work")
            if task.steps_closed < task.step_count
            else task
            for task in super().lost_tasks(most=most)
        ]


class CountsNoLimit(Statements):
    """Limits: a claim counts what ran before it, not what it takes itself."""

    def _is_limited(self, task: TaskRow, picked: Sequence[TaskRow]) -> bool:
        del picked
        return super()._is_limited(task, ())


class _Impatient:
    """Takes every `started` as acknowledged at once, and reports it all the same."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    async def report(self, report: Report) -> AckStatus:
        """No wait when a step begins alone."""
        if report.finished is None and report.end is None:
            self._late = asyncio.create_task(self._reporter.report(report))
            return AckStatus.OK
        return await self._reporter.report(report)


class ImpatientService(ExecutorService):
    """Runs a step without its `before` record."""

    async def run_task(self, assignment: Any, reporter: Reporter, **rest: Any) -> None:
        """With a reporter that does not wait."""
        await super().run_task(assignment, _Impatient(reporter), **rest)


class RunsWithoutRecord(SimulatedExecutor):
    """Record: an executor calls the tool before `started` is acknowledged."""

    service = ImpatientService


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A world with one broken rule."""

    statements: type[Statements] = Statements
    executor: type[SimulatedExecutor] = SimulatedExecutor

    @property
    def name(self) -> str:
        """The rule that is broken."""
        broken = self.executor if self.statements is Statements else self.statements
        return broken.__name__

    def build(self) -> Build:
        """Two schedulers and two executors of it."""
        return Build(statements=self.statements, executor=self.executor)


MUTANTS = (
    *(
        Mutant(statements=statements)
        for statements in (
            SettleKeepsToken,
            SettlesWithoutLooking,
            SweepsAfterAGap,
            EndsTheLiving,
            StartsAfterCancel,
            FinishesAfterCancel,
            PollsASequence,
            RelaysWithoutPrefix,
            RequeuesLost,
            LosesBetweenSteps,
            CountsNoLimit,
        )
    ),
    Mutant(executor=RunsWithoutRecord),
)
