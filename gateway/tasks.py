"""What every dialect says of a task in the same way."""

from __future__ import annotations

from datetime import datetime

from libs.core.errors import PawlError
from libs.core.ids import parse_id
from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.rpc.convert import from_timestamp

TERMINAL = frozenset(
    {
        task_pb2.TASK_STATE_SUCCEEDED,
        task_pb2.TASK_STATE_FAILED,
        task_pb2.TASK_STATE_CANCELLED,
    }
)


def task_id_of(text: str) -> str:
    """The id in either spelling; anything else is answered as an unknown id is."""
    task_id = parse_id(text)
    if task_id is None:
        raise no_such_task()
    return str(task_id)


def moment_of(task: task_pb2.Task, name: str) -> datetime | None:
    """One of the task's times, None when it has none of that name."""
    return from_timestamp(getattr(task, name)) if task.HasField(name) else None  # type: ignore[arg-type]


def no_such_task() -> PawlError:
    """The same words for what is no id, is unknown or belongs to another tenant."""
    return PawlError("not_found", "there is no such task")
