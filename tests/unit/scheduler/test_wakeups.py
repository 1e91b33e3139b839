"""Who is woken by what."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest

from services.scheduler.wakeups import CHANNEL, MOST_IDS, Signals
from tests.waiting import eventually

A, B = UUID(int=1), UUID(int=2)


class Wire:
    """Takes down what is announced; fails as often as it is told to."""

    def __init__(self) -> None:
        self.payloads: list[str] = []
        self.failures = 0

    async def announce(self, channel: str, payload: str) -> None:
        assert channel == CHANNEL
        if self.failures:
            self.failures -= 1
            raise psycopg.OperationalError("away")
        self.payloads.append(payload)


def make_signals(wire: Wire) -> Signals:
    return Signals(uuid4(), announce=wire.announce)


async def test_commit_wakes_those_who_wait_for_the_task_and_no_others() -> None:
    signals = make_signals(Wire())
    with (
        signals.changed.flag(A) as changed,
        signals.ended.flag(A) as ended,
        signals.changed.flag(B) as other,
    ):
        signals.committed(changed=[A])
        assert await changed.wait(0)
        assert not await ended.wait(0)

        changed.clear()
        signals.committed(ended=[A])
        assert await changed.wait(0)
        assert await ended.wait(0)
        assert not await other.wait(0)


async def test_every_commit_wakes_the_relay() -> None:
    signals, woken = make_signals(Wire()), []
    signals.on_commit(lambda: woken.append(1))

    signals.committed()
    signals.committed(changed=[A])

    assert len(woken) == 2


async def test_what_one_scheduler_tells_another_hears() -> None:
    wire = Wire()
    here, there = make_signals(wire), make_signals(Wire())
    looks: list[str] = []
    here.on_queue(lambda: looks.append("here"))
    there.on_queue(lambda: looks.append("there"))
    stop = asyncio.Event()
    telling = asyncio.create_task(here.run(stop))
    with there.ended.flag(A) as ended, there.changed.flag(B) as changed:
        here.committed(changed=[B], ended=[A])
        here.work_waits()
        await eventually(lambda: len(wire.payloads) == 3)
        for payload in wire.payloads:
            here.heard(payload)
            there.heard(payload)

        assert await ended.wait(0)
        assert await changed.wait(0)
    assert looks == ["there"]
    stop.set()
    await telling


async def test_many_ids_travel_in_payloads_below_the_limit() -> None:
    wire = Wire()
    signals = make_signals(wire)
    stop = asyncio.Event()
    telling = asyncio.create_task(signals.run(stop))
    ids = {UUID(int=n) for n in range(1, 2 * MOST_IDS + 2)}

    signals.committed(changed=ids)

    await eventually(lambda: len(wire.payloads) == 3)
    assert all(len(payload) < 8000 for payload in wire.payloads)
    told = {UUID(text) for payload in wire.payloads for text in orjson.loads(payload)["changed"]}
    assert told == ids
    stop.set()
    await telling


async def test_what_could_not_be_told_makes_the_others_look_at_everything() -> None:
    wire = Wire()
    wire.failures = 1
    here, there = make_signals(wire), make_signals(Wire())
    stop = asyncio.Event()
    telling = asyncio.create_task(here.run(stop))

    here.committed(changed=[A])

    await eventually(lambda: wire.payloads)
    with there.changed.flag(A) as changed:
        there.heard(wire.payloads[0])
        assert await changed.wait(0)
    stop.set()
    await telling


async def test_missed_or_unreadable_notifications_wake_everybody() -> None:
    signals = make_signals(Wire())
    looks: list[int] = []
    signals.on_queue(lambda: looks.append(1))
    for payload in (None, "nonsense", "[]", '{"by":"x","ended":["no id"]}'):
        with signals.ended.flag(A) as flag:
            signals.heard(payload)
            assert await flag.wait(0)
    assert len(looks) == 4


@pytest.mark.parametrize("by", ["hearing", "counting"])
async def test_who_was_alone_makes_others_look_up_what_was_not_told(by: str) -> None:
    wire = Wire()
    signals = make_signals(wire)
    stop = asyncio.Event()
    running = asyncio.create_task(signals.run(stop))
    quiet_for(signals)
    signals.peers(1)

    signals.committed(changed=[A], ended=[A])
    await asyncio.sleep(0.05)
    assert not wire.payloads
    if by == "hearing":
        signals.heard(orjson.dumps({"by": "another", "hello": True}).decode())
    else:
        signals.peers(2)
    await eventually(lambda: len(wire.payloads) == 1)
    signals.committed(ended=[B])
    await eventually(lambda: len(wire.payloads) == 2)
    stop.set()
    await running

    told = [orjson.loads(one) for one in wire.payloads]
    assert (told[0]["all"], told[1]["ended"]) == (True, [str(B)])


async def test_peer_that_was_just_heard_counts_though_it_was_not_counted() -> None:
    signals = make_signals(Wire())
    signals.heard(orjson.dumps({"by": "another", "hello": True}).decode())

    signals.peers(1)

    assert not signals.is_alone


async def test_connecting_says_hello_even_when_alone() -> None:
    wire = Wire()
    signals = make_signals(wire)
    stop = asyncio.Event()
    running = asyncio.create_task(signals.run(stop))
    quiet_for(signals)
    signals.peers(1)

    signals.heard(None)
    await eventually(lambda: wire.payloads)
    stop.set()
    await running

    assert [orjson.loads(one).get("hello") for one in wire.payloads] == [True]


async def test_orders_to_stop_travel_with_their_tokens() -> None:
    wire = Wire()
    here, there = make_signals(wire), make_signals(Wire())
    stopped: list[object] = []
    there.on_cancel(lambda ids: stopped.append(sorted(ids)))
    there.on_revoke(lambda tokens: stopped.append(dict(tokens)))
    stop = asyncio.Event()
    running = asyncio.create_task(here.run(stop))

    here.cancelling([A])
    here.revoked({A: 3, B: 12})
    await eventually(lambda: len(wire.payloads) == 2)
    stop.set()
    await running
    for payload in wire.payloads:
        there.heard(payload)

    assert stopped == [[A], {A: 3, B: 12}]


async def test_changes_wait_for_one_another_and_ends_for_nothing() -> None:
    wire = Wire()
    signals = make_signals(wire)
    stop = asyncio.Event()
    running = asyncio.create_task(signals.run(stop))
    signals.committed(changed=[A])
    await eventually(lambda: len(wire.payloads) == 1)

    signals.committed(changed=[A])
    signals.committed(changed=[B])
    signals.committed(ended=[B])
    await eventually(lambda: len(wire.payloads) >= 3)
    stop.set()
    await running

    told = [orjson.loads(one) for one in wire.payloads]
    assert sorted(told[1]["changed"]) == sorted([str(A), str(B)])
    assert told[2]["ended"] == [str(B)]
    assert len(told) == 3


def quiet_for(signals: Signals) -> None:
    """As if nobody had been heard for long."""
    signals._heard_at = -1e9
