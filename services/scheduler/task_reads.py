"""Reads tasks as they are asked for: one statement for all that waited for the last one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias
from uuid import UUID

from services.scheduler.model import StoredTask

MOST_READS = 200

Asked: TypeAlias = tuple[UUID, UUID]
"""A tenant and a task."""
Read = Callable[[Sequence[Asked]], Awaitable[Mapping[Asked, StoredTask]]]


class TaskReads:
    """`get` sees all that was committed when it was called; nothing is remembered."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._waiting: list[tuple[Asked, asyncio.Future[StoredTask | None]]] = []
        self._reading: asyncio.Task[None] | None = None

    async def get(self, tenant_id: UUID, task_id: UUID) -> StoredTask | None:
        """A task of the tenant; what the statement raises, everybody hears who waits for it."""
        answer: asyncio.Future[StoredTask | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(((tenant_id, task_id), answer))
        if self._reading is None:
            self._reading = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:MOST_READS]
                del self._waiting[:MOST_READS]
                await self._answer(batch)
        finally:
            self._reading = None

    async def _answer(
        self, batch: Sequence[tuple[Asked, asyncio.Future[StoredTask | None]]]
    ) -> None:
        asked = list(dict.fromkeys(one for one, _ in batch))
        try:
            found = await self._read(asked)
        except Exception as error:  # noqa: BLE001 - whoever asked handles it
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for one, answer in batch:
            if not answer.done():
                answer.set_result(found.get(one))
