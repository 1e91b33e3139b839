"""Publishing an outbox to Kafka: one process at a time, in order, deleted once acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Any

import psycopg
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner

from libs.bus.bus import Backlog, Moved
from libs.bus.envelope import event_headers
from libs.bus.kafka_client import MAX_BATCH_BYTES, KafkaClient, kafka_refusals
from libs.bus.leadership import Leadership
from libs.bus.outbox import OUTBOX_CHANNEL, drop_in_parts, read_backlog
from libs.bus.postgres import CHANNEL
from libs.bus.statements import statements
from libs.bus.topics import TASK_EVENTS, TOPICS
from libs.core.errors import PawlError
from libs.db.engine import Connection, Pool
from libs.process.crash_points import pass_crash_point

MOVE_MOST_ROWS = 2_000
TELL_REST_SECONDS = 0.02

# As long as this a run waits for the brokers before it says that they are away. What was sent stays
# on its way: the next run goes on waiting for it.
ACKNOWLEDGE_SECONDS = 5.0

# Of the records of one batch beside their keys, values and headers: lengths, offsets, times.
_RECORD_BYTES = 64

Row = dict[str, Any]
Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Rows of the outbox that are on their way to the brokers."""

    places: list[str]
    task_ids: list[Any]
    events: int
    oldest_age_seconds: float
    is_more: bool
    deliveries: list[asyncio.Future[Any]] = field(repr=False)


class KafkaPublisher:
    """Publishes the outbox of `schema` to pawl.task.events.v1, when it is this process's turn.

    The turn is an advisory lock on a connection of its own. Through that connection alone rows are
    deleted, so whoever has lost the turn deletes nothing. What it still has on its way then are
    events that its successor sends too, both from the same one on: none overtakes an earlier one of
    its task for the first time.

    A run puts at most one batch on each partition and ends when all are acknowledged. A batch is
    appended as a whole or not at all, so that no failure leaves a gap.
    """

    def __init__(
        self,
        client: KafkaClient,
        *,
        pool: Pool,
        database_url: str,
        schema: str = "scheduler",
        most_rows: int = MOVE_MOST_ROWS,
    ) -> None:
        self._client = client
        self._pool = pool
        self._sql = statements(schema)
        self._most_rows = most_rows
        self._topic = client.full_name(TASK_EVENTS)
        self._leadership = Leadership(database_url, name=f"{client.name}-relay", sql=self._sql)
        self._run: _Run | None = None

    async def move(self) -> Moved:
        """Publish what is committed in the outbox, delete it there, then notify.

        Without the turn: wake whoever has it. PawlError `unavailable` while the brokers do not
        acknowledge.
        """
        try:
            if not await self._leadership.leads():
                await self._tell_leader()
                return Moved(events=0, oldest_age_seconds=0.0, is_more=False)
            return await self._move(await self._leadership.connection())
        except psycopg.Error:
            await self._give_up()
            raise

    async def backlog(self) -> Backlog:
        """What is not yet published. Asked for by the publisher's own connection if it leads."""
        try:
            return await read_backlog(await self._leadership.connection(), self._sql)
        except psycopg.Error:
            await self._give_up()
            raise

    async def drop_expired(self) -> int:
        """Drop what the feed keeps beyond the time of its topic; records are Kafka's to drop."""
        kept_seconds = TOPICS[TASK_EVENTS].kept_seconds
        return await drop_in_parts(self._pool, self._sql["drop_feed"], kept_seconds=kept_seconds)

    async def close(self) -> None:
        """Leave the turn to others; they find it free when they look next, within two seconds."""
        await self._give_up()

    async def _tell_leader(self) -> None:
        connection = await self._leadership.connection()
        await connection.execute(
            self._sql["notify_topic"], {"channel": OUTBOX_CHANNEL, "topic": TASK_EVENTS}
        )
        await asyncio.sleep(TELL_REST_SECONDS)

    async def _give_up(self) -> None:
        """Lose the turn and whatever is on its way; the outbox still has it."""
        await self._leadership.close()
        await self._forget_run()

    async def _forget_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            for delivery in run.deliveries:
                delivery.cancel()
            await self._client.discard_producer()

    async def _move(self, connection: Connection) -> Moved:
        if self._run is None:
            self._run = await self._begin(connection)
        run = self._run
        if run is None:
            return Moved(events=0, oldest_age_seconds=0.0, is_more=False)
        await self._acknowledged(run)
        pass_crash_point("outbox.after_send_before_mark")
        names = {"places": run.places, "task_ids": run.task_ids, "topic": TASK_EVENTS}
        await connection.execute(self._sql["close_outbox"], names)
        self._run = None
        await connection.execute(
            self._sql["notify_topic"], {"channel": CHANNEL, "topic": TASK_EVENTS}
        )
        return Moved(
            events=run.events,
            oldest_age_seconds=run.oldest_age_seconds,
            is_more=run.is_more,
        )

    async def _begin(self, connection: Connection) -> _Run | None:
        """Take rows from the outbox and send them; None when there are none."""
        cursor = await connection.execute(self._sql["take_outbox"], {"most": self._most_rows})
        rows: list[Row] = await cursor.fetchall()
        if not rows:
            return None
        producer = await self._client.producer()
        packed = _Packed(producer, [p.partition for p in await self._client.places(TASK_EVENTS)])
        taken = [list(events) for _, events in groupby(rows, key=lambda row: row["place"])]
        kept = [events for events in taken if packed.takes(events)]
        return _Run(
            places=[events[0]["place"] for events in kept],
            task_ids=[events[0]["task_id"] for events in kept],
            events=sum(map(len, kept)),
            oldest_age_seconds=max(row["age_seconds"] for row in rows),
            is_more=len(taken) == self._most_rows or len(kept) < len(taken),
            deliveries=await self._send(producer, packed),
        )

    async def _send(self, producer: AIOKafkaProducer, packed: _Packed) -> list[asyncio.Future[Any]]:
        with kafka_refusals():
            return [
                await producer.send_batch(batch, self._topic, partition=partition)
                for partition, batch in packed.batches()
            ]

    async def _acknowledged(self, run: _Run) -> None:
        """Return once the brokers have everything; PawlError `unavailable` when that takes long."""
        _, waiting = await asyncio.wait(run.deliveries, timeout=ACKNOWLEDGE_SECONDS)
        if waiting:
            message = f"Kafka has not acknowledged within {ACKNOWLEDGE_SECONDS:.0f} s"
            raise PawlError("unavailable", message, retry_after_seconds=1)
        try:
            with kafka_refusals():
                for delivery in run.deliveries:
                    delivery.result()
        except PawlError:
            await self._forget_run()
            raise


class _Packed:
    """One batch per partition; once a batch is full, nothing more goes on its partition."""

    def __init__(self, producer: AIOKafkaProducer, partitions: Sequence[int]) -> None:
        self._producer = producer
        self._partitions = tuple(partitions)
        self._batches: dict[int, Any] = {}
        self._full: set[int] = set()

    def takes(self, events: Sequence[Row]) -> bool:
        """Add the events of one row of the outbox, all of them or none."""
        key = str(events[0]["task_id"]).encode()
        partition = partition_of(key, self._partitions)
        if partition in self._full:
            return False
        records = [(event["data"].encode(), _headers(event)) for event in events]
        batch = self._batches.get(partition)
        if batch is not None and batch.size() + _size(key, records) > MAX_BATCH_BYTES:
            self._full.add(partition)
            return False
        if batch is None:
            batch = self._batches[partition] = self._producer.create_batch()
        for value, headers in records:
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                raise RuntimeError(f"{len(events)} events of one task exceed a batch of Kafka")
        return True

    def batches(self) -> Iterator[tuple[int, Any]]:
        """What there is to send."""
        yield from self._batches.items()


@lru_cache(maxsize=10_000)
def partition_of(key: bytes, partitions: tuple[int, ...]) -> int:
    """Where records with this key go: murmur2, as other Kafka clients choose by default."""
    chosen: int = DefaultPartitioner()(key, partitions, partitions)
    return chosen


def _headers(event: Row) -> Headers:
    named = event_headers(
        task_id=str(event["task_id"]),
        sequence=event["seq"],
        kind=event["type"],
        time=event["time"],
        tenant_id=event["tenant_id"],
        traceparent=event["traceparent"],
        request_id=event["request_id"],
    )
    return [(name, text.encode()) for name, text in named.items()]


def _size(key: bytes, records: Iterable[tuple[bytes, Headers]]) -> int:
    return sum(
        _RECORD_BYTES
        + len(key)
        + len(value)
        + sum(len(name) + len(text) + 4 for name, text in headers)
        for value, headers in records
    )
