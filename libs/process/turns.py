"""Turns that owners share fairly, for work of which few pieces go at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from libs.core.turns import next_turn


class FairTurns:
    """At most `most` turns at once, `most_each` of one owner; who holds fewest goes first.

    Belongs to one event loop.
    """

    def __init__(self, most: int, *, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._held: Counter[Hashable] = Counter()
        self._waiting: list[tuple[Hashable, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, owner: Hashable) -> AsyncIterator[None]:
        """Wait for a turn and keep it for as long as the block runs."""
        await self.take(owner)
        try:
            yield
        finally:
            self.give_back(owner)

    async def take(self, owner: Hashable) -> None:
        """Wait for a turn, to be given back once. Cancelled: no turn is taken, none is lost."""
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((owner, called))
        self._call()
        try:
            await called
        except asyncio.CancelledError:
            if called.cancelled():
                self._waiting = [each for each in self._waiting if each[1] is not called]
            else:
                # It was called in the moment in which it gave up.
                self.give_back(owner)
            raise

    def give_back(self, owner: Hashable) -> None:
        """End a turn of the owner; who is next goes."""
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        self._call()

    def _call(self) -> None:
        self._waiting = [each for each in self._waiting if not each[1].done()]
        while (place := self._next()) is not None:
            owner, called = self._waiting.pop(place)
            self._held[owner] += 1
            called.set_result(None)

    def _next(self) -> int | None:
        owners = [owner for owner, _ in self._waiting]
        return next_turn(owners, self._held, most=self._most, most_each=self._most_each)
