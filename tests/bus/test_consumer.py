"""Consuming: every event has its effect once, poison is put aside, outages are waited out."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence

import psycopg
from prometheus_client import REGISTRY

from libs.bus.consumer import Consumer
from libs.bus.envelope import BusEvent, UnreadableEventError, identity_of
from libs.bus.relay import Relay
from libs.bus.topics import DEAD_LETTERS, TASK_EVENTS
from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.db.engine import Connection
from tests.bus.world import READER, PostgresWorld, World, note
from tests.waiting import eventually

PROMPT_SECONDS = 3.0
"""Less than the 5 s after which a consumer looks by itself."""


async def test_consumer_gives_every_event_its_effect_once(world: World) -> None:
    await world.write_tasks(20)
    await world.publish_all()

    async with world.running(world.consumer(note)):
        await eventually(world.is_read, timeout=20)

    assert await world.effects_are_whole()


async def test_lag_is_known_while_events_cannot_be_handled_and_gone_afterwards(
    world: World,
) -> None:
    await world.write_tasks(10, events=3)
    await world.publish_all()
    held = asyncio.Event()

    async def hold(tx: Connection, event: BusEvent) -> None:
        await held.wait()
        await note(tx, event)

    def lag() -> float:
        found = REGISTRY.get_sample_value(
            "pawl_bus_lag_records", {"topic": TASK_EVENTS, "group": "test"}
        )
        return found or 0.0

    async with world.running(world.consumer(hold)):
        await eventually(lambda: lag() >= 1, timeout=20)
        held.set()
        await eventually(world.is_read, timeout=20)
        await eventually(lambda: lag() == 0)


async def test_consumer_is_woken_by_the_relay(world: World) -> None:
    relay = Relay(world.publisher)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))

    # The consumer's own look comes after 5 s, so the notification brings these.
    async with world.running(world.consumer(note)):
        for _ in range(3):
            await world.write_tasks(2)
            relay.wake()
            await eventually(world.effects_are_whole, timeout=PROMPT_SECONDS)

    stop.set()
    await running


async def test_consumer_delivers_after_its_listen_connection_was_killed(
    postgres: PostgresWorld,
) -> None:
    world = postgres

    async def listener() -> int | None:
        rows = await world.ask(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'test-wakeups'"
        )
        return int(rows[0][0]) if rows else None

    async with world.running(world.consumer(note)):
        pid = await eventually(listener)
        await world.ask("SELECT pg_terminate_backend(%s)", (pid,))
        await world.write_tasks(2)
        await world.publish_all()

        await eventually(world.effects_are_whole, timeout=4)

        async def listens_again() -> bool:
            return await listener() not in (None, pid)

        await eventually(listens_again)
        await world.write_tasks(2)
        await world.publish_all()
        await eventually(world.effects_are_whole, timeout=4)


async def test_consumer_killed_in_the_middle_of_a_batch_repeats_no_effect(world: World) -> None:
    await world.write_tasks(10)
    await world.publish_all()
    reached = asyncio.Event()
    calls: list[int] = []

    async def hang_halfway(tx: Connection, event: BusEvent) -> None:
        await note(tx, event)
        calls.append(event.sequence)
        if len(calls) == 2:
            reached.set()
            await asyncio.Event().wait()

    crashing = asyncio.create_task(world.consumer(hang_halfway).run(asyncio.Event()))
    await reached.wait()
    crashing.cancel()
    await asyncio.gather(crashing, return_exceptions=True)
    assert await world.effects() == []

    async with world.running(world.consumer(note)):
        await eventually(world.is_read, timeout=20)

    assert await world.effects_are_whole()


async def test_consumer_whose_connection_is_killed_in_a_batch_tries_it_again(world: World) -> None:
    await world.write_tasks(5)
    await world.publish_all()
    killed: list[int] = []

    async def kill_once(tx: Connection, event: BusEvent) -> None:
        await note(tx, event)
        if not killed:
            killed.append(tx.info.backend_pid)
            await world.ask("SELECT pg_terminate_backend(%s)", (tx.info.backend_pid,))

    async with world.running(world.consumer(kill_once)):
        await eventually(world.is_read, timeout=20)

    assert await world.effects_are_whole()
    assert await world.letters() == []


async def test_duplicates_have_no_second_effect(world: World) -> None:
    await world.write_tasks(4)
    await world.publish_all()
    async with world.running(world.consumer(note)):
        await eventually(world.is_read, timeout=20)
    await world.rewind()
    await world.write_tasks(1)
    await world.publish_all()

    async with world.running(world.consumer(note)):
        await eventually(world.is_read, timeout=20)

    assert await world.effects_are_whole()


async def test_a_record_twice_in_one_batch_has_one_effect(world: World) -> None:
    await world.write_tasks(1, events=2)
    await world.publish_all()
    for record in await world.records():
        await world.put_raw(
            key=record.key, headers=json.loads(record.headers), value=record.value.encode()
        )

    async with world.running(world.consumer(note)):
        await eventually(world.is_read, timeout=20)

    assert await world.effects_are_whole()


async def test_batch_is_handled_together_without_duplicates(world: World) -> None:
    batches: list[int] = []

    async def note_all(tx: Connection, events: Sequence[BusEvent]) -> None:
        batches.append(len(events))
        for event in events:
            await note(tx, event)

    await world.write_tasks(10)
    await world.publish_all()
    for record in (await world.records())[:4]:
        await world.put_raw(
            key=record.key, headers=json.loads(record.headers), value=record.value.encode()
        )

    async with world.running(world.consumer(note, together=note_all)):
        await eventually(world.is_read, timeout=20)

    assert await world.effects_are_whole()
    assert sum(batches) == 30
    assert len(batches) < 30


async def test_event_that_fails_in_a_batch_is_put_aside_alone(world: World) -> None:
    await world.write_tasks(4)
    await world.publish_all()
    bad = identity_of((await world.records())[5])

    async def note_good(tx: Connection, event: BusEvent) -> None:
        await note(tx, event)
        if (event.key, event.sequence) == bad:
            raise ValueError("this one never works")

    async def note_all(tx: Connection, events: Sequence[BusEvent]) -> None:
        for event in events:
            await note_good(tx, event)

    async with world.running(world.consumer(note_good, together=note_all)):
        await eventually(world.is_read, timeout=20)

    [letter] = await world.letters()
    assert letter["pawl_reason"] == "ValueError: this one never works"
    assert len(await world.effects()) == 11


async def test_two_members_of_a_group_share_the_work(world: World) -> None:
    relay = Relay(world.publisher, rest_seconds=0.001)
    stop = asyncio.Event()
    running = asyncio.create_task(relay.run(stop))

    async with world.running(world.consumer(note), world.consumer(note)):
        for _ in range(15):
            await world.write_tasks(5)
            relay.wake()
        stop.set()
        await running
        await eventually(world.is_read, timeout=20)

    assert await world.effects_are_whole()


async def test_two_groups_read_everything_each(world: World) -> None:
    calls: Counter[str] = Counter()

    def counting(group: str) -> Consumer:
        async def count(_tx: Connection, _event: BusEvent) -> None:
            calls[group] += 1

        return world.consumer(count, group=group)

    await world.write_tasks(3)
    await world.publish_all()
    async with world.running(counting("one"), counting("two")):
        await eventually(lambda: world.is_read("one"), timeout=20)
        await eventually(lambda: world.is_read("two"), timeout=20)

    assert calls == {"one": 9, "two": 9}


async def test_an_event_that_fails_is_put_aside_and_the_others_go_on(world: World) -> None:
    bad = (await world.write_tasks(3))[1]
    await world.publish_all()
    attempts: Counter[int] = Counter()

    async def fail_on_bad(tx: Connection, event: BusEvent) -> None:
        await note(tx, event)
        if event.key == bad and event.sequence == 2:
            attempts[event.position] += 1
            raise ValueError("cannot count this")

    async with world.running(world.consumer(fail_on_bad)):
        await eventually(world.is_read, timeout=20)

    assert list(attempts.values()) == [3]
    done = await world.effects()
    assert len(done) == 8
    assert (bad, 2) not in done
    (letter,) = await world.letters()
    assert letter["pawl_reason"] == "ValueError: cannot count this"
    assert letter["pawl_topic"] == TASK_EVENTS
    assert letter["pawl_position"] == str(*attempts)
    assert (letter["pawl_group"], letter["pawl_attempts"]) == ("test", "3")
    assert letter["ce_id"] == f"{bad}:2"


async def test_an_event_that_fails_at_first_is_tried_again(world: World) -> None:
    late = (await world.write_tasks(2))[0]
    await world.publish_all()
    attempts: Counter[int] = Counter()

    async def fail_twice(tx: Connection, event: BusEvent) -> None:
        await note(tx, event)
        if event.sequence == 2 and event.key == late:
            attempts[event.sequence] += 1
            if attempts[event.sequence] < 3:
                raise RuntimeError("not yet")

    async with world.running(world.consumer(fail_twice)):
        await eventually(world.is_read, timeout=20)

    assert attempts[2] == 3
    assert await world.effects_are_whole()
    assert await world.letters() == []


async def test_a_refused_statement_does_not_spoil_the_others_of_the_batch(world: World) -> None:
    bad = (await world.write_tasks(2))[1]
    await world.publish_all()

    async def refused(tx: Connection, event: BusEvent) -> None:
        await note(tx, event)
        if event.key == bad and event.sequence == 3:
            await tx.execute("SELECT 1/0")

    async with world.running(world.consumer(refused)):
        await eventually(world.is_read, timeout=20)

    assert len(await world.effects()) == 5
    (letter,) = await world.letters()
    assert letter["pawl_reason"].startswith("DivisionByZero")


async def test_unreadable_records_are_put_aside_at_once(world: World) -> None:
    await world.put_raw(key="no uuid", headers={}, value=b"{}")
    await world.put_raw(key=str(new_id()), headers={"a": "b"}, value=b"[1]")
    await world.write_tasks(2)
    await world.publish_all()

    async with world.running(world.consumer(note)):
        await eventually(world.is_read, timeout=20)

    assert await world.effects_are_whole()
    letters = await world.letters()
    assert [letter["pawl_attempts"] for letter in letters] == ["0", "0"]
    assert all("ce_specversion" in letter["pawl_reason"] for letter in letters)
    assert [letter.get("a") for letter in letters].count("b") == 1


async def test_data_that_the_handler_cannot_read_is_not_tried_again(world: World) -> None:
    await world.write_tasks(1, events=2)
    await world.publish_all()
    attempts: Counter[int] = Counter()

    async def unreadable(_tx: Connection, event: BusEvent) -> None:
        attempts[event.sequence] += 1
        raise UnreadableEventError("of another make")

    async with world.running(world.consumer(unreadable)):
        await eventually(world.is_read, timeout=20)

    assert attempts == {1: 1, 2: 1}
    assert len(await world.letters()) == 2


async def test_an_outage_is_not_blamed_on_the_event(world: World) -> None:
    await world.write_tasks(2)
    await world.publish_all()
    failures = [
        psycopg.OperationalError("the server is gone"),
        PawlError("unavailable", "something else is gone"),
        *(psycopg.OperationalError("still gone") for _ in range(3)),
    ]

    async def away_at_first(tx: Connection, event: BusEvent) -> None:
        if event.sequence == 3 and failures:
            raise failures.pop()
        await note(tx, event)

    async with world.running(world.consumer(away_at_first)):
        await eventually(world.is_read, timeout=20)

    assert await world.effects_are_whole()
    assert await world.letters() == []


async def test_events_that_are_not_wanted_are_passed_by(world: World) -> None:
    await world.write_tasks(2)
    await world.publish_all()
    consumer = Consumer(
        world.bus,
        pool=world.reader,
        schema=READER,
        topic=TASK_EVENTS,
        group="test",
        handler=note,
        wants=lambda event: event.sequence == 2,
    )

    async with world.running(consumer):
        await eventually(world.is_read, timeout=20)

    assert [seq for _, seq in await world.effects()] == [2, 2]


async def test_a_new_group_begins_with_the_oldest_record_kept(postgres: PostgresWorld) -> None:
    world = postgres
    await world.write_tasks(1, events=3)
    await world.publish_all()
    await world.ask("DELETE FROM bus.records WHERE position <= 2")

    async with world.running(world.consumer(note)):
        await eventually(world.is_read, timeout=20)

    assert [seq for _, seq in await world.effects()] == [3]


async def test_a_group_goes_on_behind_records_dropped_unread(postgres: PostgresWorld) -> None:
    world = postgres
    await world.write_tasks(1, events=1)
    await world.publish_all()
    async with world.running(world.consumer(note)):
        await eventually(world.is_read, timeout=20)
    await world.write_tasks(1, events=3)
    await world.publish_all()
    await world.ask("DELETE FROM bus.records WHERE position <= 3")

    async with world.running(world.consumer(note)):
        await eventually(world.is_read, timeout=20)

    assert [seq for _, seq in await world.effects()] == [1, 3]


async def test_dead_letters_keep_the_value(world: World) -> None:
    value = json.dumps({"deep": ["data", 1.5, "é"]}, ensure_ascii=False)
    await world.put_raw(key="k", headers={"a": "b"}, value=value.encode())

    async with world.running(world.consumer(note)):
        await eventually(world.is_read, timeout=20)

    (record,) = await world.all_records(DEAD_LETTERS)
    assert (record.key, record.value) == ("k", value)
    assert json.loads(record.headers)["a"] == "b"


async def test_an_event_put_aside_is_handled_when_it_is_published_anew(world: World) -> None:
    bad, other = await world.write_tasks(2, events=3)
    await world.publish_all()
    mended = False

    async def fail_at_first(tx: Connection, event: BusEvent) -> None:
        if event.key == bad and event.sequence == 2 and not mended:
            raise ValueError("cannot count this")
        await note(tx, event)

    async with world.running(world.consumer(fail_at_first)):
        await eventually(world.is_read, timeout=20)
        assert (bad, 2) not in await world.effects()
        mended = True
        for task in (bad, other):
            await world.republish(task, first=1, last=3)
        await world.publish_all()
        await eventually(world.is_read, timeout=20)
        await world.republish(bad, first=1, last=3)
        await world.publish_all()
        await eventually(world.is_read, timeout=20)

    assert await world.effects_are_whole()
    assert len(await world.letters()) == 1


async def test_an_event_put_aside_twice_is_still_handled_once(world: World) -> None:
    (task,) = await world.write_tasks(1, events=2)
    await world.publish_all()
    failures = 2 * 3

    async def fail_twice(tx: Connection, event: BusEvent) -> None:
        nonlocal failures
        if event.sequence == 1 and failures:
            failures -= 1
            raise ValueError("not yet")
        await note(tx, event)

    async with world.running(world.consumer(fail_twice)):
        for _ in range(3):
            await eventually(world.is_read, timeout=20)
            await world.republish(task, first=1, last=2)
            await world.publish_all()
        await eventually(world.is_read, timeout=20)

    assert await world.effects_are_whole()
    assert len(await world.letters()) == 2


async def test_an_unreadable_copy_of_an_event_does_not_take_its_place(world: World) -> None:
    (task,) = await world.write_tasks(1, events=1)
    await world.publish_all()
    (good,) = await world.records()
    headers = json.loads(good.headers)
    for sequence in ("1", "2", "7"):
        await world.put_raw(
            key=good.key, headers=headers | {"ce_sequence": sequence}, value=b"cut off {"
        )
    await world.write(task, events=2)
    await world.publish_all()

    async with world.running(world.consumer(note)):
        await eventually(world.is_read, timeout=20)
        await world.republish(task, first=1, last=3)
        await world.publish_all()
        await eventually(world.is_read, timeout=20)

    assert await world.effects_are_whole()
    assert len(await world.letters()) == 3
