"""What tenants ask of tasks, as queries.sql says it: submit, cancel, get, and what becomes due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from services.scheduler.batch_model import KeyHolder
from services.scheduler.model import NewTask, StoredTask
from services.scheduler.rows import stored_task, submit_parameters
from tests.simulation.tables import S, Tables, TaskRow

KEY_LIFE = timedelta(hours=24)
COPIED = (
    *("id", "tenant_id", "mode", "priority", "input", "request_id", "traceparent"),
    *("plan", "plan_hash", "planned_by", "planner_note", "step_count", "tool_set"),
    *("scheduled_at", "max_total_seconds", "tenant_limit", "agent_id", "agent_limit"),
    *("replay_of_task_id", "clock_at", "recorded_tools"),
)
"""Columns that a new task has from its statement as they are."""


class TenantStatements(Tables):
    """Statements of TaskStore, and `queue_due`."""

    def submit(self, task: NewTask) -> StoredTask | None:
        """A task created, planned or queued; None when its key names another one."""
        now = self.now()
        if task.idempotency is not None:
            place = (task.tenant_id, task.mode, task.idempotency.key)
            earlier = self.keys.get(place)
            if earlier is not None and earlier[2] >= now - KEY_LIFE:
                return None
            self.keys[place] = (task.idempotency.fingerprint, task.id, now)
        row = self._new_row(task)
        self.insert(row)
        path = (None, S.CREATED, S.PLANNED, S.QUEUED)[: row.seq + 1]
        self.tell(
            row,
            *(
                ("status_transition", before, {"to_state": after})
                for before, after in pairwise(path)
            ),
        )
        return self.as_stored(row)

    def _new_row(self, task: NewTask) -> TaskRow:
        now = self.now()
        bound = submit_parameters(task)
        state = S(str(bound["state"]))
        is_early = task.scheduled_at is not None and task.scheduled_at > now
        if state is S.QUEUED and is_early:
            state = S.PLANNED
        patience: Any = bound["max_queue_seconds"]
        begin = max(now, task.scheduled_at or now)
        deadline = None if patience is None else begin + timedelta(seconds=patience)
        copied: dict[str, Any] = {name: bound[name] for name in COPIED}
        steps = () if task.frozen is None else task.frozen.plan.steps
        offers: Any = bound["tools"]
        return TaskRow(
            **copied,
            state=state,
            seq={S.CREATED: 1, S.PLANNED: 2, S.QUEUED: 3}[state],
            changed_at=now,
            created_at=now,
            rank=self._rank(tenant_id=task.tenant_id, priority=task.priority),
            tools=frozenset(offers),
            step_tools=tuple(step.tool for step in steps),
            queue_deadline_at=deadline,
            due_at={S.CREATED: None, S.PLANNED: task.scheduled_at, S.QUEUED: deadline}[state],
        )

    def _rank(self, *, tenant_id: UUID, priority: int) -> int:
        """Behind the tenant's own tasks, and not before those that wait already."""
        waiting = [task for task in self.waiting() if task.priority == priority]
        lowest = min((task.rank for task in waiting), default=0)
        own = max((task.rank for task in waiting if task.tenant_id == tenant_id), default=-1)
        return max(lowest, own + 1)

    def read_key(self, tenant_id: UUID, mode: str, key: str) -> KeyHolder | None:
        """The task that a key names."""
        found = self.keys.get((tenant_id, mode, key))
        if found is None or found[2] < self.now() - KEY_LIFE:
            return None
        return KeyHolder(task_ids=(found[1],), fingerprint=found[0], is_batch=False)

    def get(self, tenant_id: UUID, task_id: UUID) -> StoredTask | None:
        """A task of the tenant, with its result."""
        task = self.tasks.get(task_id)
        return None if task is None or task.tenant_id != tenant_id else self.as_stored(task)

    def cancel(
        self, tenant_id: UUID, task_id: UUID, *, grace_seconds: float, is_blind: bool = False
    ) -> StoredTask | None:
        """Ask for the end of a task. `is_blind`: a step closed while this waited for the lock, so
        that its hash is not seen; then the task is due at once.
        """
        task = self.tasks.get(task_id)
        if (
            task is None
            or task.tenant_id != tenant_id
            or task.state.is_terminal
            or task.cancel_requested_at is not None
        ):
            return None
        before = task.state
        at = self.moment(task)
        is_end = not task.is_step_open and not (is_blind and task.steps_closed)
        if is_end:
            due = self.end_of(task, S.CANCELLED)
        elif not task.is_step_open:
            due = {"due_at": self.now()}
        else:
            due = {"due_at": _least(task.due_at, self.now() + timedelta(seconds=grace_seconds))}
        asked = {"cancel_requested_at": at, "changed_at": at, "seq": task.seq + 1 + is_end}
        self.change(task, **asked, **due)
        events: list[tuple[str, Any, dict[str, Any]]] = [("cancel_requested", before, {})]
        if is_end:
            events.append(("status_transition", before, {"task_hash": task.task_hash}))
        self.tell(task, *events)
        return self.as_stored(task)

    def queue_due(self, *, most: int) -> list[UUID]:
        """Queue planned tasks whose time has come, each behind its tenant's own tasks."""
        now = self.now()
        due = [
            task
            for task in _by_due(self.tasks.values(), until=now)
            if task.state is S.PLANNED and task.cancel_requested_at is None
        ][:most]
        ranks = {
            task.id: self._rank(tenant_id=task.tenant_id, priority=task.priority) for task in due
        }
        before: Counter[tuple[UUID, int]] = Counter()
        for task in due:
            place = (task.tenant_id, task.priority)
            self.change(
                task,
                state=S.QUEUED,
                seq=task.seq + 1,
                changed_at=self.moment(task),
                rank=ranks[task.id] + before[place],
                due_at=task.queue_deadline_at,
            )
            before[place] += 1
            self.tell(task, ("status_transition", S.PLANNED, {}))
        return [task.id for task in due]

    def as_stored(self, task: TaskRow) -> StoredTask:
        """The row as the store answers it."""
        steps = self.steps.get(task.id, ())
        result = steps[-1].output if task.state is S.SUCCEEDED and steps else None
        return stored_task({**vars(task), "result": result})


def _by_due(tasks: Iterable[TaskRow], *, until: datetime) -> list[TaskRow]:
    due = [task for task in tasks if task.due_at is not None and task.due_at <= until]
    return sorted(due, key=lambda task: (task.due_at, task.id))


def _least(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else min(one, other)
