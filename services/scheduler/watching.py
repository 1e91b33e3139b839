"""Use case: follow events, of one task from the event table, of a tenant from the bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from libs.core.clock import Clock
from libs.rpc.context import Caller, require_scope
from services.scheduler.event_reads import Asked, EventReads
from services.scheduler.event_tail import EventTail
from services.scheduler.model import StoredEvent
from services.scheduler.reach import is_bound, may_see, seen
from services.scheduler.service import READ
from services.scheduler.store import TaskStore
from services.scheduler.wakeups import Signals

EVENTS_PER_ANSWER = 200
MOST_REMEMBERED = 10_000
LOOK_SECONDS = 15.0
"""How often a follower looks without being told to: a hint may be lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Some events, or none and how far a tenant's stream has come."""

    events: list[StoredEvent]
    position: int | None = None


class WatchService:
    """Live events; every stream begins where the caller says, misses nothing from there, and ends
    with the caller's token.
    """

    def __init__(
        self, store: TaskStore, *, tail: EventTail, signals: Signals, clock: Clock
    ) -> None:
        self._store = store
        self._reads = EventReads(self._events_after)
        self._tail = tail
        self._signals = signals
        self._clock = clock

    async def task_events(
        self, caller: Caller, task_id: UUID, *, after_seq: int
    ) -> AsyncIterator[Watched]:
        """Events of one task after `after_seq`, then new ones, until the task has ended."""
        require_scope(caller, READ)
        after, end = after_seq, self._end_of(caller)
        with self._signals.changed.flag(task_id) as flag:
            task = seen(caller, await self._store.get(caller.tenant_id, task_id))
            is_over = task.state.is_terminal and after >= task.seq
            while not is_over and (left := end - self._clock.monotonic()) > 0:
                flag.clear()
                events = await self._reads.get((caller.tenant_id, task_id, after))
                if events:
                    yield Watched(events=events)
                    after = events[-1].seq
                    is_over = events[-1].to_state.is_terminal
                else:
                    self._signals.check_open()
                    await flag.wait(min(LOOK_SECONDS, left))

    async def _events_after(self, asked: Asked) -> list[StoredEvent]:
        tenant_id, task_id, after = asked
        return await self._store.events(tenant_id, task_id, after=after, limit=EVENTS_PER_ANSWER)

    async def tenant_events(
        self, caller: Caller, *, after_position: int | None
    ) -> AsyncIterator[Watched]:
        """Events of every task of the tenant that the caller's key may see, without end.

        After `after_position`, or only new ones. The first answer, which says that the stream
        stands, and the last have no events and say how far it has come.
        """
        require_scope(caller, READ)
        in_reach = _InReach(self._store, caller)
        end, position = self._end_of(caller), None
        answers = self._tail.follow(caller.tenant_id, after_position=after_position, until=end)
        async for fed in answers:
            if position is None:
                yield Watched(events=[], position=fed.position)
            position = fed.position
            events = await in_reach.of(fed.events)
            for first in range(0, len(events), EVENTS_PER_ANSWER):
                yield Watched(events=events[first : first + EVENTS_PER_ANSWER])
        yield Watched(events=[], position=position)

    def _end_of(self, caller: Caller) -> float:
        """When the caller's token ends, on the monotonic clock."""
        return self._clock.monotonic() + caller.seconds_left(self._clock.now())


class _InReach:
    """Picks the events of tasks that a bound key may see. A task's agent never changes, so each is
    looked at once.
    """

    def __init__(self, store: TaskStore, caller: Caller) -> None:
        self._store = store
        self._caller = caller
        self._is_seen: dict[UUID, bool] = {}

    async def of(self, events: list[StoredEvent]) -> list[StoredEvent]:
        if not is_bound(self._caller):
            return events
        if len(self._is_seen) > MOST_REMEMBERED:
            self._is_seen.clear()
        unknown = {event.task_id for event in events} - self._is_seen.keys()
        tenant_id = self._caller.tenant_id
        tasks = await asyncio.gather(*(self._store.get(tenant_id, one) for one in unknown))
        for task_id, task in zip(unknown, tasks, strict=True):
            self._is_seen[task_id] = task is not None and may_see(self._caller, task)
        return [event for event in events if self._is_seen[event.task_id]]
