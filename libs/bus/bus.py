"""The one interface of both bus drivers: publishing an outbox, reading a topic as a group.

Consuming is at least once underneath and exactly once in effect: a consumer dedupes and acts in one
transaction of its own database, and the driver says how far it has come either inside that
transaction (`commit_in`; postgres) or after it (`committed`; kafka).
"""

from __future__ import annotations

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
    """At least one record of one partition, in order; `after_position` is where the group stood.

    `is_more` says that a bound cut it off.
    """

    topic: str
    after_position: int
    records: tuple[BusRecord, ...]
    is_more: bool = False
    partition: int = 0

    @property
    def last_position(self) -> int:
        """Where the group stands when the batch is done."""
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


class Publisher(Protocol):
    """Publishes the outbox of one schema. Only a Relay calls it."""

    async def move(self) -> Moved:
        """Publish what is committed in the outbox, in order (task id, seq), and delete it there.

        Nothing is deleted that was not published. Several at once, in any number of processes,
        never change the order of a task's events.
        """
        ...

    async def drop_expired(self) -> int:
        """Drop the records that are older than their topic keeps; how many."""
        ...


class Subscription(Protocol):
    """One group's reading of one topic. Only a Consumer calls it."""

    async def fetch(self, *, wait_seconds: float) -> Batch | None:
        """The next records after what was committed; None when none came within the time."""
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

    async def dead_letter_in(self, tx: Connection, letter: DeadLetter) -> None:
        """Put a record aside, at the latest when `tx` commits."""
        ...

    async def close(self) -> None:
        """Leave the group."""
        ...


class Bus(Protocol):
    """A driver: where consumers read."""

    async def subscribe(self, *, topic: str, group: str, schema: str) -> Subscription:
        """Join `group` on `topic`; `schema` is the consumer's own, with its `consumer_tables`.

        A group that is new begins with the oldest record that is kept.
        """
        ...
