"""What stands between the queue and the executors, as queries.sql and `scheduler.claim` say it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from libs.core.errors import Failure
from libs.core.lifecycle import TaskState
from services.scheduler.model import (
    Assigned,
    Claimed,
    Fate,
    Renewal,
    ReportRow,
    StepClosed,
    Stream,
    TaskEnd,
    Verdict,
)
from services.scheduler.replay_model import Recall, RecordedAnswer
from services.scheduler.rows import assigned, recorded_answer
from tests.simulation.tables import BootRow, Grant, S, StepRow, Tables, TaskRow

DUE_GRACE = timedelta(seconds=0.75)


class WorkStatements(Tables):
    """Statements of WorkStore."""

    def hello(self, stream: Stream, *, lease_seconds: float) -> int | None:
        """The boot leased to its newest stream; how many earlier boots ended, None: it has."""
        now = self.now()
        boot = self.boots.get(stream.boot_id)
        if boot is not None and (
            boot.ended_at is not None or boot.executor_id != stream.executor_id
        ):
            return None
        self.boots[stream.boot_id] = BootRow(
            boot_id=stream.boot_id,
            executor_id=stream.executor_id,
            stream_id=stream.stream_id,
            slots=stream.slots,
            tools=frozenset(stream.offers),
            lease_until=now + timedelta(seconds=lease_seconds),
        )
        earlier = [
            one
            for one in self.boots.values()
            if one.executor_id == stream.executor_id
            and one.boot_id != stream.boot_id
            and one.ended_at is None
        ]
        for one in earlier:
            one.ended_at = now
        return len(earlier)

    def end_stream(self, stream: Stream) -> None:
        """The newest stream of a boot is gone."""
        boot = self._newest(stream)
        if boot is not None and boot.stream_ended_at is None:
            boot.stream_ended_at = self.now()

    def end_boot(self, stream: Stream) -> None:
        """The boot of the newest stream is over."""
        boot = self._newest(stream)
        if boot is not None:
            boot.ended_at = self.now()

    def renew(self, stream: Stream, *, lease_seconds: float) -> Renewal:
        """One more period for everything that the stream runs."""
        boot = self._newest(stream)
        if boot is None:
            return Renewal.REFUSED
        had_lapsed = boot.lease_until < self.now()
        boot.lease_until = self.now() + timedelta(seconds=lease_seconds)
        return Renewal.AFTER_LAPSE if had_lapsed else Renewal.IN_TIME

    def _newest(self, stream: Stream) -> BootRow | None:
        boot = self.boots.get(stream.boot_id)
        if boot is None or boot.stream_id != stream.stream_id or boot.ended_at is not None:
            return None
        return boot

    def held(self, boot_id: UUID) -> list[Assigned]:
        """What a boot holds now."""
        tasks = [t for t in self.tasks.values() if t.boot_id == boot_id and t.state is S.RUNNING]
        return [self._assigned(task) for task in sorted(tasks, key=lambda task: task.id)]

    def claim(self, stream: Stream, *, slots: int) -> Claimed:
        """Lease the first waiting tasks to a boot, within the limits of tenants and agents."""
        boot = self._newest(stream)
        if boot is None or boot.lease_until <= self.now() or not stream.offers:
            return Claimed(tasks=(), is_limited=False)
        offers = frozenset(stream.offers)
        heads = sorted((t for t in self.waiting() if t.tools <= offers), key=lambda t: t.place)
        picked: list[TaskRow] = []
        is_limited = False
        for task in heads:
            if len(picked) >= slots:
                break
            # One that is taken over runs already: it takes nobody's place.
            if task.state is S.QUEUED and self._is_limited(task, picked):
                is_limited = True
            elif task.cancel_requested_at is None:
                picked.append(task)
        for task in picked:
            self._lease(task, stream)
        return Claimed(tasks=tuple(map(self._assigned, picked)), is_limited=is_limited)

    def _is_limited(self, task: TaskRow, picked: Sequence[TaskRow]) -> bool:
        """Whether its tenant or agent has as many running tasks as it may, those just picked too.

        Of the picked ones, those that were running are in the count already.
        """
        new = [one for one in picked if one.state is S.QUEUED]
        if task.tenant_limit is not None:
            load = self.running_of(tenant_id=task.tenant_id)
            load += sum(
                one.tenant_id == task.tenant_id and one.tenant_limit is not None for one in new
            )
            if load >= task.tenant_limit:
                return True
        if task.agent_limit is not None:
            load = self.running_of(agent_id=task.agent_id)
            load += sum(
                one.agent_id == task.agent_id and one.agent_limit is not None for one in new
            )
            if load >= task.agent_limit:
                return True
        return False

    def _lease(self, task: TaskRow, stream: Stream) -> None:
        at = self.moment(task)
        was_queued = task.state is S.QUEUED
        total = task.max_total_seconds
        deadline = task.deadline_at
        if deadline is None and total is not None:
            deadline = at + timedelta(seconds=total)
        self.change(
            task,
            state=S.RUNNING,
            seq=task.seq + was_queued,
            changed_at=at if was_queued else task.changed_at,
            boot_id=stream.boot_id,
            lease_token=self.next_token(task),
            execution_started_at=task.execution_started_at or at,
            deadline_at=deadline,
            due_at=None if deadline is None else deadline + DUE_GRACE,
        )
        if was_queued:
            self.tell(task, ("status_transition", S.QUEUED, {}))

    def next_token(self, task: TaskRow) -> int:
        """The lease token under which it is held next."""
        return task.lease_token + 1

    def _assigned(self, task: TaskRow) -> Assigned:
        left = 0.0
        if task.deadline_at is not None:
            left = max(0.001, (task.deadline_at - self.now()).total_seconds())
        steps = self.steps.get(task.id, ())
        return assigned(
            {
                **vars(task),
                "seconds_left": left,
                "is_cancelling": task.cancel_requested_at is not None,
                "closed_outputs": [step.output for step in steps],
                "last_step_hash": steps[-1].step_hash if steps else None,
            }
        )

    def report(self, rows: Sequence[ReportRow]) -> dict[UUID, Fate]:
        """Write what executors report, at most one report per task."""
        fates: dict[UUID, Fate] = {}
        for row in rows:
            task = self.tasks.get(row.report.task_id)
            if task is None:
                continue
            verdict = self.verdict(task, row)
            if verdict in {Verdict.OK, Verdict.LATE}:
                ended = self._write(task, row, is_late=verdict is Verdict.LATE)
                fates[task.id] = Fate(verdict=verdict, ended=ended)
            else:
                fates[task.id] = Fate(verdict=verdict)
            begins = row.report.begins
            if begins is not None and verdict in {Verdict.OK, Verdict.SEEN}:
                grant = Grant(task.id, begins, row.boot_id, row.report.lease_token)
                self.grants.append(grant)
        return fates

    def verdict(self, task: TaskRow, row: ReportRow) -> Verdict:
        """What the locked row says of a report."""
        report = row.report
        fin = None if report.closed is None else report.closed.step_index
        start, term = report.begins, None if report.end is None else report.end.state
        if task.lease_token != report.lease_token or task.boot_id != row.boot_id:
            return Verdict.STALE_LEASE
        is_running = task.state is S.RUNNING
        if start is not None:
            is_seen = start == task.steps_begun and task.is_step_open and is_running
        elif fin is not None:
            is_seen = fin == task.steps_closed and (term is None or not is_running)
        else:
            is_seen = task.state is term
        if is_seen:
            return Verdict.SEEN
        if not is_running:
            return Verdict.TERMINAL
        if self._is_out_of_turn(task, row, fin=fin, term=term):
            return Verdict.STALE_LEASE
        return self.late_or_ok(task)

    def late_or_ok(self, task: TaskRow) -> Verdict:
        """The verdict on a report that is the next thing that can happen."""
        return Verdict.OK if task.cancel_requested_at is None else Verdict.LATE

    @staticmethod
    def _is_out_of_turn(
        task: TaskRow, row: ReportRow, *, fin: int | None, term: TaskState | None
    ) -> bool:
        start = row.report.begins
        closes_wrong = fin is not None and (
            fin != task.steps_begun or not task.is_step_open or row.closed_tool is None
        )
        begins_wrong = start is not None and (
            row.begins_tool is None
            or start != task.steps_begun + 1
            or start > (task.step_count or 0)
            or (fin is None and task.is_step_open)
        )
        last = task.steps_closed if fin is None else fin
        ends_wrong = (term is S.SUCCEEDED and last != task.step_count) or (
            term is S.CANCELLED and task.cancel_requested_at is None
        )
        return closes_wrong or begins_wrong or ends_wrong

    def recall(self, asked: Recall) -> RecordedAnswer | None:
        """What the original of a replay came to in a step; None unless that replay runs."""
        task = self.tasks.get(asked.task_id)
        if (
            task is None
            or task.lease_token != asked.lease_token
            or task.state is not S.RUNNING
            or task.boot_id is None
            or task.recorded_tools is None
            or task.replay_of_task_id is None
        ):
            return None
        steps = self.steps.get(task.replay_of_task_id, ())
        step = next((step for step in steps if step.step_index == asked.step_index), None)
        columns: dict[str, Any] = dict.fromkeys(StepRow.__dataclass_fields__)
        columns |= {} if step is None else vars(step)
        sha256 = None if step is None else hashlib.sha256(step.resolved_input.encode()).hexdigest()
        return recorded_answer(
            columns | {"replay_of_task_id": task.replay_of_task_id, "input_sha256": sha256}
        )

    def _write(self, task: TaskRow, row: ReportRow, *, is_late: bool) -> TaskState | None:
        """Carry a report out; a late one closes its step and ends the task as cancelled."""
        report, at = row.report, self.moment(task)
        closed = report.closed
        start = None if is_late else report.begins
        end = S.CANCELLED if is_late else None if report.end is None else report.end.state
        failure = None if report.end is None or is_late else report.end.failure
        columns: dict[str, Any] = {"changed_at": at}
        events: list[tuple[str, TaskState | None, dict[str, Any]]] = []
        step = None
        if closed is not None:
            step, said = _closed_step(row, tool=row.closed_tool)
            events.append(("step_finished", S.RUNNING, said))
            columns["steps_closed"] = closed.step_index
        # What was used belongs to the step that closed; of one that was killed, to the end.
        if (used := report.end if closed is None else closed) is not None:
            columns |= {
                "cost_usd": task.cost_usd + used.cost_usd,
                "tokens_used": task.tokens_used + used.tokens,
            }
        if start is not None:
            events.append(
                ("step_started", S.RUNNING, {"step_index": start, "tool": row.begins_tool})
            )
            columns |= {"steps_begun": start, "step_started_at": at}
        if step is not None:
            self.steps.setdefault(task.id, []).append(step)
        if end is not None:
            code = None if failure is None else failure.code.value
            columns |= self.end_of(task, end, code=code)
            columns |= failure_columns(failure)
            said = {"failure_code": code, "task_hash": columns["task_hash"]}
            if closed is None and report.end is not None:
                said |= _told_use(report.end)
            events.append(("status_transition", S.RUNNING, said))
        try:
            self.change(task, seq=task.seq + len(events), **columns)
        except Exception:
            if step is not None:
                self.steps[task.id].pop()
            raise
        self.tell(task, *events)
        return end


def failure_columns(failure: Failure | None) -> dict[str, Any]:
    """What a task's row says of its failure, beside the code."""
    if failure is None:
        return {}
    return {
        "failure_message": failure.message,
        "failure_reason": failure.reason,
        "failure_step": failure.step,
        "failure_step_index": failure.step_index,
    }


def _closed_step(row: ReportRow, *, tool: str | None) -> tuple[StepRow, dict[str, Any]]:
    """The row of a step that closed, and what its event says."""
    closed = row.report.closed
    assert closed is not None
    code = None if closed.failure is None else closed.failure.code.value
    status = "succeeded" if code is None else "failed"
    step = StepRow(
        task_id=row.report.task_id,
        step_index=closed.step_index,
        status=status,
        step_hash=closed.step_hash,
        resolved_input=closed.resolved_input,
        output=closed.output,
        failure_code=code,
        failure_message=None if closed.failure is None else closed.failure.message,
        failure_reason=None if closed.failure is None else closed.failure.reason,
        cost_usd=closed.cost_usd,
        tokens=closed.tokens,
        sandbox_ms=closed.sandbox_ms,
    )
    said = {
        "step_index": closed.step_index,
        "tool": tool,
        "status": status,
        "step_hash": closed.step_hash,
        "failure_code": code,
        **_told_use(closed),
    }
    return step, said


def _told_use(used: StepClosed | TaskEnd) -> dict[str, Any]:
    """What an event says of what was used: nothing of what is zero."""
    return {
        "tokens": used.tokens or None,
        "sandbox_ms": used.sandbox_ms or None,
        "cost_usd": used.cost_usd or None,
    }
