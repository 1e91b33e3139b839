"""Bounds how many bad keys one address may try: fifty at once, then one a second are answered 401.

In memory and per gateway. A good key is never held up by bad ones from its address, which may be
that of a proxy with everybody behind it: beyond the bound auth is still asked, a few questions at a
time, and only what it refuses is told 429.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from libs.core.clock import Clock
from libs.core.errors import PawlError

BURST = 50
EVERY_SECONDS = 1.0
AT_ONCE = 8
"""Questions about keys of one address that are on their way at once, when it is beyond that."""
MAX_SOURCES = 10_000

Source = tuple[str, str]
"""An address, and the kind of bad keys: malformed or unknown. One kind does not use up another."""


class BadKeys:
    """The same algorithm as for permits: one instant per source says how much it may still try."""

    def __init__(self, *, clock: Clock, max_sources: int = MAX_SOURCES) -> None:
        self._clock = clock
        self._max_sources = max_sources
        self._whole_at: dict[Source, float] = {}
        self._asking: Counter[Source] = Counter()

    @property
    def sources(self) -> int:
        """How many sources are remembered."""
        return len(self._whole_at)

    @contextmanager
    def trying(self, source: Source) -> Iterator[None]:
        """Around the check of a key that was not good a moment ago.

        What the block refuses as unauthenticated becomes PawlError rate_limited (429) for a source
        that has tried too many; so it is before the block when too many are being checked.
        """
        if self._asking[source] >= AT_ONCE and self._early(source) > 0:
            raise self._refusal(source)
        self._asking[source] += 1
        try:
            yield
        except PawlError as error:
            if error.code != "unauthenticated":
                raise
            if self._early(source) > 0:
                raise self._refusal(source) from error
            self._count(source)
            raise
        finally:
            self._asking[source] -= 1
            if not self._asking[source]:
                del self._asking[source]

    def _early(self, source: Source) -> float:
        """Seconds until this source may try one more; up to 0: now."""
        now = self._clock.monotonic()
        return self._whole_at.get(source, now) - now - (BURST - 1) * EVERY_SECONDS

    def _count(self, source: Source) -> None:
        now = self._clock.monotonic()
        if source not in self._whole_at and len(self._whole_at) >= self._max_sources:
            self._whole_at = {s: at for s, at in self._whole_at.items() if at > now}
            if len(self._whole_at) >= self._max_sources:
                return
        self._whole_at[source] = max(self._whole_at.get(source, now), now) + EVERY_SECONDS

    def _refusal(self, source: Source) -> PawlError:
        return PawlError(
            "rate_limited",
            f"too many bad keys came from this address: {BURST} are answered at once, then one "
            f"every {EVERY_SECONDS:g} s",
            retry_after_seconds=max(1.0, self._early(source)),
        )
