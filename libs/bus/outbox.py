"""What both drivers do with an outbox and with what they keep in the database."""

from __future__ import annotations

from collections.abc import Mapping

from libs.bus.bus import Backlog
from libs.db.engine import Connection, Pool

OUTBOX_CHANNEL = "pawl_outbox"
"""Notified by those who wrote to the outbox and do not publish it; whoever does wakes up."""

COUNT_MOST_ROWS = 100_000
DROP_MOST_ROWS = 5_000


async def read_backlog(connection: Connection, sql: Mapping[str, str]) -> Backlog:
    """What waits in the outbox whose statements these are; at most 100,000 rows are counted."""
    cursor = await connection.execute(sql["backlog"], {"most": COUNT_MOST_ROWS})
    row = await cursor.fetchone()
    if row is None:
        raise RuntimeError("an aggregate without a row")
    return Backlog(rows=row["rows"], oldest_age_seconds=row["oldest_age_seconds"])


async def drop_in_parts(pool: Pool, statement: str, *, kept_seconds: float, **names: str) -> int:
    """Run a deletion until it finds fewer rows than it takes at a time; how many it deleted."""
    parameters = {**names, "kept_seconds": kept_seconds, "most": DROP_MOST_ROWS}
    dropped = 0
    while True:
        async with pool.connection() as connection:
            cursor = await connection.execute(statement, parameters)
        dropped += cursor.rowcount
        if cursor.rowcount < DROP_MOST_ROWS:
            return dropped
