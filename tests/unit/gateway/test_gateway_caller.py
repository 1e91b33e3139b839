"""Keys to caller tokens: what is remembered, for how long, and who asks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.caller import Callers
from libs.core.api_key import ALPHABET, make_key
from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1 import auth_service_pb2
from libs.rpc.convert import to_timestamp

START = datetime(2026, 1, 1, tzinfo=UTC)


class StillClock:
    """Stands until moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class Auth:
    """Answers with numbered tokens that live for so many seconds."""

    def __init__(self, clock: StillClock, *, seconds: float = 5.0) -> None:
        self.asked = 0
        self.refusal: PawlError | None = None
        self.open = asyncio.Event()
        self.open.set()
        self._clock = clock
        self._seconds = seconds

    async def Authenticate(self, request: Any) -> auth_service_pb2.AuthenticateResponse:
        del request
        self.asked += 1
        await self.open.wait()
        if self.refusal is not None:
            raise self.refusal
        ends = self._clock.now() + timedelta(seconds=self._seconds)
        return auth_service_pb2.AuthenticateResponse(
            caller_token=f"token-{self.asked}", expires_at=to_timestamp(ends)
        )


def header(number: int = 0) -> str:
    return "Bearer " + make_key(prefix="ra", mode="live", random_chars=ALPHABET[number] * 32).secret


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


async def test_a_token_is_reused_for_a_second(clock: StillClock) -> None:
    auth = Auth(clock)
    callers = Callers(auth, clock=clock)  # type: ignore[arg-type]  # a fake

    tokens = []
    for seconds in (0.0, 0.99, 1.0, 1.5, 2.0):
        clock.seconds = seconds
        tokens.append(await callers.token(header()))

    assert tokens == ["token-1", "token-1", "token-2", "token-2", "token-3"]


async def test_a_token_is_not_used_to_its_very_end(clock: StillClock) -> None:
    auth = Auth(clock, seconds=0.7)
    callers = Callers(auth, clock=clock)  # type: ignore[arg-type]  # a fake
    await callers.token(header())

    clock.seconds = 0.25

    assert await callers.token(header()) == "token-2"


async def test_a_refusal_is_remembered_for_a_second(clock: StillClock) -> None:
    auth = Auth(clock)
    auth.refusal = PawlError("unauthenticated", "no")
    callers = Callers(auth, clock=clock)  # type: ignore[arg-type]  # a fake

    for seconds in (0.0, 0.5, 1.0):
        clock.seconds = seconds
        with pytest.raises(PawlError) as caught:
            await callers.token(header())
        assert caught.value.code == "unauthenticated"

    assert auth.asked == 2


async def test_an_outage_is_not_remembered(clock: StillClock) -> None:
    auth = Auth(clock)
    auth.refusal = PawlError("unavailable", "away")
    callers = Callers(auth, clock=clock)  # type: ignore[arg-type]  # a fake
    with pytest.raises(PawlError) as caught:
        await callers.token(header())
    auth.refusal = None

    token = await callers.token(header())

    assert caught.value.code == "unavailable"
    assert token == "token-2"


async def test_one_question_serves_all_who_wait(clock: StillClock) -> None:
    auth = Auth(clock)
    auth.open.clear()
    callers = Callers(auth, clock=clock)  # type: ignore[arg-type]  # a fake
    waiting = [asyncio.create_task(callers.token(header())) for _ in range(9)]
    other = asyncio.create_task(callers.token(header(1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting[0].cancel()

    auth.open.set()
    tokens = await asyncio.gather(*waiting[1:], other)

    assert auth.asked == 2
    assert set(tokens[:-1]) == {tokens[0]}


async def test_nobody_left_to_hear_an_outage_is_no_error(clock: StillClock) -> None:
    auth = Auth(clock)
    auth.open.clear()
    auth.refusal = PawlError("unavailable", "away")
    callers = Callers(auth, clock=clock)  # type: ignore[arg-type]  # a fake
    waiting = asyncio.create_task(callers.token(header()))
    await asyncio.sleep(0)
    waiting.cancel()

    auth.open.set()
    await asyncio.gather(waiting, return_exceptions=True)
    auth.refusal = None

    assert (await callers.token(header())).startswith("token-")


async def test_many_keys_do_not_fill_the_memory(clock: StillClock) -> None:
    auth = Auth(clock)
    callers = Callers(auth, clock=clock, max_remembered=40)  # type: ignore[arg-type]  # a fake

    for number in range(61):
        await callers.token(header(number))

    assert callers.remembered == 40
    clock.seconds = 2.0
    await callers.token(header(61))
    assert callers.remembered == 1
