"""A pool over a backend of the session, which is not closed with the pool."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.executor.sandbox.model import Backend
from services.executor.sandbox.pool import PooledSandbox, PoolSize
from tests.sandbox.guest_world import GuestWorld


class _Lent:
    """A backend of others, which is not closed with the pool."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.prepare = backend.prepare
        self.start = backend.start
        self.boots = backend.boots
        self.remove = backend.remove

    async def close(self) -> None:
        """Leave it open."""


@asynccontextmanager
async def lent_pool(guests: GuestWorld) -> AsyncIterator[PooledSandbox]:
    """A sandbox with one guest ready."""
    sandbox = PooledSandbox(
        _Lent(guests.backend),
        identity=guests.identity,
        boot_id=lambda: "boot",
        size=PoolSize(guests=1, starting=1),
    )
    try:
        yield sandbox
    finally:
        await sandbox.close()
