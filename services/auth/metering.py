"""Use cases about usage: add what an event says, and read a month."""

from __future__ import annotations

from collections.abc import Iterable

from libs.core.clock import Clock
from libs.db.engine import Connection
from libs.rpc.context import Caller
from services.auth import names, store
from services.auth.model import TaskFact, Usage
from services.auth.store import AuthStore
from services.auth.usage import added_up, month_of, use_of


class Metering:
    """What tenants use."""

    def __init__(self, auth_store: AuthStore, *, clock: Clock) -> None:
        self._store = auth_store
        self._clock = clock

    async def usage(self, caller: Caller, *, month: str) -> Usage:
        """What the caller's tenant used in `month` (YYYY-MM, UTC; empty: the current one).

        PawlError: `validation_failed`.
        """
        names.check(names.month_errors(month))
        asked = month or month_of(self._clock.now())
        used = await self._store.read_usage(tenant_id=caller.tenant_id, month=asked)
        return used or Usage(month=asked, tasks=0, steps=0)


async def record(tx: Connection, facts: Iterable[TaskFact]) -> None:
    """Add what events say, in `tx`. Whoever calls makes sure that no event comes twice."""
    uses = added_up(use_of(fact) for fact in facts)
    if uses:
        await store.add_uses(tx, uses)
