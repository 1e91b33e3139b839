"""Bounds how many bad keys one address may try: fifty at once, then one a second.

In memory and per gateway: it spares auth the questions, and guesses their pace. A key that was good
is not held up by what else comes from its address.
"""

from __future__ import annotations

from libs.core.errors import PawlError

BURST = 50
EVERY_SECONDS = 1.0
MAX_SOURCES = 10_000

Source = tuple[str, str]
"""An address, and the kind of bad keys: malformed or unknown. One kind does not use up another."""


class BadKeys:
    """The same algorithm as for permits: one instant per source says how much it may still try."""

    def __init__(self, *, max_sources: int = MAX_SOURCES) -> None:
        self._max_sources = max_sources
        self._whole_at: dict[Source, float] = {}

    @property
    def sources(self) -> int:
        """How many sources are remembered."""
        return len(self._whole_at)

    def check(self, source: Source, *, now: float) -> None:
        """PawlError rate_limited (429) when this source has tried too many. `now` is monotonic."""
        early = self._whole_at.get(source, now) - now - (BURST - 1) * EVERY_SECONDS
        if early > 0:
            raise PawlError(
                "rate_limited",
                f"too many bad keys came from this address: {BURST} are answered at once, then one "
                f"every {EVERY_SECONDS:g} s",
                retry_after_seconds=early,
            )

    def count(self, source: Source, *, now: float) -> None:
        """One more bad key of this source."""
        if source not in self._whole_at and len(self._whole_at) >= self._max_sources:
            self._whole_at = {s: at for s, at in self._whole_at.items() if at > now}
            if len(self._whole_at) >= self._max_sources:
                return
        self._whole_at[source] = max(self._whole_at.get(source, now), now) + EVERY_SECONDS
