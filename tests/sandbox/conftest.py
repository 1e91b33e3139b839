"""The backends that guests are tested on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.sandbox.guest_world import BACKENDS, Backends, GuestWorld


@pytest_asyncio.fixture(scope="session")
async def backends() -> AsyncIterator[Backends]:
    """The backends of this session, prepared on demand."""
    backends = Backends()
    yield backends
    await backends.close()


@pytest_asyncio.fixture(params=BACKENDS)
async def guests(backends: Backends, request: pytest.FixtureRequest) -> AsyncIterator[GuestWorld]:
    """Guests of each backend that this machine has."""
    world = await backends.world(request.param)
    yield world
    await world.clear()
