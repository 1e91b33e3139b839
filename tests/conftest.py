"""What every test may ask for: a fresh database, the keys of an installation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from libs.rpc.tokens import KeyRing
from tests.servers import Database, Server, Servers
from tests.stacks import StackEnvirons, stack_environs


@pytest_asyncio.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """The PostgreSQL servers of this session, started on demand."""
    servers = Servers(tmp_path_factory.mktemp("pg"))
    yield servers
    await servers.close()


@pytest_asyncio.fixture
async def server(servers: Servers, request: pytest.FixtureRequest) -> Server:
    """A running server: the wheel's, or the kind that the test is parametrized with."""
    return await servers.get(getattr(request, "param", "wheel"))


@pytest_asyncio.fixture
async def database(server: Server) -> AsyncIterator[Database]:
    """A fresh database with every migration applied, dropped after the test."""
    async with server.fresh_database() as database:
        yield database


@pytest.fixture(scope="session")
def environs() -> Iterator[StackEnvirons]:
    """The environments of whole stacks."""
    with stack_environs() as environs:
        yield environs


@pytest.fixture(scope="session")
def keys() -> KeyRing:
    """The signing keys of all services, in memory."""
    return KeyRing.generate()
