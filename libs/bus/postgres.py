"""The postgres driver: topics are rows of the schema `bus`, positions rows of the consumers."""

from __future__ import annotations

import json
from contextlib import ExitStack

from prometheus_client import Counter

from libs.bus.bus import Batch, BusRecord, DeadLetter, Moved
from libs.bus.statements import statements
from libs.bus.topics import KEPT_SECONDS, TASK_EVENTS
from libs.db.engine import Connection, Pool
from libs.db.wakeups import Wakeup, Wakeups
from libs.process.logs import get_logger

CHANNEL = "pawl_bus"
"""Notified with the topic as payload after every append."""

LOCK_CLASS = 0x62757300
MOVE_MOST_ROWS = 2_000
FETCH_MOST_RECORDS = 500
DROP_MOST_RECORDS = 5_000

log = get_logger(__name__)
_gaps = Counter(
    "pawl_bus_skipped_records_total", "Dropped before the group read them", ["topic", "group"]
)


class PostgresPublisher:
    """Publishes the outbox of `schema` (outbox, task_events, tasks) to pawl.task.events.v1."""

    def __init__(
        self, pool: Pool, *, schema: str = "scheduler", most_rows: int = MOVE_MOST_ROWS
    ) -> None:
        self._pool = pool
        self._sql = statements(schema)
        self._most_rows = most_rows

    async def move(self) -> Moved:
        """Publish what is committed in the outbox, delete it there, then notify.

        One statement. At most `most_rows` rows of the outbox at a time, so that a long backlog
        cannot outlast the statement timeout.
        """
        parameters = {"lock_class": LOCK_CLASS, "topic": TASK_EVENTS, "most": self._most_rows}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._sql["relay_task_events"], parameters)
            row = await cursor.fetchone()
            if row is None or not row["rows"]:
                return Moved(events=0, oldest_age_seconds=0.0, is_more=False)
            await connection.execute(
                self._sql["notify_topic"], {"channel": CHANNEL, "topic": TASK_EVENTS}
            )
        return Moved(
            events=row["events"],
            oldest_age_seconds=row["oldest_age_seconds"],
            is_more=row["rows"] == self._most_rows,
        )

    async def drop_expired(self) -> int:
        """Drop the records that are older than their topic keeps; how many."""
        dropped = 0
        for topic, kept_seconds in KEPT_SECONDS.items():
            parameters = {"topic": topic, "kept_seconds": kept_seconds, "most": DROP_MOST_RECORDS}
            while True:
                async with self._pool.connection() as connection:
                    cursor = await connection.execute(self._sql["drop_expired"], parameters)
                dropped += cursor.rowcount
                if cursor.rowcount < DROP_MOST_RECORDS:
                    break
        return dropped


class PostgresBus:
    """Topics of this database. `wakeups` must listen on CHANNEL, and someone must run it."""

    def __init__(self, pool: Pool, *, wakeups: Wakeups) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._sql = statements("bus")

    async def read(self, topic: str, after_position: int, limit: int) -> list[BusRecord]:
        """At most `limit` records of `topic` after `after_position`, in order.

        Records dropped after their time are missing: then the first position is more than one
        further.
        """
        parameters = {"topic": topic, "after_position": after_position, "most": limit}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._sql["read_records"], parameters)
            rows = await cursor.fetchall()
        return [BusRecord(**row) for row in rows]

    async def last_position(self, topic: str) -> int:
        """The position of the newest record of `topic`, 0 before the first; KeyError: no topic."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._sql["last_position"], {"topic": topic})
            row = await cursor.fetchone()
        if row is None:
            raise KeyError(f"the bus has no topic {topic!r}")
        return int(row["last_position"])

    async def subscribe(self, *, topic: str, group: str, schema: str) -> PostgresSubscription:
        """Join `group` on `topic`; a new group begins with the oldest record that is kept."""
        sql = statements(schema)
        async with self._pool.connection() as connection:
            await connection.execute(sql["join_group"], {"topic": topic, "group_name": group})
        return PostgresSubscription(
            self._pool, wakeups=self._wakeups, topic=topic, group=group, schema=schema
        )


class PostgresSubscription:
    """One group's reading of one topic; its position moves in the transaction of the effect."""

    def __init__(
        self, pool: Pool, *, wakeups: Wakeups, topic: str, group: str, schema: str
    ) -> None:
        self._pool = pool
        self._sql = statements(schema)
        self._names = {"topic": topic, "group_name": group}
        self._open = ExitStack()
        self._wakeup: Wakeup = self._open.enter_context(wakeups.wakeup(CHANNEL, payload=topic))

    async def fetch(self, *, wait_seconds: float) -> Batch | None:
        """The next records after the group's position; None when there were none to see.

        One query. When it finds nothing, returns after a notification or `wait_seconds`, without
        asking again: the next call does.
        """
        self._wakeup.clear()
        batch = await self._fetch()
        if batch is None:
            await self._wakeup.wait(wait_seconds)
        return batch

    def wake(self) -> None:
        """End the present or the next wait of `fetch`."""
        self._wakeup.set()

    async def commit_in(self, tx: Connection, batch: Batch) -> bool:
        """Move the group's position in `tx`; its row lock keeps other members out until the end."""
        positions = {
            "after_position": batch.after_position,
            "last_position": batch.last_position,
        }
        cursor = await tx.execute(self._sql["advance_group"], self._names | positions)
        return cursor.rowcount == 1

    async def committed(self, batch: Batch) -> None:
        """Nothing: the position was part of the transaction."""

    async def dead_letter_in(self, tx: Connection, letter: DeadLetter) -> None:
        """Append the record, with the reason in its headers, to pawl.dead-letters.v1 in `tx`."""
        record = letter.record
        parameters = {"key": record.key, "headers": letter_headers(letter), "value": record.value}
        await tx.execute(self._sql["dead_letter"], parameters)

    async def close(self) -> None:
        """Hear no more notifications."""
        self._open.close()

    async def _fetch(self) -> Batch | None:
        parameters = self._names | {"most": FETCH_MOST_RECORDS}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._sql["fetch_records"], parameters)
            rows = await cursor.fetchall()
        if not rows:
            raise RuntimeError(f"the position of group {self._names['group_name']} is gone")
        if rows[0]["position"] is None:
            return None
        after_position = int(rows[0]["after_position"])
        topic = self._names["topic"]
        records = tuple(
            BusRecord(
                topic=topic,
                position=row["position"],
                key=row["key"],
                headers=row["headers"],
                value=row["value"],
            )
            for row in rows
        )
        self._note_gap(records[0].position - after_position - 1)
        return Batch(
            topic=topic,
            after_position=after_position,
            records=records,
            is_more=len(records) == FETCH_MOST_RECORDS,
        )

    def _note_gap(self, records: int) -> None:
        # Positions have no gaps, so what is missing was dropped unread after its time.
        if records > 0:
            topic, group = self._names["topic"], self._names["group_name"]
            log.error("records were dropped unread", topic=topic, group=group, records=records)
            _gaps.labels(topic, group).inc(records)


def letter_headers(letter: DeadLetter) -> str:
    """The record's headers with where it stood and why it was put aside, as JSON text."""
    try:
        given = json.loads(letter.record.headers)
    except (ValueError, RecursionError):
        given = None
    headers = given if isinstance(given, dict) else {"pawl_headers": letter.record.headers}
    return json.dumps(
        headers
        | {
            "pawl_reason": letter.reason,
            "pawl_group": letter.group,
            "pawl_attempts": str(letter.attempts),
            "pawl_topic": letter.record.topic,
            "pawl_partition": str(letter.record.partition),
            "pawl_position": str(letter.record.position),
        }
    )
