"""The scheduler's tables in memory: rows, the clock of the database, and the guards on a task."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.errors import CheckViolation

from libs.core.hashing import task_hash
from libs.core.lifecycle import TaskState, may_follow

BEGINNING = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
S = TaskState


@dataclass(kw_only=True)
class TaskRow:
    """A row of scheduler.tasks, its columns by their names."""

    id: UUID
    tenant_id: UUID
    mode: str
    state: TaskState
    seq: int
    changed_at: datetime
    created_at: datetime
    priority: int
    rank: int
    tools: frozenset[str]
    plan: str | None
    plan_hash: str | None
    planned_by: str | None
    planner_note: str | None
    step_tools: tuple[str, ...]
    step_count: int | None
    tool_set: str | None
    input: str
    request_id: str
    traceparent: str
    scheduled_at: datetime | None
    queue_deadline_at: datetime | None
    due_at: datetime | None
    max_total_seconds: float | None
    tenant_limit: int | None
    agent_id: UUID | None
    agent_limit: int | None
    boot_id: UUID | None = None
    lease_token: int = 0
    steps_begun: int = 0
    steps_closed: int = 0
    step_started_at: datetime | None = None
    execution_started_at: datetime | None = None
    deadline_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    finished_at: datetime | None = None
    cost_usd: float = 0.0
    tokens_used: int = 0
    failure_code: str | None = None
    failure_message: str | None = None
    failure_reason: str | None = None
    failure_step: str | None = None
    failure_step_index: int | None = None
    task_hash: str | None = None
    replay_of_task_id: UUID | None = None
    clock_at: datetime | None = None
    recorded_tools: list[str] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a claim may take it."""
        return self.boot_id is None and self.state in {S.QUEUED, S.RUNNING}

    @property
    def is_step_open(self) -> bool:
        """Whether a step was begun and has not closed."""
        return self.steps_begun > self.steps_closed

    @property
    def place(self) -> tuple[int, int, UUID]:
        """Where it stands in the queue."""
        return -self.priority, self.rank, self.id


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """A row of scheduler.task_events; `data` without what the other columns say."""

    task_id: UUID
    seq: int
    type: str
    from_state: TaskState | None
    to_state: TaskState
    at: datetime
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """A row of scheduler.steps."""

    task_id: UUID
    step_index: int
    status: str
    step_hash: str
    resolved_input: str
    output: str | None
    failure_code: str | None
    failure_message: str | None
    failure_reason: str | None
    cost_usd: float
    tokens: int
    sandbox_ms: int


@dataclass(kw_only=True)
class BootRow:
    """A row of scheduler.executors."""

    boot_id: UUID
    executor_id: str
    stream_id: UUID
    slots: int
    tools: frozenset[str]
    lease_until: datetime
    stream_ended_at: datetime | None = None
    ended_at: datetime | None = None
    settled_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class OutboxRow:
    """A row of scheduler.outbox; `ticket` is what a sequence would have given its statement."""

    task_id: UUID
    first_seq: int
    last_seq: int
    ticket: int


@dataclass(frozen=True, slots=True)
class Grant:
    """That a boot was told that it may run a step, under which token."""

    task_id: UUID
    step_index: int
    boot_id: UUID
    lease_token: int


class Tables:
    """All rows. Statements change them, each at one moment; `elapsed` gives the seconds since the
    beginning, `step_clock` makes the database's clock jump.
    """

    is_guarded = True
    """Whether triggers and constraints refuse what no task may become."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._offset = timedelta()
        self._tickets = itertools.count(1)
        self.tasks: dict[UUID, TaskRow] = {}
        self.events: dict[UUID, list[EventRow]] = {}
        self.steps: dict[UUID, list[StepRow]] = {}
        self.boots: dict[UUID, BootRow] = {}
        self.keys: dict[tuple[UUID, str, str], tuple[str, UUID, datetime]] = {}
        self.outbox: list[OutboxRow] = []
        self.published: list[tuple[UUID, int]] = []
        self.swept_at = self.now()
        self.grants: list[Grant] = []
        self.refusals: list[str] = []
        self.touched: set[UUID] = set()
        self.listening = 0
        """How many schedulers listen for notifications."""
        self.ticket = 0
        """That of the statement that runs now: taken when it began, not when it committed."""

    def now(self) -> datetime:
        """The database's clock."""
        return BEGINNING + timedelta(seconds=self._elapsed()) + self._offset

    def step_clock(self, seconds: float) -> None:
        """Set the database's clock forward, or back."""
        self._offset += timedelta(seconds=seconds)

    def next_ticket(self) -> int:
        """The next value of a sequence."""
        return next(self._tickets)

    def waiting(self) -> Iterator[TaskRow]:
        """What may be claimed."""
        return (task for task in self.tasks.values() if task.is_waiting)

    def running_of(self, **whose: object) -> int:
        """How many tasks run of one tenant, or of one agent."""
        ((column, value),) = whose.items()
        return sum(
            task.state is S.RUNNING and getattr(task, column) == value
            for task in self.tasks.values()
        )

    def living_boots(self) -> Iterator[BootRow]:
        """Boots whose lease holds."""
        now = self.now()
        return (b for b in self.boots.values() if b.ended_at is None and b.lease_until > now)

    def is_offered(self, task: TaskRow) -> bool:
        """Whether some living executor offers all of its tools."""
        return any(boot.tools and task.tools <= boot.tools for boot in self.living_boots())

    def step_hashes(self, task: TaskRow) -> list[str]:
        """Those of its closed steps, in order."""
        return [step.step_hash for step in self.steps.get(task.id, ())]

    def insert(self, task: TaskRow) -> None:
        """A new task."""
        self.tasks[task.id] = task
        self.touched.add(task.id)

    def change(self, task: TaskRow, **columns: Any) -> None:
        """UPDATE of one task, as far as the guards allow; a CheckViolation changes nothing."""
        new = {**vars(task), **columns}
        if self.is_guarded and (reason := _refusal(vars(task), new)):
            self.refusals.append(f"{task.id}: {reason}")
            raise CheckViolation(f"refused by tasks_forward: {reason}")
        vars(task).update(columns)
        self.touched.add(task.id)

    def end_of(self, task: TaskRow, state: TaskState, *, code: str | None = None) -> dict[str, Any]:
        """The columns that end a task; its hash covers the steps that are in the table."""
        return {
            "state": state,
            "due_at": None,
            "finished_at": self.moment(task),
            "failure_code": code,
            "task_hash": task_hash(
                task.plan_hash or "",
                step_hashes=self.step_hashes(task),
                state=state,
                failure_code=code,
            ),
        }

    def moment(self, task: TaskRow) -> datetime:
        """The time of its next event: now, but never before the last one."""
        return max(self.now(), task.changed_at)

    def tell(self, task: TaskRow, *events: tuple[str, TaskState | None, dict[str, Any]]) -> None:
        """Append events (type, state before, data) that lead up to the task as it now stands."""
        first = task.seq - len(events) + 1
        history = self.events.setdefault(task.id, [])
        for seq, (kind, before, data) in enumerate(events, start=first):
            after = before if before is not None and kind != "status_transition" else task.state
            after = data.pop("to_state", after)
            history.append(
                EventRow(
                    task_id=task.id,
                    seq=seq,
                    type=kind,
                    from_state=before,
                    to_state=after,
                    at=task.changed_at,
                    data={name: value for name, value in data.items() if value is not None},
                )
            )
        self.outbox.append(
            OutboxRow(task_id=task.id, first_seq=first, last_seq=task.seq, ticket=self.ticket)
        )


def _refusal(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """Why the triggers and constraints of scheduler.tasks refuse a change; None: they do not."""
    if old["state"].is_terminal:
        return "the task has ended"
    for column in ("seq", "changed_at", "lease_token", "steps_begun", "steps_closed"):
        if new[column] < old[column]:
            return f"{column} goes back"
    if old["cancel_requested_at"] is not None and (
        new["cancel_requested_at"] is None
        or new["state"] is S.SUCCEEDED
        or new["steps_begun"] > old["steps_begun"]
    ):
        return "the task is to be cancelled"
    if new["state"] is not old["state"] and (
        new["seq"] == old["seq"] or not may_follow(old["state"], new["state"])
    ):
        return f"{old['state']} to {new['state']}"
    if not 0 <= new["steps_begun"] - new["steps_closed"] <= 1:
        return "one step at a time"
    if new["state"] is S.SUCCEEDED and new["steps_closed"] != new["step_count"]:
        return "succeeded without every step"
    if (new["failure_code"] is not None) != (new["state"] is S.FAILED):
        return "a failure iff failed"
    return None
