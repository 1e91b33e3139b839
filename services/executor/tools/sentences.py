"""Sentences of a text, in time proportional to its length."""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_SENTENCE_LENGTH = 1000

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
# An end mark, closing quotes or brackets, then a blank; the marks of CJK scripts need no blank. A
# run of marks is tried from its beginning only and never given back, or a long run would take
# quadratic time.
_END = re.compile(
    "(?<![.!?\u2026\u061f\u06d4\u0964])[.!?\u2026\u061f\u06d4\u0964]++[\"'\u201d\u2019\u00bb)\\]]*+(?=\\s)"
    "|[\u3002\uff01\uff1f]++[\u300d\u300f\u201d]*+"
)
_LAST_WORD = re.compile(r"(\S+)\.$")
_ABBREVIATED = """
    mr mrs ms dr prof sr jr st vs etc e.g i.e cf approx fig no inc ltd co corp dept est al jan
    feb mar apr jun jul aug sep sept oct nov dec bzw z.b d.h u.a usw ca nr bspw
"""
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
_LOOK_BACK = 24


def split_sentences(text: str) -> list[str]:
    """The sentences in order, blanks collapsed, each at most MAX_SENTENCE_LENGTH long."""
    return [
        piece
        for paragraph in _PARAGRAPH.split(text)
        for sentence in _sentences(paragraph)
        for piece in _cut(" ".join(sentence.split()))
    ]


def _sentences(paragraph: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(paragraph):
        if not _is_abbreviation(paragraph, end):
            yield paragraph[start : end.end()]
            start = end.end()
    yield paragraph[start:]


def _is_abbreviation(paragraph: str, end: re.Match[str]) -> bool:
    """Whether the full stop belongs to a word such as `Dr.` or to an initial."""
    if end.group() != ".":
        return False
    before = _LAST_WORD.search(paragraph[max(0, end.start() - _LOOK_BACK) : end.end()])
    if before is None:
        return False
    word = before.group(1).lstrip("([\"'\u201c\u00ab").casefold()
    return word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha())


def _cut(sentence: str) -> Iterator[str]:
    while len(sentence) > MAX_SENTENCE_LENGTH:
        blank = sentence.rfind(" ", 1, MAX_SENTENCE_LENGTH)
        place = blank if blank > 0 else MAX_SENTENCE_LENGTH
        yield sentence[:place]
        sentence = sentence[place:].lstrip()
    if sentence:
        yield sentence
