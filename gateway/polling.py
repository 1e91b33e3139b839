"""When to ask again for a task that has not ended."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from gateway.tasks import TERMINAL, moment_of
from libs.pb.pawl.scheduler.v1 import task_pb2

SHORTEST_SECONDS = 1
LONGEST_SECONDS = 5
GROWS_EVERY_SECONDS = 10

_EARLY = frozenset({task_pb2.TASK_STATE_CREATED, task_pb2.TASK_STATE_PLANNED})


def retry_after(task: task_pb2.Task, *, now: datetime) -> int | None:
    """Whole seconds to leave between two looks at a task; None: it has ended.

    One second at first, one more for every ten that it has lasted, at most five. A task that waits
    for its time need not be looked at before.
    """
    if task.state in TERMINAL:
        return None
    due = moment_of(task, "scheduled_at")
    begin = moment_of(task, "created_at") or now
    if due is not None and due > begin:
        if task.state in _EARLY and due > now:
            return max(SHORTEST_SECONDS, math.ceil((due - now).total_seconds()))
        begin = due
    age = max(0.0, (now - begin).total_seconds())
    return min(LONGEST_SECONDS, SHORTEST_SECONDS + int(age // GROWS_EVERY_SECONDS))


def poll_headers(tasks: Iterable[task_pb2.Task], *, now: datetime) -> dict[str, str]:
    """Retry-After of an answer about these tasks: when the first of them may have changed; nothing
    when all have ended.
    """
    waits = [wait for task in tasks if (wait := retry_after(task, now=now)) is not None]
    return {"Retry-After": str(min(waits))} if waits else {}
