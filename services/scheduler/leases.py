"""What becomes of the tasks of a boot when its executor says hello."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from services.scheduler.model import Assigned, RunningTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Reunion:
    """`keep`: it runs them and may go on. `stop`: it runs them and must not. `again`: it holds them
    without knowing, between two steps. `lost`: the same with an open step, whose outcome nobody
    knows.
    """

    keep: tuple[Assigned, ...]
    stop: tuple[UUID, ...]
    again: tuple[Assigned, ...]
    lost: tuple[Assigned, ...]


def reunite(running: Iterable[RunningTask], held: Sequence[Assigned]) -> Reunion:
    """Compare what an executor says it runs with what the database says its boot holds."""
    tokens = {task.task_id: task.lease_token for task in held}
    named = {task.task_id: task.lease_token for task in running}
    agreed = {task_id for task_id, token in named.items() if tokens.get(task_id) == token}
    forgotten = [task for task in held if task.task_id not in agreed]
    return Reunion(
        keep=tuple(task for task in held if task.task_id in agreed),
        stop=tuple(task_id for task_id in named if task_id not in agreed),
        again=tuple(task for task in forgotten if not task.is_step_open),
        lost=tuple(task for task in forgotten if task.is_step_open),
    )
