"""Publishing: every event once, in order, whatever happens to the relays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from cloudevents.core.formats.json import JSONFormat
from psycopg import errors

from libs.bus.envelope import decode, read_task_event
from libs.bus.postgres import PostgresPublisher
from libs.bus.relay import Relay
from libs.bus.topics import DEAD_LETTERS, TASK_EVENTS
from libs.core.ids import new_id
from libs.db.queries import load_queries
from tests.servers import Database
from tests.store.bus_world import (
    READER,
    TENANT,
    TRACEPARENT,
    WRITER,
    World,
    bus_world,
    write_in,
)
from tests.waiting import eventually


@pytest_asyncio.fixture
async def world(database: Database) -> AsyncIterator[World]:
    async with bus_world(database) as world:
        yield world


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
    assert [(e.key, e.sequence, e.position, e.id) for e in events] == [
        (task, 1, 1, f"{task}:1"),
        (task, 2, 2, f"{task}:2"),
    ]
    first = events[0]
    assert (first.type, first.source) == ("pawl.task.status_transition.v1", "/pawl/scheduler")
    assert (first.subject, first.tenant_id) == (str(task), TENANT)
    assert first.traceparent == TRACEPARENT
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


async def test_move_leaves_out_a_traceparent_that_is_not_known(world: World) -> None:
    (task,) = await world.write_tasks(1, events=1)
    await world.ask(f"UPDATE {WRITER}.tasks SET traceparent = NULL WHERE id = %s", (task,))

    await world.publisher.move()

    (record,) = await world.records()
    assert "traceparent" not in json.loads(record.headers)


async def test_move_of_an_empty_outbox_does_nothing(world: World) -> None:
    moved = await world.publisher.move()

    assert (moved.events, moved.is_more) == (0, False)
    assert await world.bus.last_position(TASK_EVENTS) == 0


async def test_move_is_bounded_and_says_that_there_is_more(world: World) -> None:
    await world.write_tasks(5, events=3)
    publisher = PostgresPublisher(world.writer, schema=WRITER, most_rows=2)

    moves = [await publisher.move() for _ in range(4)]

    assert [(m.events, m.is_more) for m in moves] == [(6, True), (6, True), (3, False), (0, False)]
    assert await world.history() == await world.written()


async def test_read_pages_through_a_topic(world: World) -> None:
    await world.write_tasks(3, events=2)
    await world.publisher.move()

    pages = [await world.bus.read(TASK_EVENTS, after, 4) for after in (0, 4, 6)]

    assert [[r.position for r in page] for page in pages] == [[1, 2, 3, 4], [5, 6], []]
    assert await world.bus.last_position(TASK_EVENTS) == 6


async def test_last_position_of_an_unknown_topic_is_refused(world: World) -> None:
    with pytest.raises(KeyError, match=r"pawl\.other"):
        await world.bus.last_position("pawl.other")


async def test_two_relays_and_eight_writers_keep_every_task_whole(world: World) -> None:
    relays = [Relay(world.publisher, rest_seconds=0.001) for _ in range(2)]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for relay in relays:
            group.create_task(relay.run(stop))

        await write_much(world, relays, tasks=12, events=100)
        stop.set()

    assert await world.history() == await world.written()
    assert await world.ask(f"SELECT * FROM {WRITER}.outbox") == []


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


async def test_a_relay_killed_between_runs_loses_and_repeats_nothing(world: World) -> None:
    writing = asyncio.create_task(write_much(world, [], tasks=6, events=60))
    while not writing.done():
        relay = Relay(world.publisher, rest_seconds=0.0)
        running = asyncio.create_task(relay.run(asyncio.Event()))
        before = await world.bus.last_position(TASK_EVENTS)
        for _ in range(1000):
            relay.wake()
            if writing.done() or await world.bus.last_position(TASK_EVENTS) > before:
                break
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await writing

    await world.publish_all()

    assert await world.history() == await world.written()


async def test_a_relay_survives_the_loss_of_its_connections(world: World) -> None:
    relay = Relay(world.publisher, rest_seconds=0.001, look_seconds=0.05)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    await world.write_tasks(3)

    await world.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
        ("test-writer",),
    )
    async with await psycopg.AsyncConnection.connect(world.owner_dsn, autocommit=True) as owner:
        owner.row_factory = psycopg.rows.dict_row  # type: ignore[assignment]
        await write_in(owner, new_id(), events=4)  # type: ignore[arg-type]

    async def all_out() -> bool:
        return await world.history() == await world.written()

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


async def test_drop_expired_drops_only_what_is_old(world: World) -> None:
    await world.write_tasks(4, events=1)
    await world.publisher.move()
    await world.ask("UPDATE bus.records SET at = now() - interval '8 days' WHERE position <= 3")

    dropped = await world.publisher.drop_expired()

    assert dropped == 3
    assert [r.position for r in await world.records()] == [4]


async def test_consumer_roles_write_dead_letters_and_nothing_else(world: World) -> None:
    headers, value = '{"pawl_reason":"it hurt"}', "{}"
    async with world.reader.connection() as connection:
        await connection.execute("SELECT bus.dead_letter(%s, %s, %s)", ("k", headers, value))
        with pytest.raises(errors.InsufficientPrivilege):
            await connection.execute(
                "INSERT INTO bus.records (topic, position, key, headers, value)"
                " VALUES ('pawl.task.events.v1', 1, 'k', '{}', '{}')"
            )
        with pytest.raises(errors.InsufficientPrivilege):
            await connection.execute("UPDATE bus.topics SET last_position = 9")
        with pytest.raises(errors.InsufficientPrivilege):
            await connection.execute("SELECT bus.task_state(gen_random_uuid())")

    letters = await world.bus.read(DEAD_LETTERS, 0, 10)
    assert [(letter.key, letter.headers) for letter in letters] == [("k", headers)]


async def test_writer_roles_cannot_change_a_record(world: World) -> None:
    async with world.writer.connection() as connection:
        with pytest.raises(errors.InsufficientPrivilege):
            await connection.execute("UPDATE bus.records SET value = '{}'")


async def test_every_statement_can_be_prepared(world: World) -> None:
    queries = load_queries(Path("libs/bus/queries.sql"))
    async with await psycopg.AsyncConnection.connect(world.owner_dsn, autocommit=True) as owner:
        for name in queries:
            block = queries.block(name)
            schema = WRITER if "{schema}.outbox" in block.text else READER
            text = block.text.replace("{schema}", schema)
            for number, parameter in enumerate(block.parameters, start=1):
                text = text.replace(f"%({parameter})s", f"${number}")
            await owner.execute(f"PREPARE {name} AS {text}".encode())


async def test_the_records_of_one_key_never_change_their_order(world: World) -> None:
    task = UUID(int=new_id().int)
    for _ in range(5):
        await world.write(task, events=2)
        await world.publisher.move()

    assert await world.history() == {task: list(range(1, 11))}
