"""Entity tags, and requests that have the answer already (RFC 9110, 13.1.2)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import orjson

MATCH_HEADER = "if-none-match"

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def weak_etag(revision: int, *about: object) -> str:
    """The tag of an answer: its revision, to be read by people, and a digest of what else decides
    about it. Weak: another release may spell the same answer otherwise.
    """
    digest = hashlib.sha256(orjson.dumps([revision, *about])).hexdigest()
    return f'W/"{revision}-{digest[:20]}"'


def has_it(if_none_match: Iterable[str], etag: str) -> bool:
    """Whether one of the header's lines names `etag`, weakly compared, or is `*`."""
    wanted = etag.removeprefix("W/")
    return any(text.strip() == "*" or wanted in _TAG.findall(text) for text in if_none_match)
