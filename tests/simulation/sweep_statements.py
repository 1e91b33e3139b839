"""What nobody else brings to an end, and the relay, as their queries.sql say it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from libs.core.lifecycle import TaskState
from services.scheduler.judgement import JudgedTask, Settlement
from services.scheduler.sweep_store import Swept
from tests.simulation.tables import BootRow, OutboxRow, S, TaskRow
from tests.simulation.tenant_statements import TenantStatements
from tests.simulation.work_statements import WorkStatements, failure_columns

GAP = timedelta(seconds=5)
"""When nobody swept for longer, nobody could renew a lease."""
LATE = timedelta(seconds=2)
"""When nobody swept for longer, an executor may not have been able to come back."""


class Statements(TenantStatements, WorkStatements):
    """Every statement that is simulated: here those of SweepStore and of the relay."""

    def sweep(self, *, lease_seconds: float, grace_seconds: float) -> Swept:
        """End boots that are dead; after a gap in which nobody swept, give all more time."""
        now = self.now()
        ended: list[UUID] = []
        was_paused = False
        was_unsettled = any(self._unsettled())
        due = min((t.due_at for t in self.tasks.values() if t.due_at is not None), default=None)
        if not now <= self.swept_at <= now + GAP:
            was_paused = self.is_gap(GAP)
            is_late = self.is_gap(LATE)
            self.swept_at = now
            for boot in sorted(self.boots.values(), key=lambda boot: boot.boot_id):
                if boot.ended_at is not None:
                    continue
                if was_paused:
                    boot.lease_until = now + timedelta(seconds=lease_seconds)
                elif self.is_dead(boot, grace_seconds=math.inf if is_late else grace_seconds):
                    boot.ended_at = now
                    ended.append(boot.boot_id)
                if is_late and boot.ended_at is None and boot.stream_ended_at is not None:
                    boot.stream_ended_at = now
        return Swept(
            ended=tuple(ended),
            is_unsettled=bool(ended) or was_unsettled,
            due_in_seconds=None if due is None else (due - now).total_seconds(),
            was_paused=was_paused,
            listening=self.listening,
        )

    def is_gap(self, longest: timedelta) -> bool:
        """Whether nobody has swept for longer than that, or the clock has jumped by more."""
        return not -longest <= self.now() - self.swept_at <= longest

    def is_dead(self, boot: BootRow, *, grace_seconds: float) -> bool:
        """Whether its lease ran out, or its stream stayed away for too long."""
        now = self.now()
        stayed_away = boot.stream_ended_at is not None and (
            (now - boot.stream_ended_at).total_seconds() > grace_seconds
        )
        return boot.lease_until < now or stayed_away

    def _unsettled(self) -> list[UUID]:
        return [
            boot.boot_id
            for boot in self.boots.values()
            if boot.ended_at is not None and boot.settled_at is None
        ]

    def lost_tasks(self, *, most: int) -> list[JudgedTask]:
        """Running tasks of boots that have ended."""
        boots = set(self._unsettled())
        lost = [t for t in self.tasks.values() if t.state is S.RUNNING and t.boot_id in boots]
        lost.sort(key=lambda task: task.id)
        return [
            replace(
                self._judged(task, is_offered=True),
                is_cancelling=self.was_cancelled_first(task),
            )
            for task in lost[:most]
        ]

    def was_cancelled_first(self, task: TaskRow) -> bool:
        """Whether a lost task was to be cancelled before its executor was lost."""
        if task.cancel_requested_at is None or task.boot_id is None:
            return False
        boot = self.boots[task.boot_id]
        lost_at = boot.stream_ended_at or boot.ended_at
        return not task.is_step_open or (
            lost_at is not None and task.cancel_requested_at <= lost_at
        )

    def due_tasks(self, *, most: int) -> list[JudgedTask]:
        """Queued and running tasks whose patience has ended."""
        now = self.now()
        due = [
            task
            for task in self.tasks.values()
            if task.due_at is not None
            and task.due_at <= now
            and task.state in {S.QUEUED, S.RUNNING}
        ]
        due.sort(key=lambda task: (task.due_at, task.id))
        return [
            self._judged(
                task,
                is_offered=self.is_offered(task),
            )
            for task in due[:most]
        ]

    def settle(self, settlements: Sequence[Settlement]) -> dict[UUID, TaskState]:
        """End or free tasks, each with a new lease token, that stand as they were judged."""
        settled: dict[UUID, TaskState] = {}
        for one in sorted(settlements, key=lambda settlement: settlement.task_id):
            task = self.tasks.get(one.task_id)
            if task is None or not self.stands_as_judged(task, one):
                continue
            before, failure = task.state, one.failure
            token = self.settled_token(task)
            if one.end is None:
                self.change(task, lease_token=token, boot_id=None)
            else:
                code = None if failure is None else failure.code.value
                columns = self.end_of(task, one.end, code=code) | failure_columns(failure)
                at = columns["finished_at"]
                self.change(task, lease_token=token, seq=task.seq + 1, changed_at=at, **columns)
                said = {"failure_code": code, "task_hash": task.task_hash}
                self.tell(task, ("status_transition", before, said))
            settled[task.id] = task.state
        return settled

    def stands_as_judged(self, task: TaskRow, settlement: Settlement) -> bool:
        """Whether nothing has happened to the task since it was read."""
        return (
            task.seq == settlement.seq
            and task.lease_token == settlement.lease_token
            and task.state in {S.QUEUED, S.RUNNING}
            and (
                settlement.end is not None or (task.state is S.RUNNING and task.boot_id is not None)
            )
        )

    def settled_token(self, task: TaskRow) -> int:
        """The lease token of a task that was taken from its holder."""
        return task.lease_token + (task.lease_token > 0)

    def settle_boots(self) -> None:
        """Note of ended boots that nothing is left which they held."""
        holders = {task.boot_id for task in self.tasks.values() if task.state is S.RUNNING}
        for boot_id in self._unsettled():
            if boot_id not in holders:
                self.boots[boot_id].settled_at = self.now()

    def relay(self, *, most: int) -> int:
        """Publish the first rows of the outbox by (task, seq) and delete them; how many rows."""
        taken = sorted(self.outbox, key=lambda row: (row.task_id, row.first_seq))[:most]
        gone = set(map(id, taken))
        self.outbox = [row for row in self.outbox if id(row) not in gone]
        self.publish(taken)
        return len(taken)

    def publish(self, rows: Sequence[OutboxRow]) -> None:
        """Append the events of outbox rows to the topic."""
        for row in rows:
            self.published.extend(
                (row.task_id, seq) for seq in range(row.first_seq, row.last_seq + 1)
            )

    @staticmethod
    def _judged(task: TaskRow, *, is_offered: bool) -> JudgedTask:
        # Before the first step, `'steps'->(-1)` of the SQL is the last one too.
        tool = task.step_tools[task.steps_begun - 1] if task.step_tools else None
        return JudgedTask(
            task_id=task.id,
            state=task.state,
            seq=task.seq,
            lease_token=task.lease_token,
            steps_begun=task.steps_begun,
            steps_closed=task.steps_closed,
            step_count=task.step_count or 0,
            is_cancelling=task.cancel_requested_at is not None,
            is_offered=is_offered,
            max_total_seconds=task.max_total_seconds,
            open_tool=tool,
            request_id=task.request_id,
        )
