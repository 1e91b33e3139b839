"""Use case: publish events anew from the event table, of a task or of what was put aside."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from libs.bus.bus import Bus
from libs.bus.letters import event_of
from libs.rpc.context import OPERATOR, Caller, require_scope
from services.scheduler.convert import no_such_task
from services.scheduler.store import TaskStore
from services.scheduler.wakeups import Signals

GROUP = "scheduler-republish"
SCHEMA = "scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Republished:
    """How many events go out once more; of how many letters, and how many of those are unknown."""

    events: int
    letters: int = 0
    unknown_letters: int = 0


class Republishing:
    """Puts events into the outbox once more: with the numbers that they have, in their order."""

    def __init__(self, store: TaskStore, *, bus: Bus, signals: Signals) -> None:
        self._store = store
        self._bus = bus
        self._signals = signals

    async def task(self, caller: Caller, task_id: UUID) -> Republished:
        """Every event of a task, whichever tenant owns it.

        PawlError: insufficient_scope, not_found.
        """
        require_scope(caller, OPERATOR)
        events = await self._store.republish_task(task_id)
        if events is None:
            raise no_such_task()
        self._signals.committed()
        return Republished(events=events)

    async def dead_letters(self, caller: Caller) -> Republished:
        """The events of the dead letters that came since this was asked for last.

        PawlError: insufficient_scope, unavailable. Cut short, it begins again with the page of
        letters at which it was.
        """
        require_scope(caller, OPERATOR)
        events = letters = unknown = 0
        async for page in self._bus.letters(group=GROUP, schema=SCHEMA):
            named = [event_of(letter) for letter in page]
            known = sorted({one for one in named if one is not None})
            found = await self._store.republish_events(known)
            events += found
            letters += len(page)
            unknown += named.count(None) + len(known) - found
            self._signals.committed()
        return Republished(events=events, letters=letters, unknown_letters=unknown)
