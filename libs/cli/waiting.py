"""What a task waits for, in words."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from libs.cli.output import plain


def print_waiting(task: dict[str, Any], out: Console) -> None:
    """When a task is due, or what it waits for; nothing when it is about to run."""
    queue = task.get("queue")
    if task["status"] == "planned" and task.get("scheduled_at"):
        out.print(plain(f"  due at {task['scheduled_at']}"))
    elif queue and queue["reason"] != "turn":
        out.print(plain(f"  waits: {queue_text(queue)}", limit=500))


def queue_text(queue: dict[str, Any]) -> str:
    """The reason, and where in the queue the task stands."""
    place = f"; number {queue['position']} in the queue" if queue.get("position") else ""
    return f"{queue['detail']} ({queue['reason']}){place}"
