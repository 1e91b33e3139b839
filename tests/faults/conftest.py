"""One Pawl for all tests that leave it whole, and the seed of everything random."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.faults.stack import FaultStack, fault_stack

SEED = "PAWL_FAULT_SEED"


@pytest.fixture(scope="session")
def session_seed() -> int:
    """Of PAWL_FAULT_SEED, else a new one."""
    return int(os.environ.get(SEED) or secrets.randbelow(10**6))


@pytest.fixture
def seed(session_seed: int) -> int:
    """The seed of this run; pytest shows the line when the test fails."""
    print(f"{SEED}={session_seed}")
    return session_seed


class SharedStack:
    """The Pawl that tests share until one of them spoils it."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._open = AsyncExitStack()
        self._stack: FaultStack | None = None

    async def get(self) -> FaultStack:
        """It, or a new one."""
        if self._stack is None or self._stack.is_spoiled:
            await self.close()
            place = self._factory.mktemp("faults")
            self._stack = await self._open.enter_async_context(fault_stack(place))
        return self._stack

    async def close(self) -> None:
        """Stop it."""
        self._stack = None
        await self._open.aclose()


@pytest_asyncio.fixture(scope="session")
async def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SharedStack]:
    """Started when first asked for."""
    shared = SharedStack(tmp_path_factory)
    yield shared
    await shared.close()


@pytest_asyncio.fixture
async def stack(shared_stack: SharedStack) -> FaultStack:
    """Two executors, two schedulers. Every test heals what it has hurt."""
    return await shared_stack.get()
