"""Instants as the numbers that ids are made of, and as days and months in UTC."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime

_MONTH = re.compile(r"(?!0000)[0-9]{4}-(0[1-9]|1[0-2])", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def unix_ms(at: datetime) -> int:
    """Whole milliseconds since 1970."""
    return int(at.timestamp() * 1000)


def day_of(at: datetime) -> date:
    """The day of an instant, in UTC."""
    return at.astimezone(UTC).date()


def month_of(at: datetime) -> str:
    """The calendar month of an instant, in UTC, as YYYY-MM."""
    return day_of(at).isoformat()[:7]


def days_of(month: str) -> tuple[date, date] | None:
    """The first and the last day of a month that is written YYYY-MM; None for anything else."""
    if not _MONTH.fullmatch(month):
        return None
    first = date.fromisoformat(f"{month}-01")
    return first, first.replace(day=monthrange(first.year, first.month)[1])


def parse_day(text: str) -> date | None:
    """The day that is written YYYY-MM-DD; None for anything else."""
    try:
        return date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        return None
