"""What the postgres driver has published in a database, held against docs/asyncapi.yaml."""

from __future__ import annotations

import json
from collections import Counter

import psycopg

from libs.bus.topics import TASK_EVENTS
from tests.asyncapi import Published, check_all
from tests.waiting import eventually

_RECORDS = "SELECT topic, key, headers, value FROM bus.records ORDER BY topic, position"
_WRITTEN = "SELECT task_id || ':' || seq FROM scheduler.task_events"
_WAITING = "SELECT FROM scheduler.outbox LIMIT 1"


async def read_published(dsn: str) -> list[Published]:
    """All that stands in every topic, in order."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await _records(connection)


async def check_published(dsn: str) -> Counter[str]:
    """Wait for the relay, then check every record; how many there are of each type.

    Every event of the log must be among them: one left out would not be checked.
    """

    async def is_whole() -> tuple[list[Published], set[str]] | None:
        # One snapshot: a task that is still running may write meanwhile.
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            if await (await connection.execute(_WAITING)).fetchone() is not None:
                return None
            rows = await (await connection.execute(_WRITTEN)).fetchall()
            return await _records(connection), {row[0] for row in rows}

    found = await eventually(is_whole, timeout=10)
    assert found is not None
    records, written = found
    seen = check_all(records)
    assert {one.headers["ce_id"] for one in records if one.topic == TASK_EVENTS} == written
    return seen


async def _records(connection: psycopg.AsyncConnection) -> list[Published]:
    rows = await (await connection.execute(_RECORDS)).fetchall()
    return [
        Published(topic=topic, key=key, headers=json.loads(headers), value=value)
        for topic, key, headers, value in rows
    ]
