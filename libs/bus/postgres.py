"""The postgres driver: topics are rows of the schema `bus`, positions rows of the consumers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack

from prometheus_client import Counter

from libs.bus.bus import Backlog, Batch, BusRecord, DeadLetter, Moved
from libs.bus.letters import letter_headers
from libs.bus.outbox import drop_in_parts, read_backlog
from libs.bus.statements import statements
from libs.bus.topics import DEAD_LETTERS, TASK_EVENTS, TOPICS
from libs.db.engine import Connection, Pool
from libs.db.wakeups import Wakeup, Wakeups
from libs.process.crash_points import pass_crash_point
from libs.process.logs import get_logger

CHANNEL = "pawl_bus"
"""Notified with the topic as payload after every append."""

LOCK_CLASS = 0x62757300
MOVE_MOST_ROWS = 2_000
FETCH_MOST_RECORDS = 500

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
            pass_crash_point("outbox.after_send_before_mark")
            await connection.execute(
                self._sql["notify_topic"], {"channel": CHANNEL, "topic": TASK_EVENTS}
            )
        return Moved(
            events=row["events"],
            oldest_age_seconds=row["oldest_age_seconds"],
            is_more=row["rows"] == self._most_rows,
        )

    async def backlog(self) -> Backlog:
        """What is not yet published."""
        async with self._pool.connection() as connection:
            return await read_backlog(connection, self._sql)

    async def drop_expired(self) -> int:
        """Drop the records that are older than their topic keeps; how many."""
        dropped = await drop_in_parts(
            self._pool, self._sql["drop_feed"], kept_seconds=TOPICS[TASK_EVENTS].kept_seconds
        )
        for topic in TOPICS.values():
            dropped += await drop_in_parts(
                self._pool,
                self._sql["drop_expired"],
                kept_seconds=topic.kept_seconds,
                topic=topic.name,
            )
        return dropped

    async def close(self) -> None:
        """Nothing: the turn ends with each statement."""


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

    async def letters(self, *, group: str, schema: str) -> AsyncIterator[tuple[BusRecord, ...]]:
        """The dead letters that `group` has not seen, page by page."""
        letters = await self.subscribe(topic=DEAD_LETTERS, group=group, schema=schema)
        try:
            while (batch := await letters.fetch(wait_seconds=0)) is not None:
                yield batch.records
                async with self._pool.connection() as connection:
                    await letters.commit_in(connection, batch)
        finally:
            await letters.close()

    async def check(self) -> None:
        """Nothing: the bus is where the data is."""

    async def run(self, stop: asyncio.Event) -> None:
        """Hear notifications until `stop` is set."""
        await self._wakeups.run(stop)

    async def close(self) -> None:
        """Nothing: the pool and the notifications are somebody else's."""

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
        self._end = self._handled = 0
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
        """Count down what is behind: the position itself was part of the transaction."""
        self._handled = batch.last_position

    def behind(self) -> int:
        """Records after the last that was handled, as of the last look."""
        return max(0, self._end - self._handled)

    async def dead_letter_in(self, tx: Connection, letter: DeadLetter) -> None:
        """Append the record, with the reason in its headers, to pawl.dead-letters.v1 in `tx`."""
        record = letter.record
        headers = json.dumps(letter_headers(letter))
        parameters = {"key": record.key, "headers": headers, "value": record.value}
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
        after_position = self._handled = int(rows[0]["after_position"])
        self._end = rows[0]["last_position"]
        if rows[0]["position"] is None:
            return None
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
