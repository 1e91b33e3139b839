"""Named statements run as they were compiled: psycopg translates nothing on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import AsyncRawCursor
from psycopg.rows import DictRow, dict_row

from libs.db.engine import Connection
from libs.db.queries import Query


async def fetch(
    connection: Connection, query: Query, parameters: Mapping[str, Any]
) -> list[DictRow]:
    """All rows of one statement, which goes to the server as it was compiled."""
    cursor = AsyncRawCursor(connection, row_factory=dict_row)
    await cursor.execute(query.raw, query.bound(parameters))
    return await cursor.fetchall()
