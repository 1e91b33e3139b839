from __future__ import annotations

import asyncio

import psycopg
import pytest

from libs.core.errors import PawlError
from libs.db.outage import LONGEST_PAUSE_SECONDS, Outage, is_outage, pause
from libs.db.wakeups import Wakeup, Wakeups
from libs.process.logs import get_logger


async def test_wakeup_keeps_what_was_said_before_the_wait() -> None:
    wakeup = Wakeup()
    wakeup.set()

    assert await wakeup.wait(0)
    wakeup.clear()
    assert not await wakeup.wait(0)


async def test_wakeup_ends_a_wait() -> None:
    wakeup = Wakeup()
    waiting = asyncio.create_task(wakeup.wait(10))
    await asyncio.sleep(0)

    wakeup.set()

    assert await waiting


def test_wakeups_refuse_a_channel_that_they_do_not_hear() -> None:
    wakeups = Wakeups("", name="test", channels=["a"])

    with pytest.raises(KeyError), wakeups.wakeup("b"):
        pass


async def test_pause_ends_when_stopped() -> None:
    stop = asyncio.Event()
    stop.set()

    await asyncio.wait_for(pause(stop, 60), 1)


def test_outage_pauses_longer_and_longer_up_to_a_bound() -> None:
    outage = Outage(get_logger("test"), "test")
    error = psycopg.OperationalError("away")

    pauses = [outage.failed(error) for _ in range(40)]

    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    outage.over()
    assert outage.failed(error) == 0.1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.OperationalError(), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.InterfaceError(), True),
        (PawlError("unavailable", "away"), True),
        (PawlError("conflict", "no"), False),
        (psycopg.errors.UniqueViolation(), False),
        (psycopg.errors.UndefinedTable(), False),
        (ValueError(), False),
    ],
)
def test_is_outage_tells_what_is_away_from_what_is_wrong(error: Exception, expected: bool) -> None:
    assert is_outage(error) is expected


async def test_a_wait_is_cancelled_though_its_flag_comes_up_at_that_moment() -> None:
    flag = Wakeup()
    waiting = asyncio.create_task(flag.wait(60))
    await asyncio.sleep(0)

    flag.set()
    waiting.cancel()
    await asyncio.wait({waiting})

    assert waiting.cancelled()


async def test_a_pause_is_cancelled_though_the_stop_comes_at_that_moment() -> None:
    stop = asyncio.Event()
    pausing = asyncio.create_task(pause(stop, 60))
    await asyncio.sleep(0)

    stop.set()
    pausing.cancel()
    await asyncio.wait({pausing})

    assert pausing.cancelled()
