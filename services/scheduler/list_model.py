"""What the scheduler speaks of when tasks are listed and counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from libs.core.lifecycle import TaskState
from services.scheduler.model import StoredTask


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks a list has. None: any; `agent_ids` of one of these, empty: of none at all.

    `created_from` is within, `created_before` is not.
    """

    states: frozenset[TaskState] = frozenset(TaskState)
    created_from: datetime | None = None
    created_before: datetime | None = None
    agent_ids: frozenset[UUID] | None = None
    replay_of: UUID | None = None
    mode: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """What a caller asks for. `page_size` 0: the default; `page_token` empty: the first page."""

    wanted: TaskFilter
    page_size: int
    page_token: str


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a task stands in every list: newer ones come first, of the same time by id."""

    created_at: datetime
    task_id: UUID


BEGINNING = Place(datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))
"""Before the newest task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPage:
    """Tasks in their order, without plan and planner_note; and whether others follow."""

    tasks: tuple[StoredTask, ...]
    is_last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCounts:
    """Tasks that have not ended: created, planned or queued; and running."""

    waiting: int
    running: int
