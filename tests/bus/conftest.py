"""One suite for both drivers: every test that asks for a `world` runs on each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.brokers import broker, until_it_answers
from tests.bus.world import KafkaWorld, PostgresWorld, World, kafka_world, postgres_world
from tests.servers import SYSTEM_BINARIES, Servers

_SYSTEM = pytest.param(
    "postgres on Debian's server",
    marks=pytest.mark.skipif(
        not SYSTEM_BINARIES,
        reason="no server in /usr/lib/postgresql (Debian: apt install postgresql)",
    ),
)


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """A running broker, in a container unless PAWL_TEST_KAFKA_BOOTSTRAP names one."""
    with broker() as address:
        yield address


@pytest_asyncio.fixture(params=["postgres", _SYSTEM, "kafka"])
async def world(servers: Servers, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """An empty bus of each driver."""
    driver = request.param
    if driver == "kafka":
        async for kafka in _kafka(servers, request.getfixturevalue("bootstrap")):
            yield kafka
        return
    server = await servers.get("wheel" if driver == "postgres" else "system")
    async with server.fresh_database() as database, postgres_world(database) as made:
        yield made


@pytest_asyncio.fixture
async def kafka(servers: Servers, bootstrap: str) -> AsyncIterator[KafkaWorld]:
    """An empty bus of the kafka driver, for what only that one can do."""
    async for made in _kafka(servers, bootstrap):
        yield made


@pytest_asyncio.fixture
async def postgres(servers: Servers) -> AsyncIterator[PostgresWorld]:
    """An empty bus of the postgres driver, for what only that one can do."""
    server = await servers.get("wheel")
    async with server.fresh_database() as database, postgres_world(database) as made:
        yield made


async def _kafka(servers: Servers, bootstrap: str) -> AsyncIterator[KafkaWorld]:
    await until_it_answers(bootstrap)
    server = await servers.get("wheel")
    async with server.fresh_database() as database, kafka_world(database, bootstrap) as made:
        yield made
