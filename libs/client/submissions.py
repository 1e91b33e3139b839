"""What is submitted, and the shapes in which tasks and times may be named. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from libs.client.tasks import Accepted, Task
from libs.core.plan import Plan

TaskLike: TypeAlias = str | Accepted | Task
"""A task's id, or what was answered about the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A task to run. None: the server's default.

    Without `plan` the server plans. `timeout_seconds` is from start to end, `priority` -1000 to
    1000, `scheduled_at` the time (with its offset from UTC) before which it does not run.
    """

    task_definition: Mapping[str, Any] = field(default_factory=dict)
    plan: Plan | Mapping[str, Any] | None = None
    max_steps: int | None = None
    timeout_seconds: float | None = None
    priority: int | None = None
    scheduled_at: datetime | str | None = None

    def as_json(self) -> dict[str, Any]:
        """The body of execute, with what is not None. Raises ValueError for a time without an
        offset.
        """
        plan, at = self.plan, self.scheduled_at
        optional = {
            "plan": plan.as_json() if isinstance(plan, Plan) else plan,
            "max_steps": self.max_steps,
            "timeout_seconds": self.timeout_seconds,
            "priority": self.priority,
            "scheduled_at": time_text(at, "scheduled_at") if isinstance(at, datetime) else at,
        }
        present = {name: value for name, value in optional.items() if value is not None}
        return {"task_definition": dict(self.task_definition), **present}


def id_of(task: TaskLike) -> str:
    """The id of a task, however it was named."""
    return task if isinstance(task, str) else task.task_id


def time_text(at: datetime, name: str) -> str:
    """A time as RFC 3339. Raises ValueError when it has no offset from UTC."""
    if at.utcoffset() is None:
        raise ValueError(f"{name} has no offset from UTC: {at.isoformat()}")
    return at.isoformat()
