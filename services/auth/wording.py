"""How a refusal quotes a caller's value: short, with nothing that a terminal or a log obeys."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN_CHARS = 40


def shown(text: str) -> str:
    """`text` in quotes, ASCII only, cut after 40 characters with its length said."""
    quoted = ascii(text[:_SHOWN_CHARS])
    return quoted if len(text) <= _SHOWN_CHARS else f"{quoted}… ({len(text)} characters)"


def one_of(allowed: Sequence[str]) -> str:
    """`a, b and c`."""
    return f"{', '.join(allowed[:-1])} and {allowed[-1]}" if len(allowed) > 1 else allowed[0]
