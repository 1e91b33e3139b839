"""Records that the Kafka library cannot read, found so that nothing beside them is lost.

When the library fails on one record, it has gone past others without handing them out. So reading
begins again after what was handled, one record of each partition at a time.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError

from libs.bus.envelope import UNREADABLE_HEADER

UNREADABLE = (CorruptRecordException, UnicodeDecodeError, UnsupportedCodecError)
"""What it raises for wrong bytes, wrong names of headers, and compression that it does not know."""

WAIT_SECONDS = 1.0


async def rewind(consumer: AIOKafkaConsumer, handled: Mapping[TopicPartition, int]) -> None:
    """Go on after what was handled; where nothing was yet, after what the group has committed."""
    for place in consumer.assignment():
        offset = handled.get(place)
        if offset is None:
            offset = await consumer.committed(place)
        if offset is None:
            offset = (await consumer.beginning_offsets([place]))[place]
        consumer.seek(place, offset)


async def next_of_each(consumer: AIOKafkaConsumer) -> dict[TopicPartition, list[ConsumerRecord]]:
    """At most one record of each partition.

    One that cannot be read comes without key and value, and its only header is pawl_unreadable.
    """
    found: dict[TopicPartition, list[ConsumerRecord]] = {}
    places = sorted(consumer.assignment())
    ends = await consumer.end_offsets(places)
    for place in places:
        position = await consumer.position(place)
        if position >= ends[place]:
            continue
        try:
            wait_ms = int(WAIT_SECONDS * 1000)
            found |= await consumer.getmany(place, timeout_ms=wait_ms, max_records=1)
        except UNREADABLE as error:
            found[place] = [_unreadable(place, position, error)]
            consumer.seek(place, position + 1)
    return found


def _unreadable(place: TopicPartition, offset: int, error: Exception) -> ConsumerRecord:
    said = f"{type(error).__name__}: {error}"
    return ConsumerRecord(
        topic=place.topic,
        partition=place.partition,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        key=None,
        value=None,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=-1,
        headers=((UNREADABLE_HEADER, said.encode()),),
    )
