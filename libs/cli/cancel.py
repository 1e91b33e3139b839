"""`pawl cancel`: end a task, and say how it ended."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from rich.text import Text

from libs.cli.client import Client, Refused
from libs.cli.follow import TERMINAL, task_path
from libs.cli.output import console, plain, print_json, styled
from libs.cli.run import print_end

_TRIES = 3
"""One waits some seconds for a step that does not end at once."""


def cancel_task(client: Client, task_id: str, *, as_json: bool) -> int:
    """Cancel a task; 0 when that ended it, 1 when it had ended already or has not yet."""
    had_ended = not _cancelled(client, task_id)
    task = client.get(task_path(task_id))
    became = outcome(task)
    if as_json:
        print_json(task)
    elif task["status"] not in TERMINAL:
        console().print(_line(task, " is still ") + styled(became) + Text("; it is being ended"))
    elif had_ended:
        console().print(_line(task, " had ended already: ") + styled(became))
        _print_reason(task)
    else:
        console().print(_line(task, " has ended: ") + styled(became))
        _print_reason(task)
    return 0 if became == "cancelled" and not had_ended else 1


def outcome(task: dict[str, Any]) -> str:
    """What became of a task, a cancelled one told apart from one that failed."""
    is_cancelled = (task.get("failure") or {}).get("code") == "CANCELLED"
    return "cancelled" if is_cancelled else str(task["status"])


def _cancelled(client: Client, task_id: str) -> bool:
    """Ask for it until the task has ended; False when it had ended before anybody asked."""
    for place in range(_TRIES):
        try:
            answer = client.post(f"/v1/tasks/{quote(task_id, safe='')}/cancel", {})
        except Refused as error:
            if error.code != "conflict":
                raise
            return place > 0
        if answer.get("status") not in {"pending", "running"}:
            break
    return True


def _print_reason(task: dict[str, Any]) -> None:
    if outcome(task) != "cancelled":
        print_end(task, console())


def _line(task: dict[str, Any], words: str) -> Text:
    return Text("task ") + plain(task["task_id"]) + Text(words)
