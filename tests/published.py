"""What a running Pawl has published, on either bus, held against docs/asyncapi.yaml."""

from __future__ import annotations

import json
from collections import Counter

import psycopg

from libs.bus.settings import KAFKA
from libs.bus.topics import TASK_EVENTS, TOPICS
from libs.cli.stack import Stack
from tests.asyncapi import Published, check_all
from tests.brokers import read_topic
from tests.stacks import bus_of
from tests.waiting import eventually

_RECORDS = "SELECT topic, key, headers, value FROM bus.records ORDER BY topic, position"
_WRITTEN = "SELECT task_id || ':' || seq FROM scheduler.task_events"
_WAITING = "SELECT FROM scheduler.outbox LIMIT 1"


async def read_published(stack: Stack) -> list[Published]:
    """All that stands in every topic; what is of one task is in order."""
    settings = bus_of(stack)
    if settings.driver != KAFKA:
        async with await psycopg.AsyncConnection.connect(stack.ready.postgres.dsn) as connection:
            return await rows_of_the_bus(connection)
    return [Published.of(one) for topic in TOPICS for one in await read_topic(settings, topic)]


async def check_published(stack: Stack) -> Counter[str]:
    """Wait for the relay, then check every record; how many there are of each type.

    Every event of the log must be among them: one left out would not be checked.
    """

    async def is_whole() -> tuple[list[Published], set[str]] | None:
        # One snapshot: a task that is still running may write meanwhile.
        async with await psycopg.AsyncConnection.connect(stack.ready.postgres.dsn) as connection:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            if await (await connection.execute(_WAITING)).fetchone() is not None:
                return None
            rows = await (await connection.execute(_WRITTEN)).fetchall()
            written = {row[0] for row in rows}
            if bus_of(stack).driver != KAFKA:
                return await rows_of_the_bus(connection), written
        return await read_published(stack), written

    found = await eventually(is_whole, timeout=10)
    assert found is not None
    records, written = found
    seen = check_all(records)
    published = {one.headers["ce_id"] for one in records if one.topic == TASK_EVENTS}
    # A broker cannot be asked for the moment of the snapshot: it may be ahead.
    assert written <= published if bus_of(stack).driver == KAFKA else written == published
    return seen


async def rows_of_the_bus(connection: psycopg.AsyncConnection) -> list[Published]:
    """All records of the postgres driver, in order."""
    rows = await (await connection.execute(_RECORDS)).fetchall()
    return [
        Published(topic=topic, key=key, headers=json.loads(headers), value=value)
        for topic, key, headers, value in rows
    ]
