"""What sessions ask of the database, as its server logs it.

The owner has to be a superuser, as that of the embedded server is. Statistics would not do: they
count the transactions of autovacuum too, and come late.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

_STATEMENT = re.compile(rb" UTC \[(\d+)\].*? ms  (?:statement|execute [^:]*): (\w+)([^\n]*)")
_TAKE_EFFECT_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """How many statements, BEGIN and COMMIT included, and how many transactions they made."""

    statements: int
    transactions: int
    notifications: int
    seconds: float


@contextmanager
def counted(owner_dsn: str, *, log_path: Path) -> Iterator[Callable[[], Statements]]:
    """Count what the block does; logging it slows the server down."""
    with _every_statement_logged(owner_dsn):
        time.sleep(_TAKE_EFFECT_SECONDS)
        begin, began = log_path.stat().st_size, time.monotonic()

        def count() -> Statements:
            with log_path.open("rb") as log:
                log.seek(begin)
                found = _STATEMENT.findall(log.read())
            return _sums(found, seconds=time.monotonic() - began)

        yield count


def _sums(found: list[tuple[bytes, bytes, bytes]], *, seconds: float) -> Statements:
    """A statement outside BEGIN … COMMIT of its session is a transaction of its own."""
    inside: set[bytes] = set()
    transactions = notifications = 0
    for session, verb, rest in found:
        if verb == b"BEGIN":
            inside.add(session)
        elif verb in (b"COMMIT", b"ROLLBACK"):
            inside.discard(session)
        transactions += session not in inside
        notifications += verb == b"SELECT" and rest.startswith(b" pg_notify(")
    return Statements(
        statements=len(found),
        transactions=transactions,
        notifications=notifications,
        seconds=seconds,
    )


@contextmanager
def _every_statement_logged(owner_dsn: str) -> Iterator[None]:
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        owner.execute("ALTER SYSTEM SET log_min_duration_statement = 0")
        owner.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            owner.execute("ALTER SYSTEM RESET log_min_duration_statement")
            owner.execute("SELECT pg_reload_conf()")
