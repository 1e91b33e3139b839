"""Publishing: every event, in order, whatever happens to the relays; on both drivers."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from uuid import UUID

import psycopg
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from cloudevents.core.formats.json import JSONFormat

from libs.bus.envelope import decode, read_task_event
from libs.bus.relay import Relay
from libs.core.ids import new_id
from tests.bus.world import (
    READER,
    REQUEST_ID,
    TENANT,
    TRACEPARENT,
    WRITER,
    World,
    note,
    write_in,
)
from tests.waiting import eventually


async def write_much(world: World, relays: list[Relay], *, tasks: int, events: int) -> None:
    """Eight writers on shared tasks, each waking a relay of its own choice."""
    ids = [new_id() for _ in range(tasks)]

    async def writer(number: int) -> None:
        for turn in range(events):
            await world.write(ids[(number + turn) % tasks], events=1 + turn % 3)
            if relays:
                relays[(number + turn) % len(relays)].wake()

    await asyncio.gather(*(writer(number) for number in range(8)))


async def test_move_publishes_an_envelope_that_reads_back(world: World) -> None:
    (task,) = await world.write_tasks(1, events=2)

    moved = await world.publisher.move()

    events = [decode(record) for record in await world.records()]
    assert (moved.events, moved.is_more) == (2, False)
    assert [(e.key, e.sequence, e.id) for e in events] == [
        (task, 1, f"{task}:1"),
        (task, 2, f"{task}:2"),
    ]
    assert events[1].position == events[0].position + 1
    first = events[0]
    assert (first.type, first.source) == ("pawl.task.status_transition.v1", "/pawl/scheduler")
    assert (first.subject, first.tenant_id) == (str(task), TENANT)
    assert (first.traceparent, first.request_id) == (TRACEPARENT, REQUEST_ID)
    assert abs((datetime.now(UTC) - first.time).total_seconds()) < 60
    assert read_task_event(first).to_state == "created"


async def test_move_writes_headers_that_other_readers_of_cloudevents_take(world: World) -> None:
    (task,) = await world.write_tasks(1, events=1)
    await world.publisher.move()
    (record,) = await world.records()
    headers = {k: v.encode() for k, v in json.loads(record.headers).items()}
    message = KafkaMessage(headers=headers, key=record.key.encode(), value=record.value.encode())

    event = from_kafka_event(message, JSONFormat())

    assert (event.get_id(), event.get_subject()) == (f"{task}:1", str(task))
    assert event.get_type() == "pawl.task.status_transition.v1"
    assert event.get_extension("sequence") == "1"
    assert event.get_extension("tenant") == str(TENANT)
    assert event.get_extension("traceparent") == TRACEPARENT
    assert event.get_extension("requestid") == REQUEST_ID


async def test_move_leaves_out_what_is_not_known_of_the_request(world: World) -> None:
    (task,) = await world.write_tasks(1, events=1)
    forget = f"UPDATE {WRITER}.tasks SET traceparent = NULL, request_id = '' WHERE id = %s"
    await world.ask(forget, (task,))

    await world.publisher.move()

    (record,) = await world.records()
    unknown = {"traceparent", "ce_traceparent", "ce_requestid"}
    assert not unknown & set(json.loads(record.headers))


async def test_move_of_an_empty_outbox_does_nothing(world: World) -> None:
    moved = await world.publisher.move()

    assert (moved.events, moved.is_more) == (0, False)
    assert await world.records() == []


async def test_move_is_bounded_and_says_that_there_is_more(world: World) -> None:
    await world.write_tasks(5, events=3)
    publisher = world.new_publisher(most_rows=2)

    moves = [await publisher.move() for _ in range(4)]

    assert [(m.events, m.is_more) for m in moves] == [(6, True), (6, True), (3, False), (0, False)]
    assert await world.history() == await world.written()


async def test_two_relays_and_eight_writers_keep_every_task_whole(world: World) -> None:
    relays = [Relay(world.new_publisher(), rest_seconds=0.001) for _ in range(2)]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for relay in relays:
            group.create_task(relay.run(stop))

        await write_much(world, relays, tasks=12, events=100)
        stop.set()

    assert await world.history() == await world.written()
    assert await world.outbox() == []


async def test_a_long_transaction_holds_up_its_own_task_only(world: World) -> None:
    held, other = await world.write_tasks(2, events=3)
    relay = Relay(world.publisher, rest_seconds=0.001)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    async with world.writer.connection() as slow, slow.transaction():
        await write_in(slow, held, events=1)
        behind = asyncio.create_task(world.write(held, events=2))
        await write_much(world, [relay], tasks=5, events=20)
        await world.write(other, events=1)
        relay.wake()

        async def others_are_out() -> bool:
            history = await world.history()
            written = await world.written()
            return {t: s for t, s in history.items() if t != held} == {
                t: s for t, s in written.items() if t != held
            }

        await eventually(others_are_out)
        assert (await world.history())[held] == [1, 2, 3]

    await behind
    stop.set()
    await running
    assert await world.history() == await world.written()


async def test_a_relay_killed_at_work_loses_and_reorders_nothing(world: World) -> None:
    ids = [new_id() for _ in range(6)]
    for turn in range(6):
        publisher = world.new_publisher()
        relay = Relay(publisher, rest_seconds=0.0)
        running = asyncio.create_task(relay.run(asyncio.Event()))
        for task in ids * 10:
            await world.write(task, events=1 + turn % 3)
            relay.wake()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        # As the end of a process would: its connections go, and with them its turn.
        await publisher.close()

    await world.publish_all()

    assert await world.first_history() == await world.written()
    assert await world.outbox() == []


async def test_a_relay_survives_the_loss_of_its_connections(world: World) -> None:
    relay = Relay(world.publisher, rest_seconds=0.001, look_seconds=0.05)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    await world.write_tasks(3)

    await world.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s",
        ("test-writer%",),
    )
    async with await psycopg.AsyncConnection.connect(world.owner_dsn, autocommit=True) as owner:
        owner.row_factory = psycopg.rows.dict_row  # type: ignore[assignment]
        await write_in(owner, new_id(), events=4)  # type: ignore[arg-type]

    async def all_out() -> bool:
        return await world.first_history() == await world.written()

    await eventually(all_out, timeout=10)
    stop.set()
    await running


async def test_relay_empties_the_outbox_when_it_is_stopped(world: World) -> None:
    relay = Relay(world.publisher)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    await world.write_tasks(4)

    stop.set()
    await running

    assert await world.history() == await world.written()


async def test_the_records_of_one_key_never_change_their_order(world: World) -> None:
    task = UUID(int=new_id().int)
    for _ in range(5):
        await world.write(task, events=2)
        await world.publisher.move()

    assert await world.history() == {task: list(range(1, 11))}


async def test_events_published_anew_keep_their_ids_and_come_in_order(world: World) -> None:
    task, other = await world.write_tasks(2, events=3)
    await world.publish_all()

    await world.republish(task, first=1, last=2)
    await world.republish(task, first=3, last=3)
    await world.write(task, events=1)
    await world.publish_all()

    assert await world.history() == {task: [1, 2, 3, 1, 2, 3, 4], other: [1, 2, 3]}


async def test_backlog_tells_rows_and_age(world: World) -> None:
    before = await world.publisher.backlog()
    await world.write_tasks(3, events=2)
    await world.ask(f"UPDATE {WRITER}.task_events SET at = now() - interval '1 minute'")

    waiting = await world.publisher.backlog()
    await world.publish_all()
    after = await world.publisher.backlog()

    assert (before.rows, before.oldest_age_seconds) == (0, 0)
    assert waiting.rows == 3
    assert 60 <= waiting.oldest_age_seconds < 90
    assert after == before


async def test_letters_are_read_once_per_group(world: World) -> None:
    await world.put_raw(key="k", headers={"n": "1"}, value=b"{}")
    await world.put_raw(key="k", headers={"n": "2"}, value=b"{}")
    async with world.running(world.consumer(note)):
        await eventually(world.is_read, timeout=20)

    first, second = [
        [json.loads(letter.headers)["n"] async for page in pages for letter in page]
        for pages in [world.bus.letters(group="g", schema=READER) for _ in range(2)]
    ]

    assert (sorted(first), second) == (["1", "2"], [])
