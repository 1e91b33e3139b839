"""One whole Pawl for all end-to-end tests, and one on Debian's PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.cli.client import Client
from libs.cli.stack import Stack, running_stack
from tests.published import check_published
from tests.servers import SYSTEM_BINARIES, Servers
from tests.stacks import StackEnvirons


@pytest_asyncio.fixture(scope="session")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons
) -> AsyncIterator[Stack]:
    """`pawl up` with the PostgreSQL that comes along. Nobody may stop or starve it.

    At its end all that it published must be as docs/asyncapi.yaml says; so too below.
    """
    data_dir = tmp_path_factory.mktemp("stack") / "data"
    with running_stack(data_dir, environ=environs.fresh()) as running:
        yield running
        await check_published(running)


@pytest_asyncio.fixture(scope="session")
async def system_stack(
    tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons
) -> AsyncIterator[Stack]:
    """`pawl up` on an empty database of Debian's server, named by PAWL_DATABASE_URL."""
    if not SYSTEM_BINARIES:
        pytest.skip("Debian's PostgreSQL server is not installed")
    servers = Servers(tmp_path_factory.mktemp("system-pg"))
    try:
        server = await servers.get("system")
        async with server.fresh_database(migrated=False) as database:
            env = environs.fresh(PAWL_DATABASE_URL=database.owner_dsn)
            with running_stack(tmp_path_factory.mktemp("stack") / "data", environ=env) as running:
                yield running
                await check_published(running)
    finally:
        await servers.close()


@pytest.fixture(params=["wheel", "system"])
def any_stack(request: pytest.FixtureRequest) -> Stack:
    """Either of the two."""
    found = request.getfixturevalue("stack" if request.param == "wheel" else "system_stack")
    assert isinstance(found, Stack)
    return found


@pytest.fixture
def client(stack: Stack) -> Client:
    """A client with the operator's key."""
    return Client(stack.server)
