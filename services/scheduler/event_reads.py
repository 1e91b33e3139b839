"""Reads events of a task once for all who ask for the same ones at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from uuid import UUID

from services.scheduler.model import StoredEvent

Asked: TypeAlias = tuple[UUID, UUID, int]
"""A tenant, a task, and the seq after which events are wanted."""
Read = Callable[[Asked], Awaitable[list[StoredEvent]]]


class EventReads:
    """`get` sees all that was committed when it was called; nothing is remembered.

    Two hundred who follow a task are woken together by each of its events, and would ask two
    hundred times.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._waiting: dict[Asked, list[asyncio.Future[list[StoredEvent]]]] = {}
        self._reading: dict[Asked, asyncio.Task[None]] = {}

    async def get(self, asked: Asked) -> list[StoredEvent]:
        """Events; what the read raises, everybody hears who waits for it."""
        answer: asyncio.Future[list[StoredEvent]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(asked, []).append(answer)
        if asked not in self._reading:
            self._reading[asked] = asyncio.create_task(self._run(asked))
        return await answer

    async def _run(self, asked: Asked) -> None:
        try:
            # Who asks while one read is under way waits for the next: it must not see less.
            while waiting := self._waiting.pop(asked, None):
                await self._answer(asked, waiting)
        finally:
            del self._reading[asked]

    async def _answer(self, asked: Asked, waiting: list[asyncio.Future[list[StoredEvent]]]) -> None:
        try:
            events = await self._read(asked)
        except Exception as error:  # noqa: BLE001 - whoever asked handles it
            for answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            return
        for answer in waiting:
            if not answer.done():
                answer.set_result(events)
