"""What counts as use: accepted tasks and finished steps of live keys, by the month of the event."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from services.auth.model import TaskFact, Use

STEP_FINISHED = "step_finished"
FIRST_SEQ = 1
LIVE = "live"


def may_count(*, kind: str, seq: int) -> bool:
    """Whether an event of this kind and place can count at all; most cannot, and need no look."""
    return seq == FIRST_SEQ or kind == STEP_FINISHED


def use_of(fact: TaskFact) -> Use | None:
    """What the event adds, or None.

    A task is accepted with its first event; a step that failed is finished too.
    """
    tasks = int(fact.seq == FIRST_SEQ)
    steps = int(fact.kind == STEP_FINISHED)
    if fact.mode != LIVE or not may_count(kind=fact.kind, seq=fact.seq):
        return None
    return Use(tenant_id=fact.tenant_id, month=month_of(fact.at), tasks=tasks, steps=steps)


def added_up(uses: Iterable[Use | None]) -> list[Use]:
    """One sum per tenant and month."""
    sums: dict[tuple[UUID, str], tuple[int, int]] = {}
    for use in uses:
        if use is not None:
            tasks, steps = sums.get((use.tenant_id, use.month), (0, 0))
            sums[use.tenant_id, use.month] = (tasks + use.tasks, steps + use.steps)
    return [
        Use(tenant_id=tenant_id, month=month, tasks=tasks, steps=steps)
        for (tenant_id, month), (tasks, steps) in sums.items()
    ]


def month_of(at: datetime) -> str:
    """The calendar month of an instant, in UTC, as YYYY-MM."""
    return at.astimezone(UTC).isoformat()[:7]
