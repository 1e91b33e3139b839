"""Follows a task through its stream of events until it has ended."""

from __future__ import annotations

from collections.abc import Callable

from libs.cli.client import Client, Notice
from libs.client.tasks import Event, Task


def follow_task(
    client: Client, task_id: str, *, on_event: Callable[[Event], None], notice: Notice
) -> Task:
    """Call `on_event` for every event, in order and once, and return the ended task.

    A stream that breaks is taken up again after the last event, which `notice` is told; after ten
    vain tries in a row Unreachable is raised. The task goes on whatever happens here.
    """
    with client.noticing(notice):
        for event in client.api.stream(task_id):
            on_event(event)
    return client.api.get(task_id)
