"""The one interface of both bus drivers: publishing an outbox, reading a topic as a group.

Consuming is at least once underneath and exactly once in effect: a consumer dedupes and acts in one
transaction of its own database, and the driver says how far it has come either inside that
transaction (`commit_in`; postgres) or after it (`committed`; kafka).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from libs.db.engine import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class BusRecord:
    """A record as it stands in a topic. `headers` is the JSON text of an object of texts.

    Positions grow within a partition. The postgres driver has one partition, 0, whose positions
    have no gap.
    """

    topic: str
    position: int
    key: str
    headers: str
    value: str
    partition: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """At least one record; those of a partition are in order.

    `is_more` says that a bound cut it off. `after_position` is where the group stood; a driver with
    one partition needs it.
    """

    topic: str
    records: tuple[BusRecord, ...]
    is_more: bool = False
    after_position: int = 0

    @property
    def last_position(self) -> int:
        """The position of the last record."""
        return self.records[-1].position


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that a group could not handle, the reason, and how often handling was tried."""

    record: BusRecord
    group: str
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What one run of a publisher published. `is_more` says that its bound stopped it."""

    events: int
    oldest_age_seconds: float
    is_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits in an outbox: rows, and the age of the oldest event, 0 when there is none."""

    rows: int
    oldest_age_seconds: float


class Publisher(Protocol):
    """Publishes the outbox of one schema. Only a Relay calls it."""

    async def move(self) -> Moved:
        """Publish what is committed in the outbox, in order (task id, seq), and delete it there.

        Nothing is deleted that was not published. Several at once, in any number of processes,
        never change the order of a task's events. PawlError `unavailable` when the bus is away.
        """
        ...

    async def backlog(self) -> Backlog:
        """What is not yet published."""
        ...

    async def drop_expired(self) -> int:
        """Drop what is kept in the database beyond the time of its topic; how many rows."""
        ...

    async def close(self) -> None:
        """Leave the turn to others."""
        ...


class Subscription(Protocol):
    """One group's reading of one topic. Only a Consumer calls it."""

    async def fetch(self, *, wait_seconds: float) -> Batch | None:
        """The next records after what was committed; None when none came within the time.

        A batch that was not noted as `committed` comes again, unless another member has it now.
        """
        ...

    def wake(self) -> None:
        """End the present or the next wait of `fetch`."""
        ...

    async def commit_in(self, tx: Connection, batch: Batch) -> bool:
        """Note in the consumer's transaction that the batch is done; the first thing done in it.

        False when another member of the group has done it: then nothing may be done.
        """
        ...

    async def committed(self, batch: Batch) -> None:
        """Note that the transaction of the batch is committed."""
        ...

    def behind(self) -> int:
        """How many records are known to be there that are not handled yet."""
        ...

    async def dead_letter_in(self, tx: Connection, letter: DeadLetter) -> None:
        """Put a record aside, at the latest when `tx` commits."""
        ...

    async def close(self) -> None:
        """Leave the group."""
        ...


class Bus(Protocol):
    """A driver: where consumers read. Raises PawlError `unavailable` when it is away."""

    async def subscribe(self, *, topic: str, group: str, schema: str) -> Subscription:
        """Join `group` on `topic`; `schema` is the consumer's own, with its `consumer_tables`.

        A group that is new begins with the oldest record that is kept.
        """
        ...

    def letters(self, *, group: str, schema: str) -> AsyncIterator[tuple[BusRecord, ...]]:
        """The dead letters that `group` has not seen, page by page.

        A page counts as seen when the next one is asked for.
        """
        ...

    async def check(self) -> None:
        """PawlError `unavailable` when the bus cannot be reached."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """What the driver does in the background, until `stop` is set."""
        ...

    async def close(self) -> None:
        """Let go of all connections."""
        ...
