"""The SQL of the postgres driver for one schema."""

from __future__ import annotations

import re
from pathlib import Path

from libs.db.queries import load_queries

_QUERIES = load_queries(Path(__file__).parent / "queries.sql")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def statements(schema: str) -> dict[str, str]:
    """Every block of queries.sql by name, for an outbox or a consumer in `schema`."""
    if not _NAME.fullmatch(schema):
        raise ValueError(f"{schema!r} is no plain lower-case schema name")
    return {name: text.replace("{schema}", schema) for name, text in _QUERIES.items()}
