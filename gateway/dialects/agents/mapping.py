"""The scheduler's words to the agents dialect's. All renaming of this dialect is here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.answers import embedded
from gateway.members import Members
from gateway.tasks import moment_of, no_such_task
from libs.core.canonical import Json
from libs.core.errors import PawlError
from libs.pb.pawl.scheduler.v1 import task_pb2

STATUSES = {
    task_pb2.TASK_STATE_CREATED: "pending",
    task_pb2.TASK_STATE_PLANNED: "pending",
    task_pb2.TASK_STATE_QUEUED: "pending",
    task_pb2.TASK_STATE_RUNNING: "running",
    task_pb2.TASK_STATE_SUCCEEDED: "complete",
    task_pb2.TASK_STATE_FAILED: "failed",
    task_pb2.TASK_STATE_CANCELLED: "cancelled",
}
"""The words of this dialect."""

_WORDS = {"succeeded": "complete", "failed": "failed", "cancelled": "cancelled"}
_ENDED = re.compile(f"(?<=: )({'|'.join(_WORDS)})$")
"""How a scheduler's refusal ends that names the state."""


def no_members(body: dict[str, Json]) -> None:
    """PawlError unknown_field unless the object is empty."""
    Members(body).check()


@contextmanager
def in_this_dialect() -> Iterator[None]:
    """Turn a service's refusal into this dialect's words."""
    try:
        yield
    except PawlError as error:
        if error.code == "not_found":
            raise no_such_task() from error
        message = _ENDED.sub(lambda word: _WORDS[word[0]], error.message)
        raise error.reworded(message, error.errors) from error


def task_record(task: task_pb2.Task) -> dict[str, Any]:
    """A task as this dialect shows it.

    Artifacts are seen once their task is complete; before that, and when it never is, it has none.
    Those of a complete task are not asked for here.
    """
    is_complete = task.state == task_pb2.TASK_STATE_SUCCEEDED
    return {
        "task_id": f"task_{UUID(task.id)}",
        "status": STATUSES[task.state],
        "input": embedded(task.input_json),
        "artifacts": None if is_complete else [],
        "error": task.failure.message if task.HasField("failure") else None,
        "created_at": _time(moment_of(task, "created_at")),
        "completed_at": _time(moment_of(task, "finished_at")),
        "tenant_id": task.tenant_id,
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="microseconds").replace("+00:00", "Z")
