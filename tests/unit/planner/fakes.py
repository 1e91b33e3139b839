"""Stand-ins for what the planner's use cases reach."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.planner.model import CatalogTool
from services.planner.store import NewTool
from tests.unit.planner.shipped import make_tool


class HeldClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 11, 23, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class FakeCatalogStore:
    """The catalogue in memory, counting how often it is read."""

    def __init__(self, clock: HeldClock) -> None:
        self._clock = clock
        self._tools: dict[str, CatalogTool] = {}
        self._offers: dict[tuple[str, UUID, str], float] = {}
        self.catalog_reads = 0
        self.tool_reads: list[int] = []

    async def read_catalog(self) -> dict[str, float]:
        self.catalog_reads += 1
        left = dict.fromkeys(self._tools, 0.0)
        for (_, _, digest), ends in self._offers.items():
            left[digest] = max(left[digest], ends - self._clock.monotonic())
        return left

    async def read_tools(self, digests: Collection[str]) -> list[CatalogTool]:
        self.tool_reads.append(len(digests))
        return [self._tools[digest] for digest in digests]

    async def register(
        self, tools: Sequence[NewTool], *, executor_id: str, boot_id: UUID, lifetime_seconds: float
    ) -> datetime:
        await self.withdraw(executor_id=executor_id, boot_id=boot_id)
        for tool in tools:
            known = make_tool(tool.spec, registered_at=self._clock.now())
            stored = self._tools.setdefault(tool.digest, known)
            if not stored.spec.examples:
                self._tools[tool.digest] = replace(stored, spec=tool.spec)
            ends = self._clock.monotonic() + lifetime_seconds
            self._offers[executor_id, boot_id, tool.digest] = ends
        return self._clock.now() + timedelta(seconds=lifetime_seconds)

    async def withdraw(self, *, executor_id: str, boot_id: UUID) -> None:
        ended = [key for key in self._offers if key[:2] == (executor_id, boot_id)]
        for key in ended:
            del self._offers[key]
