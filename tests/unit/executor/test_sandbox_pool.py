"""The pool: one guest per piece of code, made ahead; what becomes of bad guests and bad times."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from libs.core.errors import FailureCode, StepFailed
from services.executor.sandbox.model import (
    CodeRequest,
    Death,
    FrameRefused,
    SandboxUnavailable,
)
from services.executor.sandbox.pool import PooledSandbox, PoolSize
from tests.sandbox_fakes import IDENTITY, FakeBackend
from tests.waiting import eventually

QUICK = PoolSize(guests=2, starting=2, retry_seconds=0.001, longest_retry_seconds=0.005)


class World:
    def __init__(self) -> None:
        self.backend = FakeBackend()
        self.boot = "b1"
        self.now = 100.0

    @asynccontextmanager
    async def pool(self, size: PoolSize = QUICK) -> AsyncIterator[PooledSandbox]:
        pool = PooledSandbox(
            self.backend,
            identity=IDENTITY,
            boot_id=lambda: self.boot,
            size=size,
            monotonic=lambda: self.now,
        )
        try:
            yield pool
        finally:
            await pool.close()

    async def filled(self, count: int) -> None:
        await eventually(lambda: len(self.backend.guests) >= count)


@pytest.fixture
async def world() -> World:
    return World()


def request(code: str = "c", **changes: Any) -> CodeRequest:
    plain: dict[str, Any] = {"input_json": "null", "seed": 1, "now": 0.0, "wall_seconds": 5.0}
    return CodeRequest(code=code, **{**plain, **changes})


async def refused(pool: PooledSandbox, asked: CodeRequest | None = None) -> StepFailed:
    with pytest.raises(StepFailed) as failed:
        await pool.run(asked or request())
    return failed.value


async def test_every_piece_of_code_has_a_guest_of_its_own_that_is_removed(world: World) -> None:
    async with world.pool() as pool:
        results = [(await pool.run(request(f"c{n}"))).result_json for n in range(7)]

    assert results == [f'"c{n}"' for n in range(7)]
    assert all(len(guest.asked) <= 1 for guest in world.backend.guests)
    assert all(guest.is_removed for guest in world.backend.guests)
    assert world.backend.is_closed


async def test_guests_are_made_ahead_some_at_a_time(world: World) -> None:
    async with world.pool(PoolSize(guests=6, starting=2)):
        await world.filled(6)
        await asyncio.sleep(0.01)

        assert len(world.backend.guests) == 6
        assert world.backend.most_at_once == 2


async def test_without_a_guest_ready_one_is_made(world: World) -> None:
    async with world.pool() as pool:
        results = await asyncio.gather(*(pool.run(request(f"c{n}")) for n in range(20)))

    assert [one.result_json for one in results] == [f'"c{n}"' for n in range(20)]
    assert world.backend.most_at_once == 2


async def test_code_that_waits_gets_the_first_guest_that_is_ready(world: World) -> None:
    world.backend.starting.clear()
    async with world.pool() as pool:
        await eventually(lambda: world.backend.at_once == 2)
        running = asyncio.create_task(pool.run(request("waits")))
        await asyncio.sleep(0)
        world.backend.starting.set()
        await running

        assert [asked["code"] for asked in world.backend.guests[0].asked] == ["waits"]


async def test_what_code_spends_is_told_without_the_wait_for_a_guest(world: World) -> None:
    told: list[float] = []
    world.backend.starting.clear()
    world.backend.answering.clear()
    async with world.pool(PoolSize(guests=1, starting=1)) as pool:
        running = asyncio.create_task(pool.run(request(), spent=told.append))
        await eventually(lambda: world.backend.at_once == 1)
        world.now += 30
        world.backend.starting.set()
        await eventually(lambda: world.backend.guests and world.backend.guests[0].asked)
        world.now += 0.25
        world.backend.answering.set()
        await running

    assert told == [0.25]


async def test_what_killed_code_spent_is_told(world: World) -> None:
    told: list[float] = []
    world.backend.answering.clear()
    async with world.pool() as pool:
        running = asyncio.create_task(pool.run(request(), spent=told.append))
        await eventually(lambda: any(guest.asked for guest in world.backend.guests))
        world.now += 2
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert told == [2]


async def test_code_that_never_had_a_guest_spent_nothing(world: World) -> None:
    told: list[float] = []
    world.backend.broken = "no"
    async with world.pool() as pool:
        with pytest.raises(StepFailed):
            await pool.run(request(), spent=told.append)

    assert told == []


async def test_what_code_no_longer_waits_for_goes_to_other_code(world: World) -> None:
    world.backend.starting.clear()
    async with world.pool(PoolSize(guests=1, starting=1)) as pool:
        await eventually(lambda: world.backend.at_once == 1)
        gone, late, stays = (
            asyncio.create_task(pool.run(request(code))) for code in ("gone", "late", "stays")
        )
        await asyncio.sleep(0)
        gone.cancel()
        world.backend.starting.set()
        while not world.backend.guests:
            await asyncio.sleep(0)
        # It has been given the guest, and does not know it yet.
        late.cancel()
        await stays

    assert [asked["code"] for asked in world.backend.guests[0].asked] == ["stays"]
    assert gone.cancelled()
    assert late.cancelled()


async def test_a_guest_is_replaced_after_a_rest_but_the_last_at_once(world: World) -> None:
    async with world.pool(PoolSize(guests=2, starting=2, rest_seconds=3600)) as pool:
        await world.filled(2)
        await pool.run(request())
        await asyncio.sleep(0.01)
        assert world.backend.tries == 2

        await pool.run(request())
        await world.filled(4)
    async with world.pool(PoolSize(guests=2, starting=2, rest_seconds=0.01)) as pool:
        await world.filled(6)
        await pool.run(request())
        await world.filled(7)


async def test_all_code_that_waits_is_told_when_no_guest_can_be_made(world: World) -> None:
    world.backend.starting.clear()
    size = PoolSize(guests=1, starting=1, most_failures=1)
    async with world.pool(size) as pool:
        waiting = [asyncio.create_task(refused(pool)) for _ in range(3)]
        await asyncio.sleep(0)
        world.backend.broken = "no engine"
        world.backend.starting.set()

        failed = await asyncio.gather(*waiting)

    assert [one.code for one in failed] == [FailureCode.SANDBOX_UNAVAILABLE] * 3
    assert world.backend.tries == 1


async def test_code_that_waits_when_the_pool_closes_is_told(world: World) -> None:
    world.backend.starting.clear()
    async with world.pool() as pool:
        waiting = asyncio.create_task(refused(pool))
        await asyncio.sleep(0)

    assert (await waiting).code is FailureCode.SANDBOX_UNAVAILABLE


async def test_an_unhealthy_pool_refuses_at_once_and_recovers(world: World) -> None:
    world.backend.broken = "no engine"
    async with world.pool() as pool:
        await eventually(lambda: not pool.is_healthy)
        failed = await refused(pool)
        world.backend.broken = ""
        await eventually(lambda: pool.is_healthy)

        assert (await pool.run(request())).result_json == '"c"'

    assert failed.code is FailureCode.SANDBOX_UNAVAILABLE
    assert "nothing of it was run" in failed.message


async def test_a_guest_that_cannot_be_made_is_unavailable_and_said_why(world: World) -> None:
    world.backend.starting.clear()
    async with world.pool() as pool:
        running = asyncio.create_task(refused(pool))
        await asyncio.sleep(0)
        world.backend.broken = "disk full"
        world.backend.starting.set()

        failed = await running

    assert failed.code is FailureCode.SANDBOX_UNAVAILABLE
    assert "disk full" in failed.message


async def test_code_that_gets_no_answer_in_time_is_ended_from_outside(world: World) -> None:
    world.backend.answering.clear()
    async with world.pool(PoolSize(guests=1, grace_seconds=0.02)) as pool:
        failed = await refused(pool, request(wall_seconds=0.01))
        (asked,) = [guest for guest in world.backend.guests if guest.asked]

        assert asked.is_removed
    assert (failed.code, failed.reason) == (FailureCode.TIMEOUT, "WALL")


async def test_a_cancelled_run_ends_only_when_its_guest_is_gone(world: World) -> None:
    world.backend.answering.clear()
    async with world.pool() as pool:
        running = asyncio.create_task(pool.run(request()))
        await eventually(lambda: any(guest.asked for guest in world.backend.guests))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

        assert running.cancelled()
        (asked,) = [guest for guest in world.backend.guests if guest.asked]
        assert asked.is_removed


@pytest.mark.parametrize(
    ("answer", "death", "code"),
    [
        (None, Death(is_out_of_memory=False, exit_code=137), FailureCode.SANDBOX_LOST),
        (None, Death(is_out_of_memory=True, exit_code=137), FailureCode.MEMORY_LIMIT),
        (FrameRefused("too long"), None, FailureCode.SANDBOX_ERROR),
        (b"garbage", None, FailureCode.SANDBOX_ERROR),
        (b'{"v":1,"id":"forged","ok":true}', None, FailureCode.SANDBOX_ERROR),
    ],
)
async def test_bad_guests_fail_their_code_and_nobody_elses(
    world: World, answer: Any, death: Death | None, code: FailureCode
) -> None:
    world.backend.answer = answer
    world.backend.death = death or world.backend.death
    async with world.pool() as pool:
        failed = await refused(pool)
        world.backend.answer = ...

        assert (await pool.run(request())).result_json == '"c"'
    assert failed.code is code


async def test_guests_that_died_waited_too_long_or_are_of_another_boot_are_not_used(
    world: World,
) -> None:
    async with world.pool() as pool:
        await world.filled(2)
        world.backend.guests[0].is_alive = False
        world.backend.guests[1].is_alive = False
        await pool.run(request())
        await world.filled(5)
        world.now += 601
        await pool.run(request())
        await world.filled(8)
        world.boot = "b2"
        await pool.run(request())

    used = [guest for guest in world.backend.guests if guest.asked]
    assert [
        world.backend.guests.index(guest) >= edge
        for guest, edge in zip(used, (2, 5, 8), strict=True)
    ]
    assert used[2].boot_id == "b2"
    assert all(guest.is_removed for guest in world.backend.guests)


async def test_a_backend_that_cannot_be_prepared_opens_no_pool(world: World) -> None:
    world.backend.broken = "no image"

    with pytest.raises(SandboxUnavailable, match="no image"):
        await PooledSandbox.open(world.backend, boot_id=lambda: "b1")
    assert world.backend.is_closed


async def test_code_beyond_its_size_meets_no_guest(world: World) -> None:
    async with world.pool() as pool:
        failed = await refused(pool, request("#" * (256 * 1024 + 1)))

    assert failed.code is FailureCode.INPUT_SCHEMA
    assert not any(guest.asked for guest in world.backend.guests)


async def test_code_that_failed_does_not_wait_for_its_guest_to_be_removed(world: World) -> None:
    """Else the engine's speed decides whether it failed or took too long."""
    world.backend.removing.clear()

    async with world.pool() as pool:
        running = asyncio.create_task(pool.run(request()))
        world.backend.answering.clear()
        await eventually(lambda: any(guest.asked for guest in world.backend.guests))
        (asked,) = (guest for guest in world.backend.guests if guest.asked)
        said = {"v": 1, "id": asked.asked[0]["id"], "ok": False, "code": "CRASHED", "signal": 11}
        world.backend.answer = json.dumps({**said, "stdout": "", "stderr": ""}).encode()
        world.backend.answering.set()
        with pytest.raises(StepFailed) as failed:
            async with asyncio.timeout(5):
                await running

        assert failed.value.code is FailureCode.CRASHED
        assert not asked.is_removed
        world.backend.removing.set()
    assert asked.is_removed


async def test_one_start_that_fails_refuses_nobody_while_another_is_under_way(world: World) -> None:
    world.backend.failing = 1
    world.backend.starting.clear()

    async with world.pool() as pool:
        running = asyncio.create_task(pool.run(request("late")))
        await eventually(lambda: world.backend.tries >= 2)
        world.backend.starting.set()

        assert (await running).result_json == '"late"'


async def test_one_start_that_fails_refuses_one_of_more_code_than_starts(world: World) -> None:
    world.backend.failing = 1
    world.backend.starting.clear()

    async with world.pool() as pool:
        running = [asyncio.create_task(pool.run(request(f"c{n}"))) for n in range(5)]
        await eventually(lambda: world.backend.tries >= 2)
        world.backend.starting.set()
        ended = await asyncio.gather(*running, return_exceptions=True)

    assert [isinstance(each, StepFailed) for each in ended] == [True, False, False, False, False]


async def test_what_cannot_be_believed_is_told_when_its_guest_is_gone(world: World) -> None:
    world.backend.answer = b'{"v":1,"id":"forged","ok":true}'
    world.backend.removing.clear()
    async with world.pool() as pool:
        running = asyncio.create_task(refused(pool))
        await eventually(lambda: any(guest.asked for guest in world.backend.guests))
        await asyncio.sleep(0.01)
        was_done = running.done()
        world.backend.removing.set()

        assert (await running).code is FailureCode.SANDBOX_ERROR
        assert not was_done
