"""The permits of one key at this gateway: what is left, what lapsed, how many to ask for next.

Pure: every method takes the time (monotonic seconds) where it matters. Permits are good for a
second after auth's answer; so is a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.rate_headers import Standing

GOOD_SECONDS = 1.0
MAX_WANTED = 1_000_000

_BUCKETS = 4
_BUCKET_SECONDS = GOOD_SECONDS / _BUCKETS


class LastSecond:
    """How many requests were passed on in the last second, to a quarter of one."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._bucket = 0

    def add(self, now: float) -> None:
        """One more."""
        self._move(now)
        self._counts[self._bucket % _BUCKETS] += 1

    def count(self, now: float) -> int:
        """How many."""
        self._move(now)
        return sum(self._counts)

    def _move(self, now: float) -> None:
        bucket = int(now / _BUCKET_SECONDS)
        for passed in range(max(self._bucket + 1, bucket - _BUCKETS + 1), bucket + 1):
            self._counts[passed % _BUCKETS] = 0
        self._bucket = max(self._bucket, bucket)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What auth said of a good key. `usable_until`: how long the token may be sent on.

    Without a limit `limit_name` is empty.
    """

    token: str = field(repr=False)
    usable_until: float
    received_at: float
    tenant_id: str
    mode: str
    tier: str
    scopes: frozenset[str]
    policies: str = ""
    limit_name: str = ""
    limit: int = 0
    remaining: int = 0
    reset_seconds: float = 0.0
    retry_after_seconds: float = 0.0

    def standing(self, *, left: int, now: float) -> Standing | None:
        """How the limit stands with so many permits still here; None without a limit."""
        if not self.limit_name:
            return None
        return Standing(
            name=self.limit_name,
            limit=self.limit,
            remaining=min(self.limit, self.remaining + left),
            reset_seconds=self.reset_seconds - (now - self.received_at),
            policies=self.policies,
        )

    def seconds_left(self, now: float) -> float:
        """How long the token may still be sent on; 0 once it has ended."""
        return max(0.0, self.usable_until - now)

    def retry_after(self, now: float) -> float:
        """Seconds until auth would grant one more request."""
        return max(0.0, self.retry_after_seconds - (now - self.received_at))


@dataclass(slots=True)
class KeyPermits:
    """What of a key's permits is here. `owed`: passed on while auth was away, not yet debited.
    `owner`: the tenant's id and the mode that they were debited to.
    """

    answer: Answer | None = None
    owner: tuple[str, str] = ("", "")
    left: int = 0
    lapsed: int = 0
    owed: int = 0
    is_short: bool = False
    good_until: float = 0.0
    uses: LastSecond = field(default_factory=LastSecond)

    def is_fresh(self, now: float) -> bool:
        """Whether the last answer of auth still counts, good or bad."""
        return now < self.good_until

    def take(self, now: float) -> Answer | None:
        """The answer that one more request goes on with, if a good permit is left."""
        if not (self.left and self.is_fresh(now)):
            return None
        self.left -= 1
        self.uses.add(now)
        return self.answer

    def take_on_credit(self, now: float) -> Answer | None:
        """The same while auth is away: the token must still live, and the limit must have had room
        for it when auth was last asked.
        """
        answer = self.answer
        if answer is None or not answer.seconds_left(now) or self.is_short:
            return None
        if answer.limit_name and self.owed >= answer.remaining:
            return None
        self.owed += 1
        self.uses.add(now)
        return answer

    def ask(self, *, waiting: int, now: float) -> tuple[int, int]:
        """How many permits to ask for and to give back, with that question or never.

        What auth makes of a question that fails nobody knows: nothing is given back twice.
        """
        self.lapse(now)
        returned, self.lapsed = self.lapsed, 0
        wanted = waiting + self.owed + self.uses.count(now)
        return min(max(1, wanted), MAX_WANTED), min(returned, MAX_WANTED)

    def grant(self, answer: Answer, *, granted: int, wanted: int) -> None:
        """Take up an answer to `ask`: what is owed comes off first."""
        self.answer = answer
        self.owner = answer.tenant_id, answer.mode
        self.left += max(0, granted - self.owed)
        self.owed = 0
        self.is_short = granted < wanted
        self.good_until = min(answer.received_at + GOOD_SECONDS, answer.usable_until)

    def refuse(self, now: float, *, unused: int) -> None:
        """Take up that the key is no living one. Its permits go back, with so many that were just
        granted or could not be given back.
        """
        self.answer = None
        self.lapsed += self.left + unused
        self.left = 0
        self.owed = 0
        self.good_until = now + GOOD_SECONDS

    def lapse(self, now: float) -> None:
        """Put aside what was not used in its second."""
        if not self.is_fresh(now):
            self.lapsed += self.left
            self.left = 0
