"""The states of a task and the only edges between them. The same table stands as a trigger in the
scheduler's schema.
"""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """Where a task is. Succeeded, failed and cancelled are terminal: nothing leaves them."""

    CREATED = "created"
    PLANNED = "planned"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether a task in this state never changes again."""
        return self in TERMINAL


TERMINAL = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED})

EDGES: frozenset[tuple[TaskState, TaskState]] = frozenset(
    {
        (TaskState.CREATED, TaskState.PLANNED),
        (TaskState.PLANNED, TaskState.QUEUED),
        (TaskState.QUEUED, TaskState.RUNNING),
        (TaskState.RUNNING, TaskState.SUCCEEDED),
    }
    | {
        (state, end)
        for state in (TaskState.CREATED, TaskState.PLANNED, TaskState.QUEUED, TaskState.RUNNING)
        for end in (TaskState.FAILED, TaskState.CANCELLED)
    }
)


def may_follow(before: TaskState, after: TaskState) -> bool:
    """Whether a task may go from `before` to `after` in one transition."""
    return (before, after) in EDGES
