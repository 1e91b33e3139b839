"""Events of all tasks in the order in which they were published, whatever carries them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from libs.bus.bus import BusRecord
from libs.bus.envelope import UnreadableEventError, decode
from libs.bus.postgres import PostgresBus
from libs.bus.topics import TASK_EVENTS
from libs.db.engine import Pool
from libs.process.logs import get_logger
from services.scheduler.model import StoredEvent
from services.scheduler.rows import stored_event
from services.scheduler.store import QUERIES
from services.scheduler.task_events import from_bus

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FedEvent:
    """An event with its place in the feed; `event` is None when it cannot be understood."""

    position: int
    tenant_id: UUID | None
    event: StoredEvent | None


class Feed(Protocol):
    """Positions grow from 1 without a gap; what is old is dropped."""

    async def read(self, after_position: int, limit: int) -> list[FedEvent]:
        """Events after a position, in order; none: there are no more. About `limit` at a time."""
        ...

    async def last_position(self) -> int:
        """The newest event's position, 0 before the first."""
        ...


class RecordFeed:
    """The feed of the postgres driver: the records themselves."""

    def __init__(self, bus: PostgresBus) -> None:
        self._bus = bus

    async def read(self, after_position: int, limit: int) -> list[FedEvent]:
        """Events after a position, in order."""
        return [_fed(r) for r in await self._bus.read(TASK_EVENTS, after_position, limit)]

    async def last_position(self) -> int:
        """The newest event's position."""
        return await self._bus.last_position(TASK_EVENTS)


class TableFeed:
    """The feed of the kafka driver: the event table, in the order that its publisher noted."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self, after_position: int, limit: int) -> list[FedEvent]:
        """Events after a position, in order; of at most `limit` runs."""
        parameters = {"after": after_position, "limit": limit}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(QUERIES["feed_events"], parameters)
            rows = await cursor.fetchall()
        return [
            FedEvent(
                position=row["position"],
                tenant_id=row["tenant_id"],
                event=replace(stored_event(row), position=row["position"]),
            )
            for row in rows
        ]

    async def last_position(self) -> int:
        """The newest event's position."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(QUERIES["feed_end"], {"topic": TASK_EVENTS})
            row = await cursor.fetchone()
        if row is None:
            raise LookupError(f"bus.topics has no row of {TASK_EVENTS}")
        return int(row["last_position"])


def _fed(record: BusRecord) -> FedEvent:
    try:
        event = decode(record)
        stored = from_bus(event, data=record.value)
    except UnreadableEventError:
        log.exception("event not understood", position=record.position)
        return FedEvent(position=record.position, tenant_id=None, event=None)
    return FedEvent(position=record.position, tenant_id=event.tenant_id, event=stored)
