from __future__ import annotations

import asyncio

import psycopg
import pytest
from prometheus_client import REGISTRY

from libs.bus.bus import Backlog, Moved
from libs.bus.relay import Relay
from libs.core.errors import PawlError
from tests.waiting import eventually


class FakePublisher:
    """Publishes what the test put into `waiting`, at most `most` per run."""

    def __init__(self, *, most: int = 100) -> None:
        self.waiting = 0
        self.published = 0
        self.runs = 0
        self.drops = 0
        self.failures: list[Exception] = []
        self._most = most

    async def move(self) -> Moved:
        self.runs += 1
        if self.failures:
            raise self.failures.pop()
        events = min(self.waiting, self._most)
        self.waiting -= events
        self.published += events
        return Moved(events=events, oldest_age_seconds=0.0, is_more=events == self._most)

    async def backlog(self) -> Backlog:
        return Backlog(rows=self.waiting, oldest_age_seconds=0.5 * self.waiting)

    async def drop_expired(self) -> int:
        self.drops += 1
        return 0

    async def close(self) -> None:
        """Nothing to close."""


async def stopped(running: asyncio.Task[None], stop: asyncio.Event) -> None:
    stop.set()
    await asyncio.wait_for(running, 2)


async def test_relay_runs_when_it_is_woken() -> None:
    publisher, stop = FakePublisher(), asyncio.Event()
    relay = Relay(publisher, look_seconds=60)
    running = asyncio.create_task(relay.run(stop))
    await eventually(lambda: publisher.runs == 1)

    publisher.waiting = 3
    relay.wake()

    await eventually(lambda: publisher.published == 3)
    await stopped(running, stop)


async def test_relay_keeps_a_wake_that_comes_while_it_runs() -> None:
    class Late(FakePublisher):
        async def move(self) -> Moved:
            moved = await super().move()
            if self.runs == 1:
                self.waiting = 1
                relay.wake()
            return moved

    publisher, stop = Late(), asyncio.Event()
    relay = Relay(publisher, look_seconds=60)
    running = asyncio.create_task(relay.run(stop))

    await eventually(lambda: publisher.published == 1)

    await stopped(running, stop)


async def test_relay_takes_a_backlog_run_after_run() -> None:
    publisher, stop = FakePublisher(most=10), asyncio.Event()
    publisher.waiting = 95
    running = asyncio.create_task(Relay(publisher, look_seconds=60).run(stop))

    await eventually(lambda: publisher.published == 95)

    await stopped(running, stop)


async def test_relay_looks_without_being_woken() -> None:
    publisher, stop = FakePublisher(), asyncio.Event()
    running = asyncio.create_task(Relay(publisher, look_seconds=0.01).run(stop))

    await eventually(lambda: publisher.runs >= 3)

    await stopped(running, stop)


async def test_relay_goes_on_after_an_outage() -> None:
    publisher, stop = FakePublisher(), asyncio.Event()
    publisher.failures = [psycopg.OperationalError("away"), psycopg.OperationalError("away")]
    publisher.waiting = 2
    running = asyncio.create_task(Relay(publisher, look_seconds=60).run(stop))

    await eventually(lambda: publisher.published == 2)

    await stopped(running, stop)


async def test_relay_does_not_hide_a_mistake() -> None:
    publisher = FakePublisher()
    publisher.failures = [psycopg.errors.UndefinedTable("no such table")]

    with pytest.raises(psycopg.errors.UndefinedTable):
        await Relay(publisher).run(asyncio.Event())


async def test_relay_publishes_once_more_when_it_is_stopped() -> None:
    publisher, stop = FakePublisher(), asyncio.Event()
    running = asyncio.create_task(Relay(publisher, look_seconds=60).run(stop))
    await eventually(lambda: publisher.runs == 1)
    publisher.waiting = 1

    await stopped(running, stop)

    assert publisher.published == 1


async def test_relay_stops_although_the_last_run_fails() -> None:
    publisher, stop = FakePublisher(), asyncio.Event()
    running = asyncio.create_task(Relay(publisher, look_seconds=60).run(stop))
    await eventually(lambda: publisher.runs == 1)
    publisher.failures = [psycopg.OperationalError("away")]

    await stopped(running, stop)


async def test_relay_drops_expired_records_when_it_is_time() -> None:
    publisher, stop = FakePublisher(), asyncio.Event()
    relay = Relay(publisher, look_seconds=0.01, drop_every_seconds=0.02)
    running = asyncio.create_task(relay.run(stop))

    await eventually(lambda: publisher.drops >= 2)

    await stopped(running, stop)


def gauge(name: str) -> float | None:
    return REGISTRY.get_sample_value(name)


async def test_relay_tells_how_much_waits_while_it_cannot_publish() -> None:
    publisher, stop = FakePublisher(), asyncio.Event()
    publisher.failures = [PawlError("unavailable", "the bus is away")] * 3
    publisher.waiting = 4
    seen: list[tuple[float | None, float | None]] = []
    relay = Relay(publisher, look_seconds=60)
    running = asyncio.create_task(relay.run(stop))
    await eventually(lambda: gauge("pawl_outbox_rows") == 4)
    seen.append((gauge("pawl_outbox_rows"), gauge("pawl_outbox_age_seconds")))

    await eventually(lambda: publisher.published == 4)
    await eventually(lambda: gauge("pawl_outbox_rows") == 0)

    seen.append((gauge("pawl_outbox_rows"), gauge("pawl_outbox_age_seconds")))
    await stopped(running, stop)
    assert seen == [(4, 2.0), (0, 0)]
