"""The kafka driver: groups of consumers whose positions Kafka keeps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from libs.bus.bus import Batch, BusRecord, DeadLetter
from libs.bus.kafka_client import (
    MAX_BATCH_BYTES,
    METADATA_SECONDS,
    REQUEST_SECONDS,
    STOP_SECONDS,
    KafkaClient,
    kafka_refusals,
    reason_of,
)
from libs.bus.kafka_unreadable import UNREADABLE, next_of_each, rewind
from libs.bus.letters import letter_headers
from libs.bus.topics import DEAD_LETTERS
from libs.core.errors import PawlError
from libs.db.engine import Connection
from libs.process.logs import get_logger

FETCH_MOST_RECORDS = 500
LETTERS_PER_PAGE = 200
SESSION_SECONDS = 10.0
HEARTBEAT_SECONDS = 3.0
COMMIT_SECONDS = 3.0

# Of a record that is put aside; what is written on its letter fits beside it.
MAX_LETTER_BYTES = MAX_BATCH_BYTES

# How long a broker holds a request while it has nothing. A partition that was just read waits for
# the request under way before it is asked for again, so this bounds how late its next record comes.
LONG_POLL_SECONDS = 0.1

# Bytes that are no UTF-8 survive the way into text and back.
_ERRORS = "surrogateescape"
_MOVED_ON = (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

Headers = list[tuple[str, bytes]]

log = get_logger(__name__)


class KafkaBus:
    """Topics of a Kafka cluster."""

    def __init__(self, client: KafkaClient) -> None:
        self.client = client

    async def subscribe(self, *, topic: str, group: str, schema: str) -> KafkaSubscription:
        """Join `group` on `topic`; a new group begins with the oldest record that is kept.

        `schema` says nothing here: positions are Kafka's to keep. PawlError `unavailable` when no
        broker answers.
        """
        del schema
        consumer = _consumer(self.client, group=group)
        subscription = KafkaSubscription(self.client, consumer, topic=topic, group=group)
        consumer.subscribe([self.client.full_name(topic)], listener=subscription.listener)
        await _started(consumer)
        return subscription

    async def letters(self, *, group: str, schema: str) -> AsyncIterator[tuple[BusRecord, ...]]:
        """The dead letters that `group` has not seen, page by page.

        Members do not share them: two that read at the same time both get them.
        """
        del schema
        places = await self.client.places(DEAD_LETTERS)
        consumer = _consumer(self.client, group=group)
        await _started(consumer)
        try:
            with kafka_refusals():
                consumer.assign(places)
                ends = await consumer.end_offsets(places)
                while [p for p in places if await consumer.position(p) < ends[p]]:
                    found = await _page(consumer)
                    for place, records in found.items():
                        yield tuple(record_of(record, topic=DEAD_LETTERS) for record in records)
                        await consumer.commit({place: records[-1].offset + 1})
        finally:
            await _stopped(consumer)

    async def check(self) -> None:
        """PawlError `unavailable` when no broker answers."""
        await self.client.check()

    async def run(self, stop: asyncio.Event) -> None:
        """Nothing: the client has its own loops."""
        await stop.wait()

    async def close(self) -> None:
        """Close the producer of dead letters."""
        await self.client.close()


class KafkaSubscription:
    """One member of a group; the group's offsets are committed after the effects.

    A batch that is not noted as committed comes again, so an effect may be tried twice: consumers
    remember what they have handled.
    """

    def __init__(
        self, client: KafkaClient, consumer: AIOKafkaConsumer, *, topic: str, group: str
    ) -> None:
        self._client = client
        self._consumer = consumer
        self._topic = topic
        self._group = group
        self._open: dict[TopicPartition, list[ConsumerRecord]] = {}
        self._offsets: dict[TopicPartition, int] = {}
        self._polling: asyncio.Task[Mapping[TopicPartition, list[ConsumerRecord]]] | None = None
        self._is_careful = False
        self._woken = asyncio.Event()
        self.listener = _Moves(self)

    @property
    def partitions(self) -> frozenset[int]:
        """Those that are this member's now."""
        return frozenset(place.partition for place in self._consumer.assignment())

    async def fetch(self, *, wait_seconds: float) -> Batch | None:
        """The records after what was committed, of all partitions that are this member's.

        None when none came within the time. PawlError `unavailable` when the brokers are away.
        """
        if not self._open:
            self._open = dict(await self._poll(wait_seconds))
        records = tuple(
            record_of(record, topic=self._topic) for part in self._open.values() for record in part
        )
        if not records:
            return None
        return Batch(
            topic=self._topic,
            records=records,
            is_more=len(records) >= FETCH_MOST_RECORDS,
        )

    def wake(self) -> None:
        """End the present or the next wait of `fetch`."""
        self._woken.set()

    async def commit_in(self, tx: Connection, batch: Batch) -> bool:
        """True: who has handled what is known by the sequences that the consumer keeps."""
        del tx, batch
        return True

    async def committed(self, batch: Batch) -> None:
        """Commit the offsets. Those of partitions that are another member's now stay with it."""
        del batch
        mine = self._consumer.assignment()
        offsets = {
            place: part[-1].offset + 1 for place, part in self._open.items() if place in mine
        }
        with kafka_refusals():
            try:
                if offsets:
                    # By itself it would try for as long as the brokers are away.
                    async with asyncio.timeout(COMMIT_SECONDS):
                        await self._consumer.commit(offsets)
            except _MOVED_ON as error:
                # The next owner begins before what was handled here, and finds it handled.
                log.info("partitions moved on uncommitted", group=self._group, error=str(error))
        self._offsets |= offsets
        self._open = {}

    def behind(self) -> int:
        """Records of this member's partitions after those handled, as the last answers said."""
        handled = {place: part[0].offset for place, part in self._open.items()} | self._offsets
        ends = {place: self._consumer.highwater(place) for place in self._consumer.assignment()}
        return sum(
            max(0, end - handled[place])
            for place, end in ends.items()
            if end is not None and place in handled
        )

    async def dead_letter_in(self, tx: Connection, letter: DeadLetter) -> None:
        """Send the record, with the reason in its headers, to pawl.dead-letters.v1; acknowledged.

        When `tx` fails after that, the letter comes twice. What is too large for a letter is left
        out of it, and pawl_value_bytes, pawl_key_bytes, pawl_headers_bytes say how long it was.
        """
        del tx
        key, value, headers = _that_fit(letter)
        producer = await self._client.producer()
        with kafka_refusals():
            async with asyncio.timeout(REQUEST_SECONDS):
                await producer.send_and_wait(
                    self._client.full_name(DEAD_LETTERS), key=key, value=value, headers=headers
                )

    async def close(self) -> None:
        """Leave the group."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait({self._polling})
        await _stopped(self._consumer)

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """Drop what was read of partitions that are no longer this member's."""
        for place in places:
            self._open.pop(place, None)
            self._offsets.pop(place, None)

    async def _poll(self, wait_seconds: float) -> Mapping[TopicPartition, list[ConsumerRecord]]:
        if self._is_careful:
            with kafka_refusals():
                await rewind(self._consumer, self._offsets)
                found = await next_of_each(self._consumer)
            self._is_careful = False
            return found
        if self._polling is None:
            asked = self._consumer.getmany(
                timeout_ms=int(wait_seconds * 1000), max_records=FETCH_MOST_RECORDS
            )
            self._polling = asyncio.create_task(asked)
        waking = asyncio.create_task(self._woken.wait())
        try:
            await asyncio.wait({self._polling, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
        self._woken.clear()
        if not self._polling.done():
            # It goes on, and what it brings is for the next call.
            return {}
        polled, self._polling = self._polling, None
        try:
            with kafka_refusals():
                return polled.result()
        except (PawlError, *UNREADABLE) as error:
            # Records of other partitions may be gone past as well.
            self._is_careful = True
            if isinstance(error.__cause__ or error, UNREADABLE):
                log.warning("a record cannot be read", group=self._group, exc_info=error)
                return {}
            raise


class _Moves(ConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """Told when partitions come to this member or leave it."""

    def __init__(self, subscription: KafkaSubscription) -> None:
        self._subscription = subscription

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """They are another member's now, or come back."""
        self._subscription.forget(revoked)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """They are this member's."""
        log.info("partitions assigned", partitions=len(list(assigned)))


def _consumer(client: KafkaClient, *, group: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=client.settings.kafka_bootstrap,
        client_id=client.name,
        group_id=client.full_name(group),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        session_timeout_ms=int(SESSION_SECONDS * 1000),
        heartbeat_interval_ms=int(HEARTBEAT_SECONDS * 1000),
        request_timeout_ms=int(REQUEST_SECONDS * 1000),
        metadata_max_age_ms=int(METADATA_SECONDS * 1000),
        fetch_max_wait_ms=int(LONG_POLL_SECONDS * 1000),
    )


async def _page(consumer: AIOKafkaConsumer) -> Mapping[TopicPartition, list[ConsumerRecord]]:
    try:
        found: Mapping[TopicPartition, list[ConsumerRecord]] = await consumer.getmany(
            timeout_ms=1000, max_records=LETTERS_PER_PAGE
        )
    except UNREADABLE as error:
        log.warning("a dead letter cannot be read", exc_info=error)
        await rewind(consumer, {})
        found = await next_of_each(consumer)
    return found


async def _started(consumer: AIOKafkaConsumer) -> None:
    with kafka_refusals():
        try:
            await consumer.start()
        except BaseException:
            await _stopped(consumer)
            raise


async def _stopped(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and close, within a bounded time: nobody may be there to hear of it."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await consumer.stop()
    except (KafkaError, TimeoutError) as error:
        log.info("Kafka consumer not stopped well", error=reason_of(error))


def record_of(record: ConsumerRecord, *, topic: str) -> BusRecord:
    """A record as the consumers of Pawl read it; `topic` is its name without a prefix."""
    headers = {name: _text(value) for name, value in record.headers}
    return BusRecord(
        topic=topic,
        position=record.offset,
        key=_text(record.key),
        headers=json.dumps(headers, ensure_ascii=False),
        value=_text(record.value),
        partition=record.partition,
    )


def _that_fit(letter: DeadLetter) -> tuple[bytes, bytes, Headers]:
    """Key, value and headers of a letter, without the longest of them that would not fit.

    Records are compressed on their way, so each of them can be larger than what a broker takes.
    """
    record, left_out = letter.record, {}
    lengths = {name: len(_bytes(getattr(record, name))) for name in ("key", "value", "headers")}
    for name in sorted(lengths, key=lengths.__getitem__, reverse=True):
        if sum(lengths.values()) <= MAX_LETTER_BYTES:
            break
        left_out[f"pawl_{name}_bytes"] = str(lengths.pop(name))
    record = replace(
        record,
        key=record.key if "key" in lengths else "",
        value=record.value if "value" in lengths else "",
        headers=record.headers if "headers" in lengths else "{}",
    )
    headers = letter_headers(replace(letter, record=record)) | left_out
    named = [(name, _bytes(text)) for name, text in headers.items()]
    return _bytes(record.key), _bytes(record.value), named


def _text(data: bytes | None) -> str:
    return "" if data is None else data.decode("utf-8", _ERRORS)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", _ERRORS)
