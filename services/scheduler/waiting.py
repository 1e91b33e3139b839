"""Why a task waits, by what would have to change first; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from libs.core.lifecycle import TaskState
from services.scheduler.model import Waiting, WaitReason

MOST_AHEAD = 10_000
"""Beyond so many tasks a position is not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """What the queue and the executors look like to one waiting task.

    `ahead`: tasks before it, counted up to 10,001.
    """

    state: TaskState
    scheduled_at: datetime | None
    is_offered: bool
    has_slot: bool
    tenant_running: int
    tenant_limit: int | None
    agent_running: int
    agent_limit: int | None
    ahead: int


def why_waiting(view: QueueView) -> Waiting:
    """The first thing that keeps a task from running."""
    if view.state is TaskState.PLANNED and view.scheduled_at is not None:
        detail = f"it is due at {view.scheduled_at.isoformat(timespec='seconds')}"
        return Waiting(reason=WaitReason.SCHEDULED, detail=detail, position=None)
    reason, detail = _reason(view)
    position = view.ahead + 1 if view.ahead <= MOST_AHEAD else None
    return Waiting(reason=reason, detail=detail, position=position)


def _reason(view: QueueView) -> tuple[WaitReason, str]:
    if not view.is_offered:
        return WaitReason.NO_EXECUTOR, "no living executor offers all of its tools"
    # One that is taken over counts as running already.
    is_new = view.state is not TaskState.RUNNING
    if is_new and view.tenant_limit is not None and view.tenant_running >= view.tenant_limit:
        detail = f"{view.tenant_running} tasks of its tenant run; {view.tenant_limit} may"
        return WaitReason.TENANT_LIMIT, detail
    if is_new and view.agent_limit is not None and view.agent_running >= view.agent_limit:
        detail = f"{view.agent_running} tasks of its agent run; {view.agent_limit} may"
        return WaitReason.AGENT_LIMIT, detail
    if not view.has_slot:
        return WaitReason.NO_SLOT, "every executor that offers its tools is busy"
    return WaitReason.TURN, "an executor is about to take it"
