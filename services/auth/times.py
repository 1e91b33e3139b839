"""Instants as the numbers that ids are made of."""

from __future__ import annotations

from datetime import datetime


def unix_ms(at: datetime) -> int:
    """Whole milliseconds since 1970."""
    return int(at.timestamp() * 1000)
