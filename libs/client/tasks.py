"""What the server says of tasks and events, as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from libs.client.errors import Error
from libs.core.plan import Plan

ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""The statuses that are final. A cancelled task is `failed` with failure.code CANCELLED."""
CANCELLED = "CANCELLED"
TRANSITION = "task.status_transition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a task or a step failed. `step` is the tool, `index` its step_index, if one is to blame.

    `code` is one of a closed list, `reason` a finer word.
    """

    code: str
    message: str
    step: str | None = None
    index: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What a waiting task waits for; `position` counts from 1 over the whole queue."""

    reason: str
    detail: str
    position: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What became of a submission or a replay.

    `result` is {"queued": true} until the task has ended. `idempotency_key` is the one that was
    sent; `is_replayed` says that an earlier request with it had made this task.
    """

    task_id: str
    status: str
    duration_seconds: float = 0.0
    cost_usd: float = 0.0
    result: Any = None
    error: str | None = None
    failure: Failure | None = None
    version: str = ""
    idempotency_key: str | None = None
    is_replayed: bool = False
    request_id: str = ""
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def has_ended(self) -> bool:
        """Whether the task will never change again."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as it stands. `plan` is None until it is planned, and in lists.

    `result` is the last step's output once the task has succeeded. `raw` is the answer itself.
    """

    task_id: str
    status: str
    created_at: datetime
    input: Any = None
    plan: Plan | None = None
    planned_by: str | None = None
    planner_note: str | None = None
    result: Any = None
    error: str | None = None
    failure: Failure | None = None
    priority: int = 0
    queue: Queue | None = None
    replay_of_task_id: str | None = None
    scheduled_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    execution_started_at: datetime | None = None
    execution_finished_at: datetime | None = None
    version: str = ""
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def has_ended(self) -> bool:
        """Whether the task will never change again."""
        return self.status in ENDED

    @property
    def is_cancelled(self) -> bool:
        """Whether the task was cancelled; its status is then `failed`."""
        return self.failure is not None and self.failure.code == CANCELLED

    def raise_for_failure(self) -> Self:
        """The task itself unless it failed or was cancelled: TaskFailed then."""
        if self.status in ENDED - {"succeeded"}:
            raise TaskFailed(self)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. `seq` counts a task's events without gaps.

    `task_id` is there in streams, `position` (in the tenant's stream) in the stream of all tasks.
    """

    event: str
    payload: Mapping[str, Any]
    created_at: datetime
    seq: int
    task_id: str | None = None
    position: int | None = None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def is_last(self) -> bool:
        """Whether nothing follows: the task has ended with it."""
        return self.event == TRANSITION and self.payload.get("to") in ENDED


class TaskFailed(Error):  # noqa: N818 - what the task did
    """A task ended without success; `task` says how."""

    def __init__(self, task: Task) -> None:
        self.task = task
        why = task.failure
        where = f" in step {why.index} ({why.step})" if why and why.index is not None else ""
        reason = f", {why.reason}" if why and why.reason else ""
        said = f"{where}: {why.code}{reason}: {why.message}" if why else ""
        super().__init__(f"task {task.task_id} {task.status}{said}")


class WaitExpired(Error, TimeoutError):  # noqa: N818 - what the wait did
    """A task had not ended when the wait for it did; it goes on. `task` is as it was last seen."""

    def __init__(self, task: Task) -> None:
        self.task = task
        super().__init__(f"task {task.task_id} has not ended yet: it is {task.status}")
