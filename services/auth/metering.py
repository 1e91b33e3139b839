"""Use cases about usage: add what an event says, and read months and days."""

from __future__ import annotations

from collections.abc import Iterable

from libs.core.clock import Clock
from libs.db.engine import Connection
from libs.rpc.context import Caller, require_scope
from services.auth import names, store
from services.auth.model import Amounts, DayUsage, MonthUsage, TaskFact
from services.auth.refusals import bad_key
from services.auth.scopes import TASKS_READ
from services.auth.store import AuthStore
from services.auth.times import day_of, days_of, month_of, parse_day
from services.auth.usage import added_up, every_day, last_day_of, use_of


class Metering:
    """What tenants use."""

    def __init__(self, auth_store: AuthStore, *, clock: Clock) -> None:
        self._store = auth_store
        self._clock = clock

    async def month(self, caller: Caller, *, month: str) -> MonthUsage:
        """What the caller's tenant used in `month` (YYYY-MM, UTC; empty: the current one).

        PawlError: `insufficient_scope` without tasks:read, `validation_failed`, `unauthenticated`
        when the caller's user is there no longer.
        """
        require_scope(caller, TASKS_READ)
        names.check(names.month_errors(month))
        asked = month or month_of(self._clock.now())
        account = await self._store.read_account(caller.key_id, tenant_id=caller.tenant_id)
        days = days_of(asked)
        if account is None or days is None:
            raise bad_key()
        used = await self._store.list_usage(tenant_id=caller.tenant_id, first=days[0], last=days[1])
        return MonthUsage(
            month=asked,
            requests=sum(day.requests for day in used),
            amounts=sum((day.amounts for day in used), Amounts()),
            account=account,
        )

    async def days(self, caller: Caller, *, first_day: str, last_day: str) -> list[DayUsage]:
        """What the caller's tenant used on each day (YYYY-MM-DD, UTC) from the first to the last.

        Empty: from the first of the current month, and to today or a year after the first day.
        PawlError: `insufficient_scope` without tasks:read, `validation_failed`.
        """
        require_scope(caller, TASKS_READ)
        names.check(
            names.day_errors("first_day", first_day), names.day_errors("last_day", last_day)
        )
        today = day_of(self._clock.now())
        first = parse_day(first_day) or today.replace(day=1)
        last = parse_day(last_day) or last_day_of(first, today=today)
        names.check(names.days_errors(first, last))
        used = await self._store.list_usage(tenant_id=caller.tenant_id, first=first, last=last)
        return every_day(used, first=first, last=last)


async def record(tx: Connection, facts: Iterable[TaskFact]) -> None:
    """Add what events say, in `tx`. Whoever calls makes sure that no event comes twice."""
    uses = added_up(use_of(fact) for fact in facts)
    if uses:
        await store.add_uses(tx, uses)
