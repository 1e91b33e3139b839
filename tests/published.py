"""What the postgres driver has published in a database, held against docs/asyncapi.yaml."""

from __future__ import annotations

import json
from collections import Counter

import psycopg

from libs.bus.topics import DEAD_LETTERS
from tests.asyncapi import Published, check_all
from tests.waiting import eventually

_RECORDS = "SELECT topic, key, headers, value FROM bus.records ORDER BY topic, position"
_WRITTEN = "SELECT type, count(*) FROM scheduler.task_events GROUP BY type"
_WAITING = "SELECT FROM scheduler.outbox LIMIT 1"


async def read_published(dsn: str) -> list[Published]:
    """All that stands in every topic, in order."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await _records(connection)


async def check_published(dsn: str) -> Counter[str]:
    """Wait for the relay, then check every record; how many there are of each type.

    Of each type as many as there are in the event log: an event left out would not be checked.
    """

    async def is_whole() -> tuple[list[Published], dict[str, int]] | None:
        # One snapshot: a task that is still running may write meanwhile.
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            if await (await connection.execute(_WAITING)).fetchone() is not None:
                return None
            rows = await (await connection.execute(_WRITTEN)).fetchall()
            written = {f"pawl.task.{name}.v1": count for name, count in rows}
            return await _records(connection), written

    found = await eventually(is_whole, timeout=10)
    assert found is not None
    records, written = found
    seen = check_all(records)
    assert {name: count for name, count in seen.items() if name != DEAD_LETTERS} == written
    return seen


async def _records(connection: psycopg.AsyncConnection) -> list[Published]:
    rows = await (await connection.execute(_RECORDS)).fetchall()
    return [
        Published(topic=topic, key=key, headers=json.loads(headers), value=value)
        for topic, key, headers, value in rows
    ]
