"""What counts as use, on which day, and how days add up."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import date, timedelta
from uuid import UUID

from libs.core.api_key import LIVE
from services.auth.model import Amounts, DayUsage, TaskFact, Use
from services.auth.times import day_of

STEP_FINISHED = "step_finished"
TRANSITION = "status_transition"
FIRST_SEQ = 1
_USED = frozenset({"tokens", "sandbox_ms", "cost_usd"})


def may_count(*, kind: str, seq: int, members: AbstractSet[str]) -> bool:
    """Whether an event of this kind and place, whose data has these members, can count at all; most
    cannot, and need no look.
    """
    if seq == FIRST_SEQ or kind == STEP_FINISHED:
        return True
    return kind == TRANSITION and not _USED.isdisjoint(members)


def use_of(fact: TaskFact) -> Use | None:
    """What the event adds, or None.

    A task is accepted with its first event; a step that failed is finished too. A step that was
    killed never finishes: what it used, the end of its task says.
    """
    amounts = Amounts(tasks=int(fact.seq == FIRST_SEQ), steps=int(fact.kind == STEP_FINISHED))
    if fact.kind in {STEP_FINISHED, TRANSITION}:
        amounts += fact.used
    if fact.mode != LIVE or amounts == Amounts():
        return None
    return Use(tenant_id=fact.tenant_id, day=day_of(fact.at), amounts=amounts)


def added_up(uses: Iterable[Use | None]) -> list[Use]:
    """One sum per tenant and day."""
    sums: dict[tuple[UUID, date], Amounts] = {}
    for use in uses:
        if use is not None:
            before = sums.get((use.tenant_id, use.day), Amounts())
            sums[use.tenant_id, use.day] = before + use.amounts
    return [
        Use(tenant_id=tenant_id, day=day, amounts=amounts)
        for (tenant_id, day), amounts in sums.items()
    ]


def every_day(known: Iterable[DayUsage], *, first: date, last: date) -> list[DayUsage]:
    """Each day from `first` to `last` in order, with nothing used where nothing is known."""
    by_day = {usage.day: usage for usage in known}
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return [by_day.get(day) or DayUsage(day=day) for day in days]


def last_day_of(first: date, *, today: date) -> date:
    """The last day where none is asked for: today, at most a year of days."""
    return min(today, first + min(timedelta(days=365), date.max - first))
