"""`pawl cancel`: end a task, and say how it ended."""

from __future__ import annotations

from rich.text import Text

from libs.cli.client import Client
from libs.cli.output import console, plain, print_json, styled
from libs.cli.run import print_end
from libs.client.errors import Conflict
from libs.client.tasks import Task

_TRIES = 3
"""One waits some seconds for a step that does not end at once."""


def cancel_task(client: Client, task_id: str, *, as_json: bool) -> int:
    """Cancel a task; 0 when that ended it, 1 when it had ended already or has not yet."""
    task, had_ended = _cancelled(client, task_id)
    became = "cancelled" if task.is_cancelled else task.status
    if as_json:
        print_json(task.raw)
    elif not task.has_ended:
        console().print(_line(task, " is still ") + styled(became) + Text("; it is being ended"))
    else:
        words = " had ended already: " if had_ended else " has ended: "
        console().print(_line(task, words) + styled(became))
        if not task.is_cancelled:
            print_end(task, console())
    return 0 if task.is_cancelled and not had_ended else 1


def _cancelled(client: Client, task_id: str) -> tuple[Task, bool]:
    """Ask for it until the task has ended, and whether it had before anybody asked."""
    for place in range(_TRIES):
        try:
            task = client.api.cancel(task_id)
        except Conflict:
            return client.api.get(task_id), place == 0
        if task.has_ended:
            break
    return task, False


def _line(task: Task, words: str) -> Text:
    return Text("task ") + plain(task.task_id) + Text(words)
