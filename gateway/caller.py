"""Bearer key to caller token and permit: asked of auth about once a second per key."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.bad_keys import BadKeys
from gateway.permits import MAX_WANTED, Answer, KeyPermits
from gateway.rate_headers import Standing, policies_of
from gateway.refusals import Limited, auth_is_away, no_key, overloaded
from libs.core.api_key import LIVE, parse_key
from libs.core.clock import Clock
from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1 import auth_service_pb2, auth_service_pb2_grpc
from libs.process.logs import get_logger
from libs.rpc.convert import tier_limits_from_proto

MARGIN_SECONDS = 0.5
"""A token is not used in the last moments before its end: the service checks it a little later."""
BRIEF_SECONDS = 0.1
"""A token that lives no longer is one of a key that ends now. One that lives little longer is used
for so long at most, and for half of its life.
"""
SWEEP_SECONDS = 1.0
"""How often permits that lapsed while their key was idle are given back."""
AUTH_SECONDS = 5.0
STANDBY_SECONDS = 1.5
"""How long auth has for its answer while an earlier token still works."""
MAX_REMEMBERED = 10_000
MAX_RETURNS = 1_000

_BEARER = re.compile(r"bearer +([\x21-\x7e]{1,256})", re.IGNORECASE | re.ASCII)
_OUTAGES = frozenset({"unavailable", "deadline_exceeded"})

log = get_logger(__name__)


@dataclass(slots=True)
class Ticket:
    """One request that may be passed on. `standing`: how its tenant's limit stood then."""

    standing: Standing | None
    _answer: Answer
    _key: _Key
    _callers: Callers

    @property
    def token(self) -> str:
        """The caller token."""
        return self._answer.token

    @property
    def tenant_id(self) -> str:
        """Whose request it is."""
        return self._answer.tenant_id

    @property
    def scopes(self) -> frozenset[str]:
        """What the key may do."""
        return self._answer.scopes

    @property
    def seconds_left(self) -> float:
        """How long the token may still be sent on; 0 once it has ended."""
        return self._callers.seconds_left(self._answer)

    async def renew(self) -> None:
        """Make sure that the token still lives, however long the request has taken to arrive.

        PawlError unauthenticated when the key does not live any more, unavailable when auth cannot
        be asked.
        """
        self._answer = await self._callers.living(self._key, self._answer)

    async def replace(self) -> None:
        """Take another token than this one. PawlError as `renew`."""
        self._answer = await self._callers.another(self._key, self._answer)


@dataclass(slots=True)
class _Waiting:
    """A request that waits for an answer of auth. It takes a permit, or needs the token alone."""

    future: asyncio.Future[Answer]
    takes: bool


@dataclass(slots=True, eq=False)
class _Key:
    """One key: its permits, and who waits for more."""

    secret: str = field(repr=False)
    permits: KeyPermits = field(default_factory=KeyPermits)
    waiting: deque[_Waiting] = field(default_factory=deque)
    asking: asyncio.Task[None] | None = None

    def first(self) -> _Waiting | None:
        """Who has waited longest; those that have gone are forgotten."""
        while self.waiting and self.waiting[0].future.done():
            self.waiting.popleft()
        return self.waiting[0] if self.waiting else None


class Callers:
    """Turns API keys into tickets, one question to auth at a time per key.

    More than `max_waiting` requests of one key that wait for auth at once are refused: 503.
    """

    def __init__(
        self,
        auth: auth_service_pb2_grpc.AuthServiceAsyncStub,
        *,
        clock: Clock,
        max_remembered: int = MAX_REMEMBERED,
        max_waiting: int = 250,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        self._auth = auth
        self._clock = clock
        self._max_remembered = max_remembered
        self._max_waiting = max_waiting
        self._sweep_seconds = sweep_seconds
        self._bad_keys = BadKeys(clock=clock)
        self._keys: dict[bytes, _Key] = {}
        # Those with permits, which must be given back one day, remembered or not.
        self._holding: set[_Key] = set()
        self._held = asyncio.Event()

    @property
    def remembered(self) -> int:
        """How many keys are remembered."""
        return len(self._keys)

    async def admit(self, authorization: str | None, *, source: str = "") -> Ticket:
        """A ticket for a request with this Authorization header, from this address.

        PawlError unauthenticated (401) when the header is absent, of another form, or no living
        key; it does not say which. rate_limited and monthly_requests_exceeded (429) as the key's
        tenant stands, rate_limited also for an address that has tried many bad keys. unavailable
        (503) when auth cannot be asked.
        """
        header = authorization or ""
        remembered = hashlib.sha256(header.encode("latin-1")).digest()
        key = self._keys.get(remembered)
        if key is None:
            key = _Key(secret=self._bearer(header, source))
        now = self._clock.monotonic()
        answer = key.permits.take(now)
        if answer is None:
            self._check(key, now)
            self._remember(remembered, key)
            answer = await self._ask_for(key, source)
        standing = answer.standing(left=key.permits.left, now=self._clock.monotonic())
        return Ticket(standing, answer, key, self)

    def seconds_left(self, answer: Answer) -> float:
        """How long the token of an answer may still be sent on; 0 once it has ended."""
        return answer.seconds_left(self._clock.monotonic())

    async def living(self, key: _Key, answer: Answer) -> Answer:
        """The same answer, or the newest one when its token is about to end."""
        return answer if self.seconds_left(answer) else await self.another(key, answer)

    async def another(self, key: _Key, answer: Answer) -> Answer:
        """An answer that lives, and is not this one."""
        newest = key.permits.answer
        if newest is not None and newest is not answer and self.seconds_left(newest):
            return newest
        return await self._wait(key, takes=False)

    async def run(self) -> None:
        """Give back lapsed permits of idle keys, about a second after they lapsed; never returns.

        While there are none it sleeps.
        """
        while True:
            await self._held.wait()
            await asyncio.sleep(self._sweep_seconds)
            await self.give_back()

    async def give_back(self, *, everything: bool = False) -> None:
        """Give back what has lapsed, or with `everything`, when the gateway stops, all that is
        left. What fails is not tried again: auth may have heard it.
        """
        now = self._clock.monotonic()
        counts: Counter[tuple[str, str]] = Counter()
        for key in tuple(self._holding):
            permits = key.permits
            if everything:
                permits.good_until = now
            permits.lapse(now)
            if permits.left == 0:
                self._holding.discard(key)
                counts[permits.owner] += permits.lapsed
                permits.lapsed = 0
        if not self._holding:
            self._held.clear()
        returned = [
            auth_service_pb2.TenantPermits(tenant_id=t, mode=m, count=min(n, MAX_WANTED))
            for (t, m), n in counts.items()
            if n
        ]
        for begin in range(0, len(returned), MAX_RETURNS):
            request = auth_service_pb2.ReturnPermitsRequest(
                permits=returned[begin : begin + MAX_RETURNS]
            )
            try:
                await self._auth.ReturnPermits(request)
            except PawlError as error:
                log.info("unused permits were not given back", code=error.code)

    def _bearer(self, header: str, source: str) -> str:
        """The key of the header, when its form and checksum are right: that needs no question."""
        form = _BEARER.fullmatch(header)
        if form is None:
            raise no_key()
        if parse_key(form[1]) is None:
            with self._bad_keys.trying((source, "malformed")):
                raise no_key()
        return form[1]

    async def _ask_for(self, key: _Key, source: str) -> Answer:
        if key.permits.answer is not None:
            return await self._wait(key, takes=True)
        with self._bad_keys.trying((source, "unknown")):
            return await self._wait(key, takes=True)

    def _check(self, key: _Key, now: float) -> None:
        """Raise PawlError when there is nothing to ask auth: it has said no a moment ago."""
        permits, answer = key.permits, key.permits.answer
        if answer is None:
            if permits.is_fresh(now):
                raise no_key()
        elif permits.is_short and permits.is_fresh(now):
            raise Limited(answer, now=now)

    async def _wait(self, key: _Key, *, takes: bool) -> Answer:
        if len(key.waiting) >= self._max_waiting:
            raise overloaded()
        waiting = _Waiting(asyncio.get_running_loop().create_future(), takes)
        key.waiting.append(waiting)
        if key.asking is None:
            key.asking = asyncio.create_task(self._ask(key))
        answer = await waiting.future
        if not self.seconds_left(answer):
            raise overloaded()
        return answer

    async def _ask(self, key: _Key) -> None:
        try:
            while key.first() is not None:
                await self._ask_once(key)
        except Exception:
            log.exception("asking auth failed unexpectedly")
            _fail_all(key, lambda: PawlError("internal", "Pawl failed; the gateway's log says why"))
        finally:
            key.asking = None
            _fail_all(key, overloaded)

    async def _ask_once(self, key: _Key) -> None:
        permits, began = key.permits, self._clock.monotonic()
        waiting = sum(one.takes and not one.future.done() for one in key.waiting)
        wanted, returned = permits.ask(waiting=waiting, now=began)
        request = auth_service_pb2.AuthenticateRequest(
            api_key=key.secret, permits_wanted=wanted, permits_returned=returned
        )
        try:
            said = await self._auth.Authenticate(request, timeout=self._patience(permits, began))
        except PawlError as error:
            self._refuse(key, error, unused=returned)
            return
        if said.token_seconds <= BRIEF_SECONDS:
            permits.owner = said.tenant_id, said.mode
            self._end(key, unused=said.permits.granted)
            return
        answer = self._answer(said, began)
        permits.grant(answer, granted=said.permits.granted, wanted=wanted)
        if answer.received_at >= answer.usable_until:
            _fail_all(key, overloaded)
        self._hand_out(key)

    def _patience(self, permits: KeyPermits, now: float) -> float:
        answer = permits.answer
        if answer is not None and now + STANDBY_SECONDS < answer.usable_until:
            return STANDBY_SECONDS
        return AUTH_SECONDS

    def _answer(self, said: auth_service_pb2.AuthenticateResponse, began: float) -> Answer:
        now = self._clock.monotonic()
        limits = tier_limits_from_proto(said.limits)
        brief = min(said.token_seconds / 2, BRIEF_SECONDS)
        lives = max(said.token_seconds - MARGIN_SECONDS, brief)
        return Answer(
            token=said.caller_token,
            usable_until=began + lives,
            received_at=now,
            tenant_id=said.tenant_id,
            mode=said.mode,
            tier=said.tier,
            scopes=frozenset(said.scopes),
            policies=policies_of(limits, is_metered=said.mode == LIVE),
            limit_name=said.permits.limit_name,
            limit=said.permits.limit,
            remaining=said.permits.remaining,
            reset_seconds=said.permits.reset_seconds,
            retry_after_seconds=said.permits.retry_after_seconds,
        )

    def _hand_out(self, key: _Key) -> None:
        """Give to those who wait what was granted, in order; refuse them when that was all."""
        permits, now = key.permits, self._clock.monotonic()
        answer = permits.answer
        while answer is not None and (one := key.first()) is not None:
            if not one.takes or permits.take(now) is not None:
                one.future.set_result(answer)
            elif permits.is_short:
                one.future.set_exception(Limited(answer, now=now))
            else:
                break
            key.waiting.popleft()
        self._hold(key)

    def _refuse(self, key: _Key, error: PawlError, *, unused: int) -> None:
        """What auth's refusal means for those who wait, or that it could not be asked."""
        now = self._clock.monotonic()
        if error.code == "unauthenticated":
            self._end(key, unused=unused)
            return
        while error.code in _OUTAGES and (one := key.first()) is not None and one.takes:
            answer = key.permits.take_on_credit(now)
            if answer is None:
                break
            one.future.set_result(answer)
            key.waiting.popleft()
        _fail_all(key, lambda: auth_is_away(error))

    def _end(self, key: _Key, *, unused: int) -> None:
        """The key lives no more; its permits are given back."""
        key.permits.refuse(self._clock.monotonic(), unused=unused)
        self._hold(key)
        _fail_all(key, no_key)

    def _hold(self, key: _Key) -> None:
        """Note a key with permits that may have to be given back."""
        if key.permits.left or key.permits.lapsed:
            self._holding.add(key)
            self._held.set()

    def _remember(self, remembered: bytes, key: _Key) -> None:
        if remembered in self._keys:
            return
        if len(self._keys) >= self._max_remembered:
            now = self._clock.monotonic()
            self._keys = {
                k: kept
                for k, kept in self._keys.items()
                if kept.permits.is_fresh(now) or kept.asking is not None
            }
        if len(self._keys) < self._max_remembered:
            self._keys[remembered] = key


def _fail_all(key: _Key, make_error: Callable[[], PawlError]) -> None:
    while (one := key.first()) is not None:
        one.future.set_exception(make_error())
        key.waiting.popleft()
