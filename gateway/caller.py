"""Bearer key to caller token: asked of auth at most about once a second per key."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass

from libs.core.api_key import parse_key
from libs.core.clock import Clock
from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1 import auth_service_pb2, auth_service_pb2_grpc
from libs.rpc.convert import from_timestamp

REUSE_SECONDS = 1.0
"""How long an answer of auth is taken for granted, good or bad."""
MARGIN_SECONDS = 0.5
"""A token is not used in the last moments before its end: the service checks it a little later."""
MAX_REMEMBERED = 10_000

_BEARER = re.compile(r"bearer +([\x21-\x7e]{1,256})", re.IGNORECASE | re.ASCII)
_REFUSED = "the Authorization header must be: Bearer <a valid API key>"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What auth said of a key: a token, or None for a refusal; until when that is taken."""

    token: str | None
    good_until: float


class Callers:
    """Turns API keys into caller tokens, one question to auth at a time per key."""

    def __init__(
        self,
        auth: auth_service_pb2_grpc.AuthServiceAsyncStub,
        *,
        clock: Clock,
        max_remembered: int = MAX_REMEMBERED,
    ) -> None:
        self._auth = auth
        self._clock = clock
        self._max_remembered = max_remembered
        self._answers: dict[bytes, _Answer] = {}
        self._asking: dict[bytes, asyncio.Task[_Answer]] = {}

    @property
    def remembered(self) -> int:
        """How many answers are kept."""
        return len(self._answers)

    async def token(self, authorization: str | None) -> str:
        """The token for this Authorization header.

        PawlError unauthenticated (401) when it is absent, of another form, or no living key; it
        does not say which. unavailable or deadline_exceeded when auth cannot be asked.
        """
        header = authorization or ""
        remembered = hashlib.sha256(header.encode("latin-1")).digest()
        answer = self._answers.get(remembered)
        if answer is None or self._clock.monotonic() >= answer.good_until:
            answer = await self._ask_once(_bearer(header), remembered)
        if answer.token is None:
            raise PawlError("unauthenticated", _REFUSED)
        return answer.token

    async def _ask_once(self, key: str, remembered: bytes) -> _Answer:
        asking = self._asking.get(remembered)
        if asking is None:
            asking = asyncio.create_task(self._ask(key, remembered))
            self._asking[remembered] = asking
            asking.add_done_callback(lambda done: self._asked(remembered, done))
        # One of the waiting requests may be cancelled; the others still want the answer.
        return await asyncio.shield(asking)

    def _asked(self, remembered: bytes, done: asyncio.Task[_Answer]) -> None:
        del self._asking[remembered]
        if not done.cancelled():
            done.exception()  # every waiting request has gone; nobody else reads it

    async def _ask(self, key: str, remembered: bytes) -> _Answer:
        asked_at = self._clock.monotonic()
        request = auth_service_pb2.AuthenticateRequest(api_key=key)
        try:
            said = await self._auth.Authenticate(request)
        except PawlError as error:
            if error.code != "unauthenticated":
                raise
            answer = _Answer(token=None, good_until=asked_at + REUSE_SECONDS)
        else:
            left = from_timestamp(said.expires_at) - self._clock.now()
            good_for = min(REUSE_SECONDS, left.total_seconds() - MARGIN_SECONDS)
            answer = _Answer(token=said.caller_token, good_until=asked_at + good_for)
        self._remember(remembered, answer)
        return answer

    def _remember(self, remembered: bytes, answer: _Answer) -> None:
        if len(self._answers) >= self._max_remembered:
            now = self._clock.monotonic()
            self._answers = {k: a for k, a in self._answers.items() if a.good_until > now}
        if len(self._answers) < self._max_remembered:
            self._answers[remembered] = answer


def _bearer(header: str) -> str:
    """The key of the header, when its form and checksum are right: that needs no question."""
    form = _BEARER.fullmatch(header)
    if form is None or parse_key(form[1]) is None:
        raise PawlError("unauthenticated", _REFUSED)
    return form[1]
