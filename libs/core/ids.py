"""Identifiers: UUIDv7 (RFC 9562), made here, rendered with a prefix where a dialect wants one."""

from __future__ import annotations

import re
import secrets
import time
from uuid import UUID

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{32}", re.ASCII)


def new_id(*, unix_ms: int | None = None) -> UUID:
    """A new UUIDv7: 48 bits of Unix milliseconds, then 74 random bits."""
    ms = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    value = (
        (ms & (2**48 - 1)) << 80
        | 7 << 76
        | secrets.randbits(12) << 64
        | 2 << 62
        | secrets.randbits(62)
    )
    return UUID(int=value)


def parse_id(text: str, *, prefix: str = "task_") -> UUID | None:
    """The id that `text` spells, or None.

    Accepted are the canonical lower- or upper-case UUID and `prefix` with the UUID, with or without
    hyphens. Nothing else: no braces, no urn, no blanks, no letters that only become ASCII when
    lowered.
    """
    if not text.isascii():
        return None
    lowered = text.lower()
    if lowered.startswith(prefix):
        lowered = lowered[len(prefix) :]
        if _HEX.fullmatch(lowered):
            return UUID(hex=lowered)
    return UUID(lowered) if _UUID.fullmatch(lowered) else None
