"""What only the kafka driver has: a turn, acknowledgements, batches, partitions that move."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

from libs.bus.envelope import BusEvent
from libs.bus.kafka_client import MAX_BATCH_BYTES, KafkaClient
from libs.bus.kafka_publisher import KafkaPublisher, partition_of
from libs.bus.kafka_topics import apply_topics
from libs.bus.relay import Relay
from libs.bus.topics import DEAD_LETTERS, TASK_EVENTS, TOPICS, Topic
from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.db.engine import Connection
from tests.bus.members import member
from tests.bus.world import READER, WRITER, KafkaWorld, note
from tests.waiting import eventually

LEADERS = (
    "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype ="
    " 'advisory' AND l.granted AND a.application_name = 'test-writer-relay'"
)


async def test_one_of_two_publishers_has_the_turn_until_it_leaves(kafka: KafkaWorld) -> None:
    first, second = kafka.new_publisher(), kafka.new_publisher()
    await kafka.write_tasks(2)
    assert (await first.move()).events == 6

    await kafka.write_tasks(2)
    waited = await second.move()
    leaders = await kafka.ask(LEADERS)
    await first.close()

    async def takes_over() -> bool:
        return (await second.move()).events == 6

    await eventually(takes_over)
    assert (waited.events, leaders) == (0, [(1,)])
    assert await kafka.history() == await kafka.written()


async def test_a_publisher_whose_session_ended_deletes_nothing(kafka: KafkaWorld) -> None:
    zombie, successor = kafka.new_publisher(), kafka.new_publisher()
    assert isinstance(zombie, KafkaPublisher)
    tasks = await kafka.write_tasks(3)
    connection = await zombie._leadership.connection()
    assert await zombie._leadership.leads()
    run = await zombie._begin(connection)
    zombie._run = run
    assert run is not None
    await kafka.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
        ("test-writer-relay",),
    )

    for task in tasks:
        await kafka.write(task, events=2)
    await eventually(successor.move)
    while (await successor.move()).events:
        pass
    await kafka.write(tasks[0], events=1)
    # It wakes up, finds that its turn is over, and tries to go on where it was.
    with pytest.raises(Exception, match=r"terminat|closed|lost"):
        await zombie._move(connection)

    assert [row[1:] for row in await kafka.outbox()] == [(6, 6)]
    while (await successor.move()).events:
        pass
    assert await kafka.first_history() == await kafka.written()


async def test_a_partition_takes_one_batch_per_run_and_the_rest_later(kafka: KafkaWorld) -> None:
    tasks = await kafka.write_tasks(2, events=1)
    for task in tasks:
        for _ in range(9):
            await kafka.write(task, events=1)
    padding = "x" * (MAX_BATCH_BYTES // 4)
    await kafka.ask(
        f"UPDATE {WRITER}.task_events SET data = (data::jsonb || jsonb_build_object('message',"
        " %s::text))::text WHERE type = 'progress'",
        (padding,),
    )

    moves = [await kafka.publisher.move() for _ in range(2)]
    await kafka.publish_all()

    assert [moved.is_more for moved in moves] == [True, True]
    assert await kafka.history() == await kafka.written()


async def test_events_go_where_other_clients_would_put_them(kafka: KafkaWorld) -> None:
    tasks = await kafka.write_tasks(40, events=2)
    await kafka.publish_all()

    records = await kafka.records()

    places = tuple(range(TOPICS[TASK_EVENTS].partitions))
    assert {(r.key, r.partition) for r in records} == {
        (str(task), partition_of(str(task).encode(), places)) for task in tasks
    }
    assert len({record.partition for record in records}) > 6


async def test_two_members_share_the_partitions_and_one_takes_over_when_the_other_is_killed(
    kafka: KafkaWorld, tmp_path: Path
) -> None:
    async with member(kafka, tmp_path / "one") as one, member(kafka, tmp_path / "two") as two:
        await eventually(lambda: one.assigned == two.assigned == 6, timeout=30)
        stop = asyncio.Event()
        relay = Relay(kafka.publisher, rest_seconds=0.001)
        relaying = asyncio.create_task(relay.run(stop))
        writing = asyncio.create_task(_write_on(kafka, relay, tasks=60, events=5))
        await eventually(lambda: min(one.handled, two.handled) >= 20, timeout=30)

        one.kill()
        await writing
        stop.set()
        await relaying

        await eventually(kafka.effects_are_whole, timeout=60)
        await eventually(lambda: two.assigned == 12, timeout=30)
    shares = Counter({m.path.name: m.handled for m in (one, two)})
    assert min(shares.values()) >= 20, shares
    assert await kafka.letters() == []


async def test_a_consumer_whose_partitions_moved_repeats_no_effect(kafka: KafkaWorld) -> None:
    await kafka.write_tasks(30, events=2)
    await kafka.publish_all()
    is_in, may_go = asyncio.Event(), asyncio.Event()

    async def slow(tx: Connection, event: BusEvent) -> None:
        is_in.set()
        await may_go.wait()
        await note(tx, event)

    async with kafka.running(kafka.consumer(slow)):
        await is_in.wait()
        # Another member comes while a batch is being handled, and is given half of it.
        async with kafka.running(kafka.consumer(note, bus=kafka.new_bus())):
            await asyncio.sleep(0)
            may_go.set()
            await eventually(kafka.is_read, timeout=30)

    assert await kafka.effects_are_whole()


async def test_poison_of_every_kind_is_put_aside_and_the_partition_moves_on(
    kafka: KafkaWorld,
) -> None:
    producer = await kafka.bus.client.producer()  # type: ignore[attr-defined]
    topic = kafka.settings.kafka_prefix + TASK_EVENTS
    poison: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = [
        (None, b"{}", []),
        (b"\xff\xfe", b"\xff\xfe\x00", [("ce_id", b"\xff")]),
        (str(new_id()).encode(), None, []),
        (str(new_id()).encode(), b"[" * 5000, [("ce_specversion", b"1.0")]),
        (b"big", b"x" * 1_000_000, []),
        (b"k", b"{}", [("twice", b"1"), ("twice", b"2")]),
    ]
    for partition in range(2):
        for key, value, headers in poison:
            await producer.send_and_wait(
                topic, key=key, value=value, headers=headers, partition=partition
            )
    await kafka.write_tasks(20, events=1)
    await kafka.publish_all()

    async with kafka.running(kafka.consumer(note)):
        await eventually(kafka.is_read, timeout=30)

    assert await kafka.effects_are_whole()
    letters = await kafka.all_records(DEAD_LETTERS)
    assert len(letters) == 2 * len(poison)
    assert [letter.value for letter in letters if letter.key == "big"] == ["", ""]
    sizes = [letter.get("pawl_value_bytes") for letter in await kafka.letters()]
    assert sorted(filter(None, sizes)) == ["1000000"] * 2


def _with_bad_name(batch: Any) -> Any:
    """A batch with one record, which has a header whose name is no UTF-8."""
    batch.append(key=b"k", value=b"v", timestamp=None, headers=[("name", b"text")])
    content = bytearray(batch._build()).replace(b"name", b"\xff\xfe\xff\xfe")
    content[17:21] = calc_crc32c(bytes(content[21:])).to_bytes(4, "big")
    batch._buffer = content
    return batch


async def test_records_that_the_library_cannot_read_are_put_aside_and_nothing_is_lost(
    kafka: KafkaWorld,
) -> None:
    tasks = await kafka.write_tasks(30, events=2)
    await kafka.publish_all()
    async with AIOKafkaProducer(bootstrap_servers=kafka.settings.kafka_bootstrap) as producer:
        for partition in (1, 4):
            batch = _with_bad_name(producer.create_batch())
            topic = kafka.settings.kafka_prefix + TASK_EVENTS
            await (await producer.send_batch(batch, topic, partition=partition))
    for task in tasks:
        await kafka.write(task, events=2)
    await kafka.publish_all()

    async with kafka.running(kafka.consumer(note)):
        await eventually(kafka.is_read, timeout=30)

    assert await kafka.effects_are_whole()
    letters = await kafka.letters()
    assert ["UnicodeDecodeError" in one["pawl_unreadable"] for one in letters] == [True, True]
    assert {one["pawl_reason"] for one in letters} == {
        f"unreadable: {one['pawl_unreadable']}" for one in letters
    }


async def test_letters_that_the_library_cannot_read_hold_up_no_others(kafka: KafkaWorld) -> None:
    topic = kafka.settings.kafka_prefix + DEAD_LETTERS
    async with AIOKafkaProducer(bootstrap_servers=kafka.settings.kafka_bootstrap) as producer:
        await producer.send_and_wait(topic, key=b"first", value=b"")
        await (
            await producer.send_batch(_with_bad_name(producer.create_batch()), topic, partition=0)
        )
        await producer.send_and_wait(topic, key=b"last", value=b"")

    keys = [
        letter.key
        async for page in kafka.bus.letters(group="test-letters", schema=READER)
        for letter in page
    ]
    again = [page async for page in kafka.bus.letters(group="test-letters", schema=READER)]

    assert (keys, again) == (["first", "", "last"], [])


async def test_records_too_large_for_a_letter_leave_out_what_does_not_fit(
    kafka: KafkaWorld,
) -> None:
    huge = b"x" * 3_000_000
    topic = kafka.settings.kafka_prefix + TASK_EVENTS
    poison: list[tuple[bytes, bytes, list[tuple[str, bytes]]]] = [
        (b"k", b"v", [("h", huge)]),
        (huge, b"v", [("h", b"1")]),
        (b"k", b"v" * 600_000, [("h", b"h" * 500_000)]),
    ]
    # Compressed, they are far below what the broker takes.
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.settings.kafka_bootstrap,
        compression_type="gzip",
        max_request_size=10_000_000,
        max_batch_size=10_000_000,
    ) as producer:
        for key, value, headers in poison:
            await producer.send_and_wait(topic, key=key, value=value, headers=headers)
    await kafka.write_tasks(20, events=1)
    await kafka.publish_all()

    async with kafka.running(kafka.consumer(note)):
        await eventually(kafka.is_read, timeout=30)

    assert await kafka.effects_are_whole()
    left_out = {"pawl_value_bytes", "pawl_headers_bytes", "pawl_key_bytes"}
    found = [sorted(left_out & letter.keys()) for letter in await kafka.letters()]
    assert sorted(found) == [
        ["pawl_headers_bytes"],
        ["pawl_key_bytes"],
        ["pawl_value_bytes"],
    ]


async def test_topics_are_made_once_and_changed_with_care(kafka: KafkaWorld) -> None:
    name = "pawl.other.v1"
    other = Topic(name=name, partitions=3, kept_seconds=3600)
    prefix = kafka.settings.kafka_prefix

    made = await apply_topics(kafka.settings, [other])
    again = await apply_topics(kafka.settings, [other])
    longer = Topic(name=name, partitions=3, kept_seconds=7200)
    changed = await apply_topics(kafka.settings, [longer])
    with pytest.raises(PawlError) as refused:
        await apply_topics(kafka.settings, [Topic(name=name, partitions=4, kept_seconds=7200)])

    assert [(t.name, t.outcome) for t in made] == [(prefix + name, "made")]
    assert [t.outcome for t in (*again, *changed)] == ["kept", "changed"]
    assert (refused.value.code, "3 partitions" in refused.value.message) == ("conflict", True)


async def test_brokers_that_are_away_are_named(kafka: KafkaWorld) -> None:
    away = KafkaWorld(
        kafka.database,
        writer=kafka.writer,
        reader=kafka.reader,
        settings=type(kafka.settings)(driver="kafka", kafka_bootstrap="127.0.0.1:1"),
    )
    await away.write_tasks(1)
    try:
        with pytest.raises(PawlError) as move:
            await eventually(away.publisher.move)
        with pytest.raises(PawlError) as checked:
            await away.bus.check()
        with pytest.raises(PawlError) as subscribed:
            await away.bus.subscribe(topic=TASK_EVENTS, group="g", schema=READER)
    finally:
        await away.close()

    codes = {refused.value.code for refused in (move, checked, subscribed)}
    assert codes == {"unavailable"}
    assert (await kafka.publisher.backlog()).rows == 1


async def _write_on(kafka: KafkaWorld, relay: Relay, *, tasks: int, events: int) -> None:
    ids = [new_id() for _ in range(tasks)]
    for _ in range(events):
        for task in ids:
            await kafka.write(task)
            relay.wake()


async def test_a_producer_cancelled_while_it_starts_leaves_no_connection_open(
    kafka: KafkaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A connection that nobody closed says so when it is collected.
    left_open: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", left_open.append)

    for turn in range(40):
        client = KafkaClient(kafka.settings, name="test-cancelled")
        starting = asyncio.create_task(client.producer())
        # From before the first connection to after the last.
        await asyncio.sleep(turn * 0.0005)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await client.close()
    gc.collect()

    assert left_open == []
