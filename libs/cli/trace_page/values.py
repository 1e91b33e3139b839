"""JSON values and durations as text for people, bounded. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

PAGE_CHARACTERS = 4 * 1024 * 1024
"""About so much of all inputs and outputs together is shown, whatever their number."""
MOST_CHARACTERS, FEWEST_CHARACTERS = 16 * 1024, 512
PREVIEW_CHARACTERS = 90

_PRETTY = json.JSONEncoder(ensure_ascii=False, indent=2)
_TOO_DEEP = "(nested too deeply to be shown)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownValue:
    """A value as indented JSON, on one line, and what is to be said when not all is shown."""

    text: str
    preview: str
    note: str | None = None


def characters_each(values: int) -> int:
    """How much of each of so many values is shown."""
    share = PAGE_CHARACTERS // max(1, values)
    return min(MOST_CHARACTERS, max(FEWEST_CHARACTERS, share))


def shown_value(value: object, *, limit: int) -> ShownValue:
    """The first `limit` characters of a value."""
    try:
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        text = _first(value, limit)
    except RecursionError:
        return ShownValue(text=_TOO_DEEP, preview=_TOO_DEEP)
    if len(text) <= limit:
        return ShownValue(text=text, preview=cut(line, PREVIEW_CHARACTERS))
    note = (
        f"Only the first {limit:,} characters are shown; the whole value has {len(line):,} in"
        " compact form and is in the trace."
    )
    return ShownValue(text=text[:limit] + "…", preview=cut(line, PREVIEW_CHARACTERS), note=note)


def _first(value: object, limit: int) -> str:
    """At least `limit` + 1 characters of the indented JSON, or all of it."""
    pieces, length = list[str](), 0
    for piece in _PRETTY.iterencode(value):
        pieces.append(piece[: limit + 1])
        length += len(piece)
        if length > limit:
            break
    return "".join(pieces)


def cut(text: str, limit: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= limit else text[:limit] + "…"


def duration_text(seconds: float) -> str:
    """A duration as people say it: 12 ms, 3.4 s, 2 min 5 s, 3 h 20 min, 2 d 4 h."""
    if round(seconds, 3) < 1:
        milliseconds = seconds * 1000
        digits = 0 if milliseconds >= 10 or milliseconds == round(milliseconds) else 1
        return f"{milliseconds:.{digits}f} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    minutes, hours, days = 60, 3600, 86400
    if round(seconds) < hours:
        return _two(seconds, minutes, "min", 1, "s")
    if seconds < days:
        return _two(seconds, hours, "h", minutes, "min")
    return _two(seconds, days, "d", hours, "h")


def _two(seconds: float, large: int, name: str, small: int, small_name: str) -> str:
    whole = round(seconds / small)
    per_large = large // small
    rest = whole % per_large
    return f"{whole // per_large:,} {name}" + (f" {rest} {small_name}" if rest else "")
