"""Use cases of the tool catalogue: register, withdraw, list, and the snapshot for planning.

The catalogue is read on demand and at most once a second, however many plans are checked: nothing
is read while nobody asks. What this instance registers or withdraws it sees at once, what another
instance does within MAX_AGE_SECONDS. An offer lapses by the clock of the database: the time left is
read from there and counted down here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Protocol
from uuid import UUID

from libs.core.clock import Clock
from libs.core.paging import Listing, page_size_of
from services.planner.model import CatalogTool, ListedTool, Offer, Snapshot, ToolPage
from services.planner.problems import refusal
from services.planner.store import NewTool
from services.planner.tool_checks import check_offer
from services.planner.tool_versions import version_key

LIFETIME_SECONDS = 60.0
MAX_AGE_SECONDS = 1.0

_LISTING = Listing(name="planner.tools")


class CatalogStore(Protocol):
    """What the catalogue needs of the store."""

    async def read_catalog(self) -> dict[str, float]:
        """Every digest and for how many seconds it is still on offer."""
        ...

    async def read_tools(self, digests: frozenset[str]) -> list[CatalogTool]:
        """The tools with these digests."""
        ...

    async def register(
        self,
        tools: list[NewTool],
        *,
        executor_id: str,
        boot_id: UUID,
        lifetime_seconds: float,
    ) -> datetime:
        """Note an offer; until when it holds."""
        ...

    async def withdraw(self, *, executor_id: str, boot_id: UUID) -> None:
        """End an offer."""
        ...


class Catalog:
    """The catalogue as one planner process sees it."""

    def __init__(self, store: CatalogStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._tools: dict[str, CatalogTool] = {}
        self._snapshot: Snapshot | None = None
        self._changes = 0
        self._reading = asyncio.Lock()
        self.changed = asyncio.Event()
        """Set with each change that is made here, cleared by who has looked."""

    async def register(self, offer: Offer) -> datetime:
        """Note what an executor offers, in place of what it offered before; until when it holds.

        Raises PawlError validation_failed with the fine word for each field; a spec that was
        registered before stays as it is, except that it gets examples when it had none.
        """
        refused = refusal(check_offer(offer))
        if refused is not None:
            raise refused
        tools = [NewTool(digest=spec.digest(), spec=spec) for spec in offer.tools]
        expires_at = await self._store.register(
            tools,
            executor_id=offer.executor_id,
            boot_id=offer.boot_id,
            lifetime_seconds=LIFETIME_SECONDS,
        )
        self._forget_bare(tools)
        self._forget()
        return expires_at

    async def withdraw(self, *, executor_id: str, boot_id: UUID) -> None:
        """End what one boot of an executor offers; unknown ids are fine."""
        await self._store.withdraw(executor_id=executor_id, boot_id=boot_id)
        self._forget()

    async def list(self, *, page_size: int, page_token: str) -> ToolPage:
        """A page of every tool ever registered, by name, the newest version of a name first.

        Raises PawlError invalid_cursor, or validation_failed for the page size.
        """
        size = page_size_of(page_size)
        snapshot = await self.snapshot()
        tools = [tool for name in sorted(snapshot.by_name) for tool in snapshot.by_name[name]]
        start = _start_of(tools, page_token)
        page = tools[start : start + size]
        more = start + size < len(tools)
        now = self._clock.monotonic()
        return ToolPage(
            tools=tuple(
                ListedTool(tool=tool, available=snapshot.is_offered(tool, now=now)) for tool in page
            ),
            next_page_token=_LISTING.token(_keyset(page[-1])) if more else "",
        )

    async def snapshot(self) -> Snapshot:
        """The catalogue, read at most MAX_AGE_SECONDS ago."""
        known = self._fresh()
        if known is not None:
            return known
        async with self._reading:
            # Whoever waited for another's reading takes that.
            known = self._fresh()
            return known if known is not None else await self._read()

    def _fresh(self) -> Snapshot | None:
        known = self._snapshot
        if known is None or self._clock.monotonic() - known.read_at > MAX_AGE_SECONDS:
            return None
        return known

    async def _read(self) -> Snapshot:
        changes, read_at, tools = self._changes, self._clock.monotonic(), self._tools
        seconds_left = await self._store.read_catalog()
        missing = frozenset(seconds_left) - frozenset(tools)
        if missing:
            found = await self._store.read_tools(missing)
            tools |= {tool.ref.digest: tool for tool in found}
        snapshot = Snapshot(
            read_at=read_at,
            by_name=_by_name([tools[digest] for digest in seconds_left]),
            expires={digest: read_at + left for digest, left in seconds_left.items()},
        )
        # A change that was made meanwhile may be missing in what was read: then it is not kept.
        if changes == self._changes:
            self._snapshot = snapshot
        return snapshot

    def _forget_bare(self, tools: Iterable[NewTool]) -> None:
        """Have tools read again that were known without the examples that they have now."""
        filled = {tool.digest for tool in tools if tool.spec.examples}
        # A new dict: a reading that is under way goes on with the old one.
        self._tools = {
            digest: known
            for digest, known in self._tools.items()
            if known.spec.examples or digest not in filled
        }

    def _forget(self) -> None:
        self._changes += 1
        self._snapshot = None
        self.changed.set()


def _by_name(tools: list[CatalogTool]) -> dict[str, tuple[CatalogTool, ...]]:
    named: dict[str, list[CatalogTool]] = {}
    for tool in sorted(tools, key=_age, reverse=True):
        named.setdefault(tool.spec.name, []).append(tool)
    return {name: tuple(same) for name, same in named.items()}


def _age(tool: CatalogTool) -> tuple[object, ...]:
    """Sorts from oldest to newest: by version; the same version by when it was registered."""
    return (version_key(tool.spec.version), tool.registered_at, tool.ref.digest)


def _keyset(tool: CatalogTool) -> tuple[str, str, str]:
    return (tool.spec.name, tool.spec.version, tool.ref.digest)


def _start_of(tools: list[CatalogTool], page_token: str) -> int:
    """The place after the tool that the token names: tools stay in the list for good."""
    if not page_token:
        return 0
    name, _, digest = _LISTING.keyset(page_token, kinds=(str, str, str))
    places = [place for place, tool in enumerate(tools) if tool.ref.digest == digest]
    behind = [place for place, tool in enumerate(tools) if tool.spec.name > str(name)]
    return places[0] + 1 if places else min(behind, default=len(tools))
