"""Words of a text in any script, in time proportional to its length.

What counts as a letter comes from the Unicode tables of the Python that runs; texts in characters
that were added to Unicode lately may be split differently by another Python version.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache

# Han, kana, Thai, Lao, Khmer, Burmese: written without spaces between words.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED_RUN = re.compile(f"([{_UNSPACED}]+)")


def count_words(text: str) -> int:
    """How many words; in a script without spaces every character counts as one."""
    return sum(
        len(piece) if _UNSPACED_RUN.match(piece) else 1
        for word in _word().findall(text)
        for piece in _pieces(word)
    )


def terms(text: str) -> Iterator[str]:
    """The words, case folded; a run of a script without spaces is cut into overlapping pairs."""
    for word in _word().findall(text.casefold()):
        for piece in _pieces(word):
            if len(piece) > 1 and _UNSPACED_RUN.match(piece):
                yield from (piece[start : start + 2] for start in range(len(piece) - 1))
            else:
                yield piece


def is_unspaced(character: str) -> bool:
    """Whether a character belongs to a script that is written without spaces."""
    return _UNSPACED_RUN.match(character) is not None


def _pieces(word: str) -> list[str]:
    if word.isascii():
        return [word]
    return [piece for piece in _UNSPACED_RUN.split(word) if piece]


@cache
def _word() -> re.Pattern[str]:
    """Letters and digits with their combining marks, joined by apostrophes (`l'été`, `don't`)."""
    letter = rf"(?:[^\W_]|[{_marks()}])"
    return re.compile(rf"{letter}+(?:['\u2019]{letter}+)*")


def _marks() -> str:
    """The combining marks as ranges of a character class: no word character in `re`."""
    ranges: list[tuple[int, int]] = []
    for code in (*range(0x300, 0x20000), *range(0xE0100, min(0xE01F0, sys.maxunicode))):
        if unicodedata.category(chr(code)).startswith("M"):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1] = (ranges[-1][0], code)
            else:
                ranges.append((code, code))
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
