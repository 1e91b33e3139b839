"""Which part of a document's text a step gives out, so that its output always fits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from libs.core.canonical import Json

OUTPUT_BYTES = 256 * 2**10
"""What a step may give out. Written here again: children are not to load the checks of schemas."""

MAX_TITLE_LENGTH = 1000
HEADINGS_BYTES = 32 * 2**10
LINKS_BYTES = 96 * 2**10

# The names of the members, the numbers, brackets.
_FRAME_BYTES = 1024
_PIECE_LENGTH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """From which character of the text on, and how many at most; None: as many as fit."""

    start: int = 0
    most: int | None = None


WHOLE = Part()


def first_fitting(values: Iterable[Json], *, most_bytes: int) -> Iterator[Json]:
    """The first values, as many as take `most_bytes` when they are written."""
    for value in values:
        most_bytes -= _written_bytes(value) + 1
        if most_bytes < 0:
            return
        yield value


def cut(text: str, part: Part, *, beside: Json) -> str:
    """The part of `text`, as much as an output holds that has `beside` in it too."""
    room = OUTPUT_BYTES - _FRAME_BYTES - _written_bytes(beside)
    end = len(text) if part.most is None else min(len(text), part.start + part.most)
    at = part.start
    while at < end:
        size, taken = _fitting_piece(text[at : min(at + _PIECE_LENGTH, end)], room)
        at, room = at + taken, room - size
        if taken < _PIECE_LENGTH:
            break
    return text[part.start : at]


def _fitting_piece(piece: str, room: int) -> tuple[int, int]:
    """Of the piece's beginning that fits: its bytes when it is written, and its length."""
    size = _inner_bytes(piece)
    if size <= room:
        return size, len(piece)
    size = 0
    for taken, character in enumerate(piece):
        more = _inner_bytes(character)
        if size + more > room:
            return size, taken
        size += more
    return size, len(piece)


def _inner_bytes(text: str) -> int:
    return _written_bytes(text) - 2


def _written_bytes(value: Json) -> int:
    # Halves of characters are refused later, where every output is checked.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
