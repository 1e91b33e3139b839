"""Keys to tickets: permits asked for and used, what is remembered for how long, auth away."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.caller import BRIEF_SECONDS, Callers, Ticket
from gateway.refusals import Limited
from libs.core.api_key import ALPHABET, make_key
from libs.core.errors import PawlError
from libs.core.tiers import MONTHLY_REQUESTS, RATE_LIMIT, TIERS
from libs.pb.pawl.auth.v1 import auth_pb2, auth_service_pb2
from libs.rpc.convert import tier_limits_to_proto, to_timestamp
from tests.waiting import eventually

START = datetime(2026, 1, 1, tzinfo=UTC)


class StillClock:
    """Stands until moved. Its wall clock is wrong: no token is judged by it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return START - timedelta(days=1) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class Auth:
    """Answers with numbered tokens that live for so many seconds, and permits out of a budget."""

    def __init__(
        self, clock: StillClock, *, seconds: float = 5.0, budget: int | None = None
    ) -> None:
        self.asked: list[tuple[int, int]] = []
        self.returned: list[tuple[str, str, int]] = []
        self.timeouts: list[float] = []
        self.refusal: PawlError | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.budget = budget
        self.limit_name = RATE_LIMIT
        self.mode = "live"
        self._clock = clock
        self._seconds = seconds

    async def Authenticate(
        self, request: auth_service_pb2.AuthenticateRequest, *, timeout: float
    ) -> auth_service_pb2.AuthenticateResponse:
        self.asked.append((request.permits_wanted, request.permits_returned))
        self.timeouts.append(timeout)
        number = len(self.asked)
        await self.open.wait()
        if self.refusal is not None:
            raise self.refusal
        ends = START + timedelta(seconds=self._clock.seconds + self._seconds)
        tier = "enterprise" if self.budget is None else "free"
        return auth_service_pb2.AuthenticateResponse(
            caller_token=f"token-{number}",
            expires_at=to_timestamp(ends),
            token_seconds=self._seconds,
            tenant_id="tenant",
            tier=tier,
            limits=tier_limits_to_proto(TIERS[tier]),
            scopes=["tasks:read"],
            mode=self.mode,
            permits=self._permits(request),
        )

    async def ReturnPermits(
        self, request: auth_service_pb2.ReturnPermitsRequest
    ) -> auth_service_pb2.ReturnPermitsResponse:
        if self.refusal is not None:
            raise self.refusal
        self.returned += [(one.tenant_id, one.mode, one.count) for one in request.permits]
        return auth_service_pb2.ReturnPermitsResponse()

    def _permits(self, request: auth_service_pb2.AuthenticateRequest) -> auth_pb2.Permits:
        if self.budget is None:
            return auth_pb2.Permits(granted=request.permits_wanted)
        self.budget += request.permits_returned
        granted = min(self.budget, request.permits_wanted)
        self.budget -= granted
        return auth_pb2.Permits(
            granted=granted,
            limit_name=self.limit_name,
            limit=20,
            remaining=self.budget,
            reset_seconds=30.5,
            retry_after_seconds=0 if self.budget else 2.5,
        )


def header(number: int = 0) -> str:
    return "Bearer " + make_key(prefix="ra", mode="live", random_chars=ALPHABET[number] * 32).secret


def callers_of(auth: Auth, clock: StillClock, **more: Any) -> Callers:
    return Callers(auth, clock=clock, **more)  # type: ignore[arg-type]  # a fake


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


async def admit_all(callers: Callers, count: int) -> list[Ticket | BaseException]:
    return await asyncio.gather(
        *(callers.admit(header()) for _ in range(count)), return_exceptions=True
    )


async def refused(callers: Callers, number: int = 0, *, source: str = "") -> PawlError:
    with pytest.raises(PawlError) as caught:
        await callers.admit(header(number), source=source)
    return caught.value


async def test_a_calm_key_asks_about_once_a_second(clock: StillClock) -> None:
    auth = Auth(clock)
    callers = callers_of(auth, clock)

    # Ten a second, for ten seconds.
    for _ in range(100):
        await callers.admit(header())
        clock.seconds += 0.1

    # It begins with one permit, and has to learn how many are used.
    assert len(auth.asked) <= 10 + 4
    assert {wanted for wanted, _ in auth.asked[5:]} <= {9, 10, 11, 12}


async def test_one_question_serves_all_who_wait(clock: StillClock) -> None:
    auth = Auth(clock)
    auth.open.clear()
    callers = callers_of(auth, clock)
    waiting = [asyncio.create_task(callers.admit(header())) for _ in range(9)]
    other = asyncio.create_task(callers.admit(header(1)))
    await eventually(lambda: len(auth.asked) == 2)
    waiting[0].cancel()

    auth.open.set()
    tickets = await asyncio.gather(*waiting[1:], other)

    assert auth.asked == [(9, 0), (1, 0)]
    assert len({ticket.token for ticket in tickets[:-1]}) == 1


async def test_who_comes_while_auth_is_asked_waits_for_the_next_question(
    clock: StillClock,
) -> None:
    auth = Auth(clock)
    auth.open.clear()
    callers = callers_of(auth, clock)
    first = asyncio.create_task(callers.admit(header()))
    await eventually(lambda: auth.asked)
    others = [asyncio.create_task(callers.admit(header())) for _ in range(4)]
    await asyncio.sleep(0)

    auth.open.set()
    await asyncio.gather(first, *others)

    # Four wait, and one was passed on in the last second.
    assert auth.asked == [(1, 0), (5, 0)]


async def test_permits_are_good_for_a_second(clock: StillClock) -> None:
    auth = Auth(clock)
    callers = callers_of(auth, clock)
    await admit_all(callers, 10)
    clock.seconds += 0.5
    await callers.admit(header())
    before = len(auth.asked)

    clock.seconds += 0.75
    await callers.admit(header())
    before_lapse = len(auth.asked)
    clock.seconds += 0.5
    await callers.admit(header())

    assert before == before_lapse == 2
    granted = sum(wanted for wanted, _ in auth.asked[:-1])
    # One for itself, and what was used in its last second; what had lapsed goes back with it.
    assert auth.asked[-1] == (1 + 1, granted - 12)


async def test_what_is_beyond_the_limit_is_refused_and_nobody_asked_again_for_a_second(
    clock: StillClock,
) -> None:
    auth = Auth(clock, budget=3)
    callers = callers_of(auth, clock)

    outcomes = await admit_all(callers, 5)
    asked = len(auth.asked)
    later = []
    for _ in range(9):
        clock.seconds += 0.1
        later.append(await refused(callers))

    tickets = [one for one in outcomes if isinstance(one, Ticket)]
    refusals = [one for one in outcomes if isinstance(one, Limited)]
    assert len(tickets) == 3
    assert len(refusals) == 2
    assert len(auth.asked) == asked
    assert {error.code for error in later} == {"rate_limited"}
    assert later[0].message == (
        "rate_limit_per_minute: the tier free allows 20 requests per minute; "
        "the next one is allowed in 3 s"
    )
    assert later[0].retry_after_seconds == pytest.approx(2.4)


async def test_after_a_second_auth_is_asked_whether_it_still_refuses(clock: StillClock) -> None:
    auth = Auth(clock, budget=0)
    callers = callers_of(auth, clock)
    first = await refused(callers)
    auth.budget = 1

    clock.seconds += 1.0
    ticket = await callers.admit(header())

    assert first.retry_after_seconds == pytest.approx(2.5)
    assert ticket.token == "token-2"
    assert auth.asked == [(1, 0), (1, 0)]


async def test_a_month_that_is_used_up_says_so(clock: StillClock) -> None:
    auth = Auth(clock, budget=0)
    auth.limit_name = MONTHLY_REQUESTS
    callers = callers_of(auth, clock)

    error = await refused(callers)

    assert error.code == "monthly_requests_exceeded"
    assert error.message.startswith(
        "monthly_requests: the tier free allows 20 requests per calendar month (UTC); "
    )


async def test_standing_counts_what_is_left_here(clock: StillClock) -> None:
    auth = Auth(clock, budget=20)
    callers = callers_of(auth, clock)

    tickets = [one for one in await admit_all(callers, 6) if isinstance(one, Ticket)]

    remaining = [t.standing.remaining for t in tickets if t.standing is not None]
    assert len(remaining) == 6
    assert remaining[-1] == 14
    assert sorted(remaining, reverse=True) == remaining


async def test_a_refusal_has_the_headers_of_its_moment(clock: StillClock) -> None:
    auth = Auth(clock, budget=0)
    callers = callers_of(auth, clock)

    error = await refused(callers)

    assert isinstance(error, Limited)
    assert error.standing is not None
    assert dict(error.standing.headers) == {
        b"ratelimit-policy": b'"rate_limit_per_minute";q=20;w=60, "monthly_requests";q=200',
        b"ratelimit": b'"rate_limit_per_minute";r=0;t=3',
        b"ratelimit-limit": b"20",
        b"ratelimit-remaining": b"0",
        b"ratelimit-reset": b"3",
    }


async def test_who_has_no_limit_has_no_headers(clock: StillClock) -> None:
    callers = callers_of(Auth(clock), clock)

    assert (await callers.admit(header())).standing is None


async def test_the_month_of_a_test_key_is_not_counted(clock: StillClock) -> None:
    auth = Auth(clock, budget=9)
    auth.mode = "test"
    callers = callers_of(auth, clock)

    standing = (await callers.admit(header())).standing

    assert standing is not None
    assert standing.policies == '"rate_limit_per_minute";q=20;w=60'


async def test_unused_permits_of_an_idle_key_go_back(clock: StillClock) -> None:
    auth = Auth(clock, budget=20)
    callers = callers_of(auth, clock)
    for _ in range(4):
        await callers.admit(header())

    await callers.give_back()
    too_early = list(auth.returned)
    clock.seconds += 1.0
    await callers.give_back()
    await callers.give_back()

    assert too_early == []
    assert auth.returned == [("tenant", "live", 3)]


async def test_everything_goes_back_when_the_gateway_stops(clock: StillClock) -> None:
    auth = Auth(clock, budget=100)
    callers = callers_of(auth, clock)
    for number in (0, 1):
        for _ in range(4):
            await callers.admit(header(number))

    await callers.give_back(everything=True)

    assert [wanted for wanted, _ in auth.asked] == [1, 2, 4] * 2
    assert auth.returned == [("tenant", "live", 6)]


async def test_permits_are_given_back_once_whatever_becomes_of_it(clock: StillClock) -> None:
    auth = Auth(clock, budget=100)
    callers = callers_of(auth, clock)
    for _ in range(4):
        await callers.admit(header())
    auth.refusal = PawlError("unavailable", "away")

    await callers.give_back(everything=True)
    auth.refusal = None
    await callers.give_back(everything=True)
    await callers.admit(header())

    assert auth.returned == []
    assert auth.asked[-1][1] == 0


async def test_the_loop_gives_back_and_sleeps_while_there_is_nothing(clock: StillClock) -> None:
    auth = Auth(clock, budget=100)
    callers = callers_of(auth, clock, sweep_seconds=0.01)
    running = asyncio.create_task(callers.run())
    for _ in range(4):
        await callers.admit(header())
    clock.seconds += 1.0

    await eventually(lambda: auth.returned)
    running.cancel()

    assert len(auth.returned) == 1


async def test_a_refused_key_is_remembered_for_a_second(clock: StillClock) -> None:
    auth = Auth(clock)
    auth.refusal = PawlError("unauthenticated", "no")
    callers = callers_of(auth, clock)

    for seconds in (0.0, 0.5, 0.5):
        clock.seconds += seconds
        assert (await refused(callers)).code == "unauthenticated"

    assert len(auth.asked) == 2


async def test_a_revoked_key_is_refused_at_the_next_question(clock: StillClock) -> None:
    auth = Auth(clock)
    callers = callers_of(auth, clock)
    await callers.admit(header())
    auth.refusal = PawlError("unauthenticated", "no")

    clock.seconds += 1.0
    error = await refused(callers)
    auth.refusal = PawlError("unavailable", "away")
    clock.seconds += 1.0
    later = await refused(callers)

    assert error.code == "unauthenticated"
    # Its token would still live: it is not used again.
    assert later.code == "unavailable"


async def test_permits_of_a_key_that_was_revoked_go_back(clock: StillClock) -> None:
    auth = Auth(clock)
    callers = callers_of(auth, clock)
    await admit_all(callers, 10)
    clock.seconds += 0.5
    await callers.admit(header())
    granted = sum(wanted for wanted, _ in auth.asked)
    clock.seconds += 1.5
    auth.refusal = PawlError("unauthenticated", "the API key is not valid")
    await refused(callers)

    auth.refusal = None
    await callers.give_back()
    await callers.give_back()

    assert granted > 11
    assert auth.returned == [("tenant", "live", granted - 11)]


async def test_permits_of_a_key_that_ends_while_it_is_asked_for_go_back(clock: StillClock) -> None:
    auth = Auth(clock, seconds=BRIEF_SECONDS)
    callers = callers_of(auth, clock)
    await refused(callers)

    await callers.give_back()

    assert auth.returned == [("tenant", "live", 1)]


async def test_an_outage_is_not_remembered(clock: StillClock) -> None:
    auth = Auth(clock)
    auth.refusal = PawlError("unavailable", "away")
    callers = callers_of(auth, clock)
    error = await refused(callers)
    auth.refusal = None

    ticket = await callers.admit(header())

    assert error.code == "unavailable"
    assert ticket.token == "token-2"


@pytest.mark.parametrize("code", ["unavailable", "deadline_exceeded"])
async def test_a_known_key_works_while_its_token_lives_and_auth_is_away(
    clock: StillClock, code: str
) -> None:
    auth = Auth(clock)
    callers = callers_of(auth, clock)
    await callers.admit(header())
    auth.refusal = PawlError(code, "away")

    served = 0
    while clock.seconds < 1004.5:
        assert (await callers.admit(header())).token == "token-1"
        served += 1
        clock.seconds += 0.25
    error = await refused(callers)
    unknown = await refused(callers, 1)
    auth.refusal = None
    await callers.admit(header())

    assert served == 18
    assert error.code == unknown.code == "unavailable"
    # What was passed on meanwhile is debited afterwards.
    assert auth.asked[-1][0] >= 18 + 1


async def test_nothing_is_passed_on_beyond_the_limit_while_auth_is_away(
    clock: StillClock,
) -> None:
    auth = Auth(clock, budget=3)
    callers = callers_of(auth, clock)
    await callers.admit(header())
    auth.refusal = PawlError("unavailable", "away")

    outcomes = [await admit_all(callers, 1) for _ in range(4)]

    codes = [one.code if isinstance(one, PawlError) else "" for [one] in outcomes]
    # Two remained when auth was last asked; without a fresh answer nobody is told 429.
    assert codes == ["", "", "unavailable", "unavailable"]


async def test_auth_has_less_time_while_an_earlier_token_works(clock: StillClock) -> None:
    auth = Auth(clock)
    callers = callers_of(auth, clock)
    for seconds in (0.0, 1.0, 10.0):
        clock.seconds += seconds
        await callers.admit(header())

    assert auth.timeouts == [5.0, 1.5, 5.0]


async def test_nobody_left_to_hear_an_outage_is_no_error(clock: StillClock) -> None:
    auth = Auth(clock)
    auth.open.clear()
    auth.refusal = PawlError("unavailable", "away")
    callers = callers_of(auth, clock)
    waiting = asyncio.create_task(callers.admit(header()))
    await eventually(lambda: auth.asked)
    waiting.cancel()

    auth.open.set()
    await asyncio.gather(waiting, return_exceptions=True)
    auth.refusal = None

    assert (await callers.admit(header())).token.startswith("token-")


async def test_too_many_who_wait_are_sent_away(clock: StillClock) -> None:
    auth = Auth(clock)
    auth.open.clear()
    callers = callers_of(auth, clock, max_waiting=3)
    waiting = [asyncio.create_task(callers.admit(header())) for _ in range(5)]
    await eventually(lambda: sum(task.done() for task in waiting) == 2)

    auth.open.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    codes = [one.code for one in outcomes if isinstance(one, PawlError)]
    assert codes == ["unavailable"] * 2


async def test_a_token_is_renewed_when_it_is_about_to_end(clock: StillClock) -> None:
    auth = Auth(clock)
    callers = callers_of(auth, clock)
    ticket = await callers.admit(header())

    clock.seconds += 4.0
    await ticket.renew()
    early = ticket.token
    clock.seconds += 0.6
    await ticket.renew()

    assert (early, ticket.token) == ("token-1", "token-2")
    assert len(auth.asked) == 2


async def test_a_renewal_uses_the_token_of_a_later_request(clock: StillClock) -> None:
    auth = Auth(clock)
    callers = callers_of(auth, clock)
    ticket = await callers.admit(header())
    clock.seconds += 4.0
    await callers.admit(header())
    clock.seconds += 0.6

    await ticket.renew()

    assert ticket.token == "token-2"
    assert len(auth.asked) == 2


async def test_a_renewal_beyond_the_limit_still_has_its_token(clock: StillClock) -> None:
    auth = Auth(clock, budget=1)
    callers = callers_of(auth, clock)
    ticket = await callers.admit(header())

    clock.seconds += 4.6
    await ticket.renew()

    assert ticket.token == "token-2"


async def test_a_token_that_came_too_late_is_an_overload_and_no_bad_key(
    clock: StillClock,
) -> None:
    auth = Auth(clock)
    auth.open.clear()
    callers = callers_of(auth, clock)
    waiting = asyncio.create_task(callers.admit(header()))
    await eventually(lambda: auth.asked)

    clock.seconds += 6.0
    auth.open.set()
    with pytest.raises(PawlError) as caught:
        await waiting

    assert caught.value.code == "unavailable"
    assert caught.value.retry_after_seconds == 1


async def test_a_key_that_ends_in_a_moment_is_still_used(clock: StillClock) -> None:
    auth = Auth(clock, seconds=0.3)
    callers = callers_of(auth, clock)

    ticket = await callers.admit(header())
    clock.seconds += 0.2
    await callers.admit(header())

    assert ticket.token == "token-1"
    assert len(auth.asked) == 2


async def test_many_keys_do_not_fill_the_memory(clock: StillClock) -> None:
    auth = Auth(clock)
    callers = callers_of(auth, clock, max_remembered=40)

    for number in range(61):
        await callers.admit(header(number))

    assert callers.remembered == 40
    clock.seconds += 2.0
    await callers.admit(header(61))
    assert callers.remembered == 1


async def test_an_address_that_tries_many_keys_is_slowed_down(clock: StillClock) -> None:
    auth = Auth(clock)
    callers = callers_of(auth, clock)
    good = await callers.admit(header(), source="10.0.0.1")
    auth.refusal = PawlError("unauthenticated", "no")

    codes = [(await refused(callers, n, source="10.0.0.1")).code for n in range(1, 60)]
    elsewhere = await refused(callers, 61, source="10.0.0.2")
    auth.refusal = None
    clock.seconds += 0.5
    again = await callers.admit(header(), source="10.0.0.1")
    new = await callers.admit(header(60), source="10.0.0.1")

    assert codes == ["unauthenticated"] * 50 + ["rate_limited"] * 9
    assert elsewhere.code == "unauthenticated"
    # A good key is not held up, though it comes from there too.
    assert {one.tenant_id for one in (good, again, new)} == {"tenant"}


async def test_bad_keys_beyond_the_bound_are_asked_for_a_few_at_a_time(clock: StillClock) -> None:
    auth = Auth(clock)
    callers = callers_of(auth, clock)
    auth.refusal = PawlError("unauthenticated", "no")
    for number in range(50):
        await refused(callers, number, source="10.0.0.1")
    auth.open.clear()

    waiting = [
        asyncio.create_task(callers.admit(header(number), source="10.0.0.1"))
        for number in range(50, 61)
    ]
    await eventually(lambda: sum(task.done() for task in waiting) == 3)
    asked = len(auth.asked)
    auth.open.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    assert asked == 50 + 8
    assert {one.code for one in outcomes if isinstance(one, PawlError)} == {"rate_limited"}


async def test_malformed_keys_are_counted_apart_and_nobody_is_asked(clock: StillClock) -> None:
    auth = Auth(clock)
    callers = callers_of(auth, clock)

    codes = []
    for number in range(55):
        with pytest.raises(PawlError) as caught:
            await callers.admit(f"Bearer nonsense-{number}", source="10.0.0.1")
        codes.append(caught.value.code)
    bare = []
    for _ in range(60):
        with pytest.raises(PawlError) as caught:
            await callers.admit(None, source="10.0.0.1")
        bare.append(caught.value.code)
    await callers.admit(header(), source="10.0.0.1")

    assert codes == ["unauthenticated"] * 50 + ["rate_limited"] * 5
    # Who shows no key guesses none.
    assert set(bare) == {"unauthenticated"}
    assert len(auth.asked) == 1


async def test_a_fault_of_ours_is_told_to_all_who_wait(clock: StillClock) -> None:
    auth = Auth(clock)
    auth.refusal = ZeroDivisionError()  # type: ignore[assignment]  # what no refusal is
    callers = callers_of(auth, clock)

    outcomes = await admit_all(callers, 3)
    auth.refusal = None

    assert [one.code for one in outcomes if isinstance(one, PawlError)] == ["internal"] * 3
    assert (await callers.admit(header())).tenant_id == "tenant"


async def test_a_key_that_ends_while_auth_answers_is_no_key(clock: StillClock) -> None:
    auth = Auth(clock, seconds=0.04)
    callers = callers_of(auth, clock)

    codes = [(await refused(callers)).code for _ in range(3)]

    assert codes == ["unauthenticated"] * 3
    assert len(auth.asked) == 1


async def test_a_token_of_a_key_that_ends_soon_is_used_for_half_of_its_life(
    clock: StillClock,
) -> None:
    auth = Auth(clock, seconds=0.16)
    callers = callers_of(auth, clock)

    ticket = await callers.admit(header())
    tokens = []
    for _ in range(2):
        clock.seconds += 0.05
        await ticket.renew()
        tokens.append(ticket.token)

    assert tokens == ["token-1", "token-2"]
