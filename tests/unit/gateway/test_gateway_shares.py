"""What one tenant may take of the gateway: requests at once, bytes of bodies, bad keys."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from gateway.bad_keys import BadKeys
from gateway.permits import LastSecond
from gateway.shares import MAX_WAITING, SMALL_BYTES, BodySpace, InFlight, Load, share_of
from libs.core.errors import PawlError
from tests.waiting import eventually

MIB = 2**20


def space(*, most: int = 4 * MIB, of_tenant: int = MIB, wait: float = 5.0) -> BodySpace:
    return BodySpace(most_bytes=most, most_of_tenant=of_tenant, wait_seconds=wait)


@pytest.mark.parametrize(("whole", "share"), [(1000, 250), (7, 1), (1, 1), (64 * MIB, 16 * MIB)])
def test_a_share_is_a_quarter_and_never_nothing(whole: int, share: int) -> None:
    assert share_of(whole) == share


def test_a_tenant_has_so_many_requests_at_once() -> None:
    in_flight = InFlight(most=2)
    leave = [in_flight.enter("a") for _ in range(2)]

    with pytest.raises(PawlError) as caught:
        in_flight.enter("a")
    in_flight.enter("b")
    leave[0]()
    in_flight.enter("a")

    assert caught.value.code == "rate_limited"
    assert caught.value.retry_after_seconds == 1
    assert "2 of this tenant" in caught.value.message
    assert (in_flight.of("a"), in_flight.of("b")) == (2, 1)


def test_who_has_left_is_forgotten() -> None:
    in_flight = InFlight(most=2)

    in_flight.enter("a")()

    assert in_flight.of("a") == 0
    assert not in_flight._counts


async def test_a_body_waits_until_there_is_space_for_it() -> None:
    bodies = space(of_tenant=MIB)
    release = await bodies.take("a", MIB)
    waiting = asyncio.create_task(bodies.take("a", MIB))
    await asyncio.sleep(0)

    assert not waiting.done()
    release()
    await waiting

    assert bodies.held_bytes == MIB


async def test_nobody_waits_behind_a_tenant_that_has_its_share() -> None:
    bodies = space()
    await bodies.take("a", MIB)
    waiting = asyncio.create_task(bodies.take("a", MIB))
    await asyncio.sleep(0)

    async with asyncio.timeout(1):
        await bodies.take("b", MIB)

    assert not waiting.done()
    waiting.cancel()


async def test_all_tenants_together_have_a_bound() -> None:
    bodies = space(most=2 * MIB, wait=0.01)
    release = await bodies.take("a", MIB)
    await bodies.take("b", MIB)

    with pytest.raises(PawlError) as caught:
        await bodies.take("c", MIB)
    release()
    await bodies.take("c", MIB)

    assert caught.value.code == "unavailable"
    assert caught.value.retry_after_seconds == 1
    assert bodies.held_bytes == 2 * MIB


async def test_releasing_twice_gives_back_once() -> None:
    bodies = space()
    await bodies.take("b", 5)
    release = await bodies.take("a", 7)

    release()
    release()

    assert bodies.held_bytes == 5


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    bodies = space()
    release = await bodies.take("a", MIB)
    waiting = [asyncio.create_task(bodies.take("a", MIB)) for _ in range(2)]
    await asyncio.sleep(0)

    # One is given up while it waits, the other just when it is its turn.
    waiting[0].cancel()
    await asyncio.sleep(0)
    release()
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    assert bodies.held_bytes == 0
    assert not bodies._waiting


async def test_only_so_many_wait() -> None:
    bodies = space(of_tenant=1)
    await bodies.take("a", 1)
    waiting = [asyncio.create_task(bodies.take("a", 1)) for _ in range(MAX_WAITING)]
    await eventually(lambda: len(bodies._waiting) == MAX_WAITING)

    with pytest.raises(PawlError) as caught:
        await bodies.take("a", 1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    assert caught.value.code == "unavailable"


async def test_what_is_larger_than_a_share_goes_alone() -> None:
    bodies = space(most=10, of_tenant=2, wait=0.01)

    release = await bodies.take("a", 20)
    with pytest.raises(PawlError):
        await bodies.take("b", 1)
    release()
    await bodies.take("b", 1)


def test_load_gives_a_tenant_a_quarter() -> None:
    load = Load.of(max_in_flight=8, max_body_bytes=8 * MIB)

    for _ in range(2):
        load.in_flight.enter("a")
    with pytest.raises(PawlError):
        load.in_flight.enter("a")

    assert SMALL_BYTES < MIB


class StillClock:
    """Stands until moved."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        raise NotImplementedError


def try_bad(bad: BadKeys, source: tuple[str, str]) -> PawlError:
    with pytest.raises(PawlError) as caught, bad.trying(source):
        raise PawlError("unauthenticated", "no")
    return caught.value


def test_bad_keys_come_back_by_the_second() -> None:
    clock = StillClock()
    bad = BadKeys(clock=clock)
    source = ("10.0.0.1", "unknown")

    first = [try_bad(bad, source).code for _ in range(500)]
    other_kind = try_bad(bad, ("10.0.0.1", "malformed"))
    clock.seconds = 0.25
    early = try_bad(bad, source)
    clock.seconds = 3.0
    later = [try_bad(bad, source).code for _ in range(4)]

    assert first == ["unauthenticated"] * 50 + ["rate_limited"] * 450
    assert other_kind.code == "unauthenticated"
    assert early.code == "rate_limited"
    assert early.retry_after_seconds == pytest.approx(1.0)
    # However many were tried, who pauses for some seconds is answered again.
    assert later == ["unauthenticated"] * 3 + ["rate_limited"]


def test_other_refusals_are_no_bad_keys() -> None:
    bad = BadKeys(clock=StillClock())

    with pytest.raises(PawlError) as caught, bad.trying(("10.0.0.1", "unknown")):
        raise PawlError("unavailable", "away")
    with bad.trying(("10.0.0.1", "unknown")):
        pass

    assert caught.value.code == "unavailable"
    assert bad.sources == 0


def test_bad_keys_of_many_addresses_do_not_fill_the_memory() -> None:
    clock = StillClock()
    bad = BadKeys(clock=clock, max_sources=10)

    for number in range(25):
        try_bad(bad, (str(number), "unknown"))
    crowded = bad.sources
    clock.seconds = 5.0
    try_bad(bad, ("later", "unknown"))

    assert crowded == 10
    assert bad.sources == 1


def test_the_last_second_is_counted_to_a_quarter() -> None:
    uses = LastSecond()
    for tenth in range(20):
        uses.add(100 + tenth / 10)

    counts = [uses.count(102.0), uses.count(102.5), uses.count(103.0)]

    assert 7 <= counts[0] <= 10
    assert 0 < counts[1] < counts[0]
    assert counts[2] == 0
    assert LastSecond().count(5.0) == 0


def test_a_long_pause_forgets_all_uses() -> None:
    uses = LastSecond()
    uses.add(1.0)

    assert uses.count(1_000_000.0) == 0
