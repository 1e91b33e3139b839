"""What only the postgres driver has: positions, roles, and what it drops itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from psycopg import errors

from libs.bus.topics import DEAD_LETTERS, TASK_EVENTS
from libs.db.queries import load_queries
from tests.bus.world import READER, WRITER, PostgresWorld, postgres_world
from tests.servers import Database


@pytest_asyncio.fixture
async def world(database: Database) -> AsyncIterator[PostgresWorld]:
    async with postgres_world(database) as world:
        yield world


async def test_read_pages_through_a_topic(world: PostgresWorld) -> None:
    await world.write_tasks(3, events=2)
    await world.publisher.move()

    pages = [await world.bus.read(TASK_EVENTS, after, 4) for after in (0, 4, 6)]

    assert [[r.position for r in page] for page in pages] == [[1, 2, 3, 4], [5, 6], []]
    assert await world.bus.last_position(TASK_EVENTS) == 6


async def test_last_position_of_an_unknown_topic_is_refused(world: PostgresWorld) -> None:
    with pytest.raises(KeyError, match=r"pawl\.other"):
        await world.bus.last_position("pawl.other")


async def test_drop_expired_drops_only_what_is_old(world: PostgresWorld) -> None:
    await world.write_tasks(4, events=1)
    await world.publisher.move()
    await world.ask("UPDATE bus.records SET at = now() - interval '8 days' WHERE position <= 3")

    dropped = await world.publisher.drop_expired()

    assert dropped == 3
    assert [r.position for r in await world.records()] == [4]


async def test_consumer_roles_write_dead_letters_and_nothing_else(world: PostgresWorld) -> None:
    headers, value = '{"pawl_reason":"it hurt"}', "{}"
    async with world.reader.connection() as connection:
        await connection.execute("SELECT bus.dead_letter(%s, %s, %s)", ("k", headers, value))
        with pytest.raises(errors.InsufficientPrivilege):
            await connection.execute(
                "INSERT INTO bus.records (topic, position, key, headers, value)"
                " VALUES ('pawl.task.events.v1', 1, 'k', '{}', '{}')"
            )
        with pytest.raises(errors.InsufficientPrivilege):
            await connection.execute("UPDATE bus.topics SET last_position = 9")
        with pytest.raises(errors.InsufficientPrivilege):
            await connection.execute("SELECT bus.task_state(gen_random_uuid())")

    letters = await world.bus.read(DEAD_LETTERS, 0, 10)
    assert [(letter.key, letter.headers) for letter in letters] == [("k", headers)]


async def test_writer_roles_cannot_change_a_record(world: PostgresWorld) -> None:
    async with world.writer.connection() as connection:
        with pytest.raises(errors.InsufficientPrivilege):
            await connection.execute("UPDATE bus.records SET value = '{}'")


async def test_every_statement_can_be_prepared(world: PostgresWorld) -> None:
    queries = load_queries(Path("libs/bus/queries.sql"))
    async with await psycopg.AsyncConnection.connect(world.owner_dsn, autocommit=True) as owner:
        for name in queries:
            block = queries.block(name)
            schema = WRITER if "{schema}.outbox" in block.text else READER
            text = block.text.replace("{schema}", schema)
            for number, parameter in enumerate(block.parameters, start=1):
                text = text.replace(f"%({parameter})s", f"${number}")
            await owner.execute(f"PREPARE {name} AS {text}".encode())
