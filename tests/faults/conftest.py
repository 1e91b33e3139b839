"""One Pawl for all tests that leave it whole, and the seed of everything random."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator

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


@pytest_asyncio.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultStack]:
    """Two executors, two schedulers. Every test heals what it has hurt."""
    async with fault_stack(tmp_path_factory.mktemp("faults")) as running:
        yield running
