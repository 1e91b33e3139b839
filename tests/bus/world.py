"""An outbox, a consumer's schema and a bus of either driver, for the tests of the bus."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.bus.bus import Bus, BusRecord, Publisher
from libs.bus.consumer import Consumer, Handler, Together
from libs.bus.consumer_tables import aside_table, consumer_tables
from libs.bus.envelope import BusEvent, decode
from libs.bus.kafka import KafkaBus
from libs.bus.kafka_client import KafkaClient
from libs.bus.kafka_publisher import KafkaPublisher
from libs.bus.kafka_topics import apply_topics
from libs.bus.postgres import CHANNEL, PostgresBus, PostgresPublisher
from libs.bus.settings import KAFKA, BusSettings
from libs.bus.topics import DEAD_LETTERS, TASK_EVENTS
from libs.core.ids import new_id
from libs.db.engine import Connection, Pool, open_pool
from libs.db.wakeups import Wakeups
from tests.asyncapi import Published, check_all
from tests.brokers import new_prefix, read_topic, topics_removed
from tests.servers import Database

WRITER = "bus_writer"
READER = "bus_reader"
TENANT = UUID("01936b2e-0000-7000-8000-00000000000a")
REQUEST_ID = 'a-"1"'
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

_TABLES = f"""
CREATE SCHEMA {WRITER};
CREATE TABLE {WRITER}.tasks (
  id uuid PRIMARY KEY, tenant_id uuid NOT NULL, seq int NOT NULL, traceparent text,
  request_id text);
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
  INSERT INTO {WRITER}.tasks AS t (id, tenant_id, seq, traceparent, request_id)
  VALUES (%(task)s, %(tenant)s, %(events)s, %(traceparent)s, %(request_id)s)
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


class World(ABC):
    """The bus of one test. Pools run as the roles of a writer and of a reader."""

    bus: Bus
    publisher: Publisher

    def __init__(self, database: Database, *, writer: Pool, reader: Pool) -> None:
        self.database = database
        self.owner_dsn = database.owner_dsn
        self.writer = writer
        self.reader = reader
        self._raw: set[tuple[int, int]] = set()

    @abstractmethod
    def new_publisher(self, *, most_rows: int = 2_000) -> Publisher:
        """A publisher as another process would have it; closed at the end of the test."""

    @abstractmethod
    async def all_records(self, topic: str) -> list[BusRecord]:
        """All that stands in a topic, partition by partition in order."""

    @abstractmethod
    async def is_read(self, group: str = "test") -> bool:
        """Whether the group has committed all that stands in the topic of task events."""

    @abstractmethod
    async def rewind(self, group: str = "test") -> None:
        """Let the group, which has no member now, begin at the first record again."""

    @abstractmethod
    async def _put(self, *, key: str, headers: dict[str, str], value: bytes) -> tuple[int, int]:
        """Write a record that no relay made; its partition and position."""

    async def put_raw(self, *, key: str, headers: dict[str, str], value: bytes) -> None:
        """A record that no relay made, and that need not be as documented."""
        self._raw.add(await self._put(key=key, headers=headers, value=value))

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

    async def republish(self, task: UUID, *, first: int, last: int) -> None:
        """Put events of a task into the outbox once more."""
        await self.ask(f"INSERT INTO {WRITER}.outbox VALUES (%s, %s, %s)", (task, first, last))

    async def records(self, topic: str = TASK_EVENTS) -> list[BusRecord]:
        """All that stands in a topic, as docs/asyncapi.yaml says where it was not put there raw."""
        records = await self.all_records(topic)
        raw = self._raw if topic == TASK_EVENTS else set()
        check_all(Published.of(one) for one in records if (one.partition, one.position) not in raw)
        return records

    async def history(self) -> dict[UUID, list[int]]:
        """The sequences of each task in the order of the topic."""
        history: dict[UUID, list[int]] = {}
        for event in map(decode, await self.records()):
            history.setdefault(event.key, []).append(event.sequence)
        return history

    async def first_history(self) -> dict[UUID, list[int]]:
        """The sequences of each task in the order in which they came for the first time."""
        return {task: list(dict.fromkeys(seqs)) for task, seqs in (await self.history()).items()}

    async def written(self) -> dict[UUID, list[int]]:
        """What `history` must be when everything is published: 1, 2, 3 … of each task."""
        rows = await self.ask(f"SELECT id, seq FROM {WRITER}.tasks")
        return {row[0]: list(range(1, row[1] + 1)) for row in rows}

    async def outbox(self) -> list[tuple[Any, ...]]:
        """What waits in the outbox."""
        return await self.ask(f"SELECT * FROM {WRITER}.outbox")

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
        return [json.loads(record.headers) for record in await self.all_records(DEAD_LETTERS)]

    async def ask(self, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a statement run as the owner."""
        async with await psycopg.AsyncConnection.connect(self.owner_dsn, autocommit=True) as owner:
            cursor = await owner.execute(sql.encode(), parameters)
            return await cursor.fetchall() if cursor.description else []

    def consumer(
        self,
        handler: Handler,
        *,
        together: Together | None = None,
        group: str = "test",
        bus: Bus | None = None,
    ) -> Consumer:
        """A consumer that looks often enough for a test."""
        return Consumer(
            bus or self.bus,
            pool=self.reader,
            schema=READER,
            topic=TASK_EVENTS,
            group=group,
            handler=handler,
            together=together,
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


class PostgresWorld(World):
    """The postgres driver."""

    bus: PostgresBus

    def __init__(self, database: Database, *, writer: Pool, reader: Pool, wakeups: Wakeups) -> None:
        super().__init__(database, writer=writer, reader=reader)
        self.bus = PostgresBus(reader, wakeups=wakeups)
        self.publisher = self.new_publisher()

    def new_publisher(self, *, most_rows: int = 2_000) -> Publisher:
        return PostgresPublisher(self.writer, schema=WRITER, most_rows=most_rows)

    async def all_records(self, topic: str) -> list[BusRecord]:
        records = await self.bus.read(topic, 0, 1_000_000)
        assert [r.position for r in records] == sorted({r.position for r in records})
        return records

    async def is_read(self, group: str = "test") -> bool:
        rows = await self.ask(
            f"SELECT position FROM {READER}.bus_positions WHERE group_name = %s", (group,)
        )
        return bool(rows) and rows[0][0] == await self.bus.last_position(TASK_EVENTS)

    async def rewind(self, group: str = "test") -> None:
        await self.ask(
            f"UPDATE {READER}.bus_positions SET position = 0 WHERE group_name = %s", (group,)
        )

    async def _put(self, *, key: str, headers: dict[str, str], value: bytes) -> tuple[int, int]:
        rows = await self.ask(
            """
            WITH t AS (UPDATE bus.topics SET last_position = last_position + 1
                       WHERE topic = %s RETURNING topic, last_position)
            INSERT INTO bus.records (topic, position, key, headers, value)
            SELECT topic, last_position, %s, %s, %s FROM t RETURNING position
            """,
            (TASK_EVENTS, key, json.dumps(headers), value.decode()),
        )
        return 0, rows[0][0]


class KafkaWorld(World):
    """The kafka driver, with topics and groups of a prefix of its own."""

    def __init__(
        self, database: Database, *, writer: Pool, reader: Pool, settings: BusSettings
    ) -> None:
        super().__init__(database, writer=writer, reader=reader)
        self.settings = settings
        self.opened: list[KafkaPublisher | KafkaBus] = []
        self.bus = self.new_bus()
        self.publisher = self.new_publisher()

    def new_bus(self) -> KafkaBus:
        """The bus as another process would have it; closed at the end of the test."""
        bus = KafkaBus(KafkaClient(self.settings, name="test-reader"))
        self.opened.append(bus)
        return bus

    def new_publisher(self, *, most_rows: int = 2_000) -> Publisher:
        client = KafkaClient(self.settings, name="test-writer")
        publisher = KafkaPublisher(
            client,
            pool=self.writer,
            database_url=self.database.dsn("scheduler"),
            schema=WRITER,
            most_rows=most_rows,
        )
        self.opened += [publisher, KafkaBus(client)]
        return publisher

    async def close(self) -> None:
        """Close what was opened, publishers before their clients."""
        for one in self.opened:
            await one.close()

    async def all_records(self, topic: str) -> list[BusRecord]:
        return await read_topic(self.settings, topic)

    async def is_read(self, group: str = "test") -> bool:
        places = await self._client.places(TASK_EVENTS)
        async with self._reader(places, group) as consumer:
            ends: dict[TopicPartition, int] = await consumer.end_offsets(places)
            committed = {place: await consumer.committed(place) or 0 for place in places}
        return committed == ends

    async def rewind(self, group: str = "test") -> None:
        places = await self._client.places(TASK_EVENTS)
        async with self._reader(places, group) as consumer:
            await consumer.commit(dict.fromkeys(places, 0))

    async def _put(self, *, key: str, headers: dict[str, str], value: bytes) -> tuple[int, int]:
        producer = await self._client.producer()
        sent = await producer.send_and_wait(
            self._client.full_name(TASK_EVENTS),
            key=key.encode(),
            value=value,
            headers=[(name, text.encode()) for name, text in headers.items()],
        )
        return sent.partition, sent.offset

    @property
    def _client(self) -> KafkaClient:
        assert isinstance(self.bus, KafkaBus)
        return self.bus.client

    @asynccontextmanager
    async def _reader(
        self, places: list[TopicPartition], group: str | None = None
    ) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka_bootstrap,
            group_id=None if group is None else self._client.full_name(group),
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            consumer.assign(places)
            yield consumer
        finally:
            await consumer.stop()


async def write_in(connection: Connection, task: UUID, *, events: int = 1) -> None:
    """Write events of a task on a connection."""
    parameters = {
        "task": task,
        "tenant": str(TENANT),
        "events": events,
        "traceparent": TRACEPARENT,
        "request_id": REQUEST_ID,
    }
    await connection.execute(_WRITE, parameters)


async def note(tx: Connection, event: BusEvent) -> None:
    """A handler whose effect shows when it happens twice."""
    await tx.execute(
        f"INSERT INTO {READER}.effects VALUES (%s, %s)".encode(), (event.key, event.sequence)
    )


@asynccontextmanager
async def postgres_world(database: Database) -> AsyncIterator[PostgresWorld]:
    """The tables, pools and notifications of a test, closed at its end."""
    async with _pools(database) as (writer, reader):
        wakeups = Wakeups(database.dsn("auth"), name="test-wakeups", channels=[CHANNEL])
        stop = asyncio.Event()
        listening = asyncio.create_task(wakeups.run(stop))
        try:
            yield PostgresWorld(database, writer=writer, reader=reader, wakeups=wakeups)
        finally:
            stop.set()
            await listening


@asynccontextmanager
async def kafka_world(database: Database, bootstrap: str) -> AsyncIterator[KafkaWorld]:
    """The tables, pools and topics of a test, closed and deleted at its end."""
    prefix = new_prefix()
    settings = BusSettings(driver=KAFKA, kafka_bootstrap=bootstrap, kafka_prefix=prefix)
    async with _pools(database) as (writer, reader), topics_removed(bootstrap, prefix):
        await apply_topics(settings)
        world = KafkaWorld(database, writer=writer, reader=reader, settings=settings)
        try:
            yield world
        finally:
            await world.close()


@asynccontextmanager
async def _pools(database: Database) -> AsyncIterator[tuple[Pool, Pool]]:
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
        yield writer, reader
