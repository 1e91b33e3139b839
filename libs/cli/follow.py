"""Follows a task through its stream of events until it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from libs.cli.client import Client, ServerEvent, Unreachable

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
TASKS = "/api/v1/tasks"
_TRIES = 10


Notice = Callable[[str], None]


def task_path(task_id: str, *rest: str) -> str:
    """The route of a task, whatever a user took for its id."""
    return "/".join((TASKS, quote(task_id, safe=""), *rest))


def follow_task(
    client: Client, task_id: str, *, on_event: Callable[[ServerEvent], None], notice: Notice
) -> dict[str, Any]:
    """Call `on_event` for every event, in order and once, and return the ended task.

    A stream that breaks is taken up again after the last event, which `notice` is told; after ten
    vain tries in a row Unreachable is raised. The task goes on whatever happens here.
    """
    last: str | None = None
    failures = 0
    while True:
        try:
            for event in client.events(task_path(task_id, "events"), after=last):
                last, failures = event.id or last, 0
                on_event(event)
            task = client.get(task_path(task_id))
            if task["status"] in TERMINAL:
                return task
        except Unreachable as error:
            failures += 1
            if failures >= _TRIES:
                raise
            notice(f"{error}; following again")
            time.sleep(min(0.25 * failures, 2.0))
