"""What a run leaves behind: the client's log, the database, what was published, side effects."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal
from uuid import UUID

Outcome = Literal["ok", "failed", "unknown"]
OperationKind = Literal["create", "get", "cancel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One request of a client, with its last answer. Times are seconds since 1970.

    ok: the server said yes. failed: it said no, so nothing may have come of it. unknown: no answer,
    or one that leaves it open (5xx). `key` is its Idempotency-Key, and the mark in a task's input.
    `status` is 0 without an answer, `attempts` counts what was sent.
    """

    kind: OperationKind
    key: str = ""
    task_id: UUID | None = None
    outcome: Outcome
    status: int
    began_at: float
    ended_at: float
    wait_seconds: float = 0.0
    retry_after: str | None = None
    attempts: int = 1
    answer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A row of scheduler.tasks; `digest` covers all its columns."""

    id: UUID
    tenant_id: UUID
    mode: str
    state: str
    seq: int
    created_at: datetime
    queue_deadline_at: datetime | None
    execution_started_at: datetime | None
    finished_at: datetime | None
    max_total_seconds: float | None
    cancel_requested_at: datetime | None
    lease_token: int
    step_count: int | None
    failure_code: str | None
    plan_hash: str | None
    task_hash: str | None
    tool_set: str | None
    plan: str | None
    input: str
    tenant_limit: int | None = None
    digest: str

    @property
    def is_ended(self) -> bool:
        """Whether nothing may change it any more."""
        return self.state in {"succeeded", "failed", "cancelled"}

    @property
    def mark(self) -> str:
        """What the client wrote into the input to find the task again; empty without."""
        return str(json.loads(self.input).get("mark", ""))

    @property
    def limits(self) -> dict[str, float]:
        """The limits of its plan."""
        found: dict[str, float] = json.loads(self.plan)["limits"] if self.plan else {}
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """A row of scheduler.task_events."""

    task_id: UUID
    seq: int
    type: str
    from_state: str | None
    to_state: str
    at: datetime
    data: Mapping[str, Any]

    @property
    def is_transition(self) -> bool:
        """Whether it changes the state."""
        return self.type == "status_transition"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """A row of scheduler.steps: a closed step."""

    task_id: UUID
    step_index: int
    status: str
    started_at: datetime
    finished_at: datetime
    failure_code: str | None
    step_hash: str
    resolved_input: str
    output: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A row of scheduler.idempotency."""

    key: str
    task_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A line of the side-effect file: the tool began or ended a call in process `pid`."""

    task_id: UUID
    step_index: int
    kind: Literal["began", "ended"]
    boot: str
    pid: int
    at: float


@dataclass(frozen=True, kw_only=True)
class Dump:
    """The database at one moment, and what was published until then, in order.

    `used` is what auth has counted: (tasks, steps) of a tenant.
    """

    taken_at: datetime
    tasks: tuple[TaskRow, ...]
    events: tuple[EventRow, ...]
    steps: tuple[StepRow, ...]
    keys: tuple[KeyRow, ...] = ()
    published: tuple[tuple[UUID, int], ...] = ()
    used: Mapping[UUID, tuple[int, int]] = field(default_factory=dict)

    @cached_property
    def by_id(self) -> dict[UUID, TaskRow]:
        """Tasks by id."""
        return {task.id: task for task in self.tasks}

    @cached_property
    def events_of(self) -> dict[UUID, list[EventRow]]:
        """Events of each task, as they stand in the dump."""
        found: dict[UUID, list[EventRow]] = defaultdict(list)
        for event in self.events:
            found[event.task_id].append(event)
        return found

    @cached_property
    def steps_of(self) -> dict[UUID, list[StepRow]]:
        """Closed steps of each task, as they stand in the dump."""
        found: dict[UUID, list[StepRow]] = defaultdict(list)
        for step in self.steps:
            found[step.task_id].append(step)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One run, to be judged.

    `earlier` is a dump from the middle. `held_seconds` is how long the run itself kept the database
    or all schedulers from working: bounds may be passed by as much. `is_settled`: the run has
    waited for the last task to end and for the consumers. `slowest_seconds`: what an answer may
    take beyond the wait that was asked for. `tolerated` are the answers of a system that lacks a
    part. `most_running` is the number of tasks of one tenant that may run at a time.
    """

    operations: tuple[Operation, ...]
    dump: Dump
    earlier: Dump | None = None
    effects: tuple[Effect, ...] = ()
    held_seconds: float = 0.0
    is_settled: bool = True
    slowest_seconds: float = 10.0
    tolerated: frozenset[int] = frozenset({503})
    most_running: Mapping[UUID, int] = field(default_factory=dict)

    @property
    def ok_count(self) -> int:
        """How many operations the server said yes to."""
        return sum(operation.outcome == "ok" for operation in self.operations)
