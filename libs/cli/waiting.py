"""What a task waits for, in words."""

from __future__ import annotations

from rich.console import Console

from libs.cli.output import plain, time_text
from libs.client.tasks import Queue, Task


def print_waiting(task: Task, out: Console) -> None:
    """When a task is due, or what it waits for; nothing when it is about to run."""
    if task.status == "planned" and task.scheduled_at is not None:
        out.print(plain(f"  due at {time_text(task.scheduled_at)}"))
    elif task.queue is not None and task.queue.reason != "turn":
        out.print(plain(f"  waits: {queue_text(task.queue)}", limit=500))


def queue_text(queue: Queue) -> str:
    """The reason, and where in the queue the task stands."""
    place = f"; number {queue.position} in the queue" if queue.position else ""
    return f"{queue.detail} ({queue.reason}){place}"
