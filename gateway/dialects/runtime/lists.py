"""The runtime dialect's list of tasks: its query in the scheduler's words, its records."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gateway.dialects.runtime.mapping import STATUSES, task_record
from gateway.members import parse_instant
from gateway.query import Query, cursor_of, limit_of
from libs.core.api_key import MODES
from libs.core.errors import PawlError, field_error
from libs.core.ids import parse_id
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2, task_pb2
from libs.rpc.convert import to_timestamp

PARAMETERS = (
    "status",
    "created_from",
    "created_before",
    "agent_id",
    "replay_of_task_id",
    "mode",
    "limit",
    "cursor",
)
WORDS = tuple(dict.fromkeys(STATUSES.values()))
MAX_SHOWN = 64

_LEFT_OUT = frozenset({"plan", "planner_note", "queue"})


def asked(query: Query) -> scheduler_service_pb2.ListTasksRequest:
    """The page of tasks that a query asks for. PawlError validation_failed, invalid_cursor."""
    created_from, created_before = _time(query, "created_from"), _time(query, "created_before")
    return scheduler_service_pb2.ListTasksRequest(
        states=_states(query),
        created_from=None if created_from is None else to_timestamp(created_from),
        created_before=None if created_before is None else to_timestamp(created_before),
        agent_id=_id(query, "agent_id", prefix="agent_"),
        replay_of_task_id=_id(query, "replay_of_task_id", prefix="task_"),
        mode=_mode(query),
        page_size=limit_of(query),
        page_token=cursor_of(query),
    )


def listed_record(task: task_pb2.Task, *, version: str) -> dict[str, Any]:
    """A task as GET task has it, without what only a look at that one task shows."""
    record = task_record(task, version=version)
    return {name: value for name, value in record.items() if name not in _LEFT_OUT}


def _states(query: Query) -> list[task_pb2.TaskState.ValueType]:
    """`status`: one of this dialect's words or several with commas between; absent: any."""
    text = query.get("status")
    if text is None:
        return []
    words = text.split(",")
    for word in words:
        if word not in WORDS:
            raise _refused("status", word, f"one of {', '.join(WORDS)}, or several with commas")
    return [state for state, word in STATUSES.items() if word in words]


def _mode(query: Query) -> str:
    text = query.get("mode")
    if text is not None and text not in MODES:
        raise _refused("mode", text, f"one of {', '.join(MODES)}")
    return text or ""


def _id(query: Query, name: str, *, prefix: str) -> str | None:
    text = query.get(name)
    if text is None:
        return None
    found = parse_id(text, prefix=prefix)
    if found is None:
        raise _refused(name, text, f"a UUID, or {prefix} and a UUID")
    return str(found)


def _time(query: Query, name: str) -> datetime | None:
    text = query.get(name)
    if text is None:
        return None
    at = parse_instant(text)
    if at is None:
        wanted = "an RFC 3339 time with an offset, such as 2026-06-15T09:00:00Z (write + as %2B)"
        raise _refused(name, text, wanted)
    return at


def _refused(name: str, text: str, wanted: str) -> PawlError:
    detail = f"it is {text[:MAX_SHOWN]!a}; it must be {wanted}"
    return field_error("validation_failed", name, detail, fine="invalid_value")
