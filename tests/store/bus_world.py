"""An outbox, a consumer's schema and pools on a test database, for the tests of the bus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from libs.bus.bus import BusRecord
from libs.bus.consumer import Consumer, Handler
from libs.bus.consumer_tables import aside_table, consumer_tables
from libs.bus.envelope import BusEvent, decode
from libs.bus.postgres import CHANNEL, PostgresBus, PostgresPublisher
from libs.bus.topics import DEAD_LETTERS, TASK_EVENTS
from libs.core.ids import new_id
from libs.db.engine import Connection, Pool, open_pool
from libs.db.wakeups import Wakeups
from tests.asyncapi import Published, check_all
from tests.servers import Database

WRITER = "bus_writer"
READER = "bus_reader"
TENANT = UUID("01936b2e-0000-7000-8000-00000000000a")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

_TABLES = f"""
CREATE SCHEMA {WRITER};
CREATE TABLE {WRITER}.tasks (
  id uuid PRIMARY KEY, tenant_id uuid NOT NULL, seq int NOT NULL, traceparent text);
CREATE TABLE {WRITER}.task_events (
  task_id uuid NOT NULL, seq int NOT NULL, type text NOT NULL, from_state text,
  to_state text NOT NULL, at timestamptz NOT NULL DEFAULT now(), data text NOT NULL,
  PRIMARY KEY (task_id, seq));
CREATE TABLE {WRITER}.outbox (task_id uuid NOT NULL, first_seq int NOT NULL, last_seq int NOT NULL);
GRANT USAGE ON SCHEMA {WRITER} TO pawl_scheduler;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {WRITER} TO pawl_scheduler;

CREATE SCHEMA {READER};
CREATE TABLE {READER}.effects (task_id uuid NOT NULL, seq int NOT NULL);
GRANT USAGE ON SCHEMA {READER} TO pawl_auth;
GRANT SELECT, INSERT ON {READER}.effects TO pawl_auth;
"""

# As every writer of the scheduler: numbers under the lock of the task's row.
_WRITE = f"""
WITH t AS (
  INSERT INTO {WRITER}.tasks AS t (id, tenant_id, seq, traceparent)
  VALUES (%(task)s, %(tenant)s, %(events)s, %(traceparent)s)
  ON CONFLICT (id) DO UPDATE SET seq = t.seq + %(events)s
  RETURNING id, seq
), e AS (
  INSERT INTO {WRITER}.task_events (task_id, seq, type, from_state, to_state, data)
  SELECT t.id, s, CASE s WHEN 1 THEN 'status_transition' ELSE 'progress' END,
    CASE WHEN s > 1 THEN 'created' END, 'created', json_strip_nulls(json_build_object(
      'task_id', t.id, 'tenant_id', %(tenant)s::text, 'seq', s,
      'from_state', CASE WHEN s > 1 THEN 'created' END, 'to_state', 'created',
      'at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
      'mode', 'live'))::text
  FROM t, generate_series(t.seq - %(events)s + 1, t.seq) s
)
INSERT INTO {WRITER}.outbox SELECT id, seq - %(events)s + 1, seq FROM t
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The bus of one database. Pools run as the roles of a writer and of a reader."""

    owner_dsn: str
    writer: Pool
    reader: Pool
    wakeups: Wakeups
    bus: PostgresBus
    publisher: PostgresPublisher
    raw_positions: set[int] = field(default_factory=set)

    async def write(self, task: UUID, *, events: int = 1) -> None:
        """Commit that many events of a task."""
        async with self.writer.connection() as connection:
            await write_in(connection, task, events=events)

    async def write_tasks(self, count: int, *, events: int = 3) -> list[UUID]:
        """New tasks with that many events each."""
        tasks = [new_id() for _ in range(count)]
        for task in tasks:
            await self.write(task, events=events)
        return tasks

    async def records(self, topic: str = TASK_EVENTS) -> list[BusRecord]:
        """All that stands in a topic, as docs/asyncapi.yaml says where it was not put there raw."""
        records = await self.bus.read(topic, 0, 1_000_000)
        raw = self.raw_positions if topic == TASK_EVENTS else set()
        check_all(Published.of(one) for one in records if one.position not in raw)
        return records

    async def history(self) -> dict[UUID, list[int]]:
        """The sequences of each task in the order of the topic, whose positions are 1, 2, 3 …"""
        records = await self.records()
        assert [r.position for r in records] == list(range(1, len(records) + 1))
        history: dict[UUID, list[int]] = {}
        for event in map(decode, records):
            history.setdefault(event.key, []).append(event.sequence)
        return history

    async def written(self) -> dict[UUID, list[int]]:
        """What `history` must be when everything is published: 1, 2, 3 … of each task."""
        rows = await self.ask(f"SELECT id, seq FROM {WRITER}.tasks")
        return {row[0]: list(range(1, row[1] + 1)) for row in rows}

    async def publish_all(self) -> None:
        """Run the publisher until the outbox is empty."""
        while (await self.publisher.move()).events:
            pass

    async def effects(self) -> list[tuple[UUID, int]]:
        """What handlers did, in order of task and sequence."""
        rows = await self.ask(f"SELECT task_id, seq FROM {READER}.effects ORDER BY 1, 2")
        return [(row[0], row[1]) for row in rows]

    async def effects_are_whole(self) -> bool:
        """Whether every written event has had its effect exactly once."""
        written = await self.written()
        return await self.effects() == sorted((t, s) for t, seqs in written.items() for s in seqs)

    async def letters(self) -> list[dict[str, str]]:
        """The headers of the dead letters."""
        return [json.loads(record.headers) for record in await self.records(DEAD_LETTERS)]

    async def put_raw(self, *, key: str, headers: str, value: str) -> None:
        """A record that no relay made."""
        rows = await self.ask(
            """
            WITH t AS (UPDATE bus.topics SET last_position = last_position + 1
                       WHERE topic = %s RETURNING topic, last_position)
            INSERT INTO bus.records (topic, position, key, headers, value)
            SELECT topic, last_position, %s, %s, %s FROM t RETURNING position
            """,
            (TASK_EVENTS, key, headers, value),
        )
        self.raw_positions.update(row[0] for row in rows)

    async def ask(self, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a statement run as the owner."""
        async with await psycopg.AsyncConnection.connect(self.owner_dsn, autocommit=True) as owner:
            cursor = await owner.execute(sql.encode(), parameters)
            return await cursor.fetchall() if cursor.description else []

    def consumer(self, handler: Handler, *, group: str = "test") -> Consumer:
        """A consumer that looks often enough for a test."""
        return Consumer(
            self.bus,
            pool=self.reader,
            schema=READER,
            topic=TASK_EVENTS,
            group=group,
            handler=handler,
            rest_seconds=0.001,
        )

    @asynccontextmanager
    async def running(self, *consumers: Consumer) -> AsyncIterator[None]:
        """The consumers run during the block and stop cleanly at its end."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for consumer in consumers:
                group.create_task(consumer.run(stop))
            try:
                yield
            finally:
                stop.set()


async def write_in(connection: Connection, task: UUID, *, events: int = 1) -> None:
    """Write events of a task on a connection."""
    parameters = {
        "task": task,
        "tenant": str(TENANT),
        "events": events,
        "traceparent": TRACEPARENT,
    }
    await connection.execute(_WRITE, parameters)


async def note(tx: Connection, event: BusEvent) -> None:
    """A handler whose effect shows when it happens twice."""
    await tx.execute(
        f"INSERT INTO {READER}.effects VALUES (%s, %s)".encode(), (event.key, event.sequence)
    )


@asynccontextmanager
async def bus_world(database: Database) -> AsyncIterator[World]:
    """The tables, pools and notifications of a test, closed at its end."""
    async with await psycopg.AsyncConnection.connect(database.owner_dsn) as owner:
        await owner.execute(_TABLES.encode())
        await owner.execute(consumer_tables(READER, "pawl_auth").encode())
        await owner.execute(aside_table(READER, "pawl_auth").encode())
    async with AsyncExitStack() as stack:
        writer = await open_pool(
            database.dsn("scheduler"), name="test-writer", max_size=12, hot=True
        )
        stack.push_async_callback(writer.close)
        reader = await open_pool(database.dsn("auth"), name="test-reader", hot=True)
        stack.push_async_callback(reader.close)
        wakeups = Wakeups(database.dsn("auth"), name="test-wakeups", channels=[CHANNEL])
        stop = asyncio.Event()
        listening = asyncio.create_task(wakeups.run(stop))
        try:
            yield World(
                owner_dsn=database.owner_dsn,
                writer=writer,
                reader=reader,
                wakeups=wakeups,
                bus=PostgresBus(reader, wakeups=wakeups),
                publisher=PostgresPublisher(writer, schema=WRITER),
            )
        finally:
            stop.set()
            await listening
