"""Events read once for many."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from services.scheduler.event_reads import Asked, EventReads
from services.scheduler.model import StoredEvent

TENANT, TASK = UUID(int=1), UUID(int=2)


class Table:
    """Answers reads when it is let; its events are words."""

    def __init__(self) -> None:
        self.events: Any = ["a"]
        self.reads: list[Asked] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.error: Exception | None = None

    async def read(self, asked: Asked) -> list[StoredEvent]:
        self.reads.append(asked)
        found: list[StoredEvent] = list(self.events)
        await self.is_open.wait()
        if self.error is not None:
            raise self.error
        return found


def reads_of(table: Table) -> Any:
    """Reads of a table whose events are words."""
    return EventReads(table.read)


async def asked(reads: Any, *keys: Asked) -> list[Any]:
    return await asyncio.gather(*(reads.get(key) for key in keys))


async def test_who_asks_together_is_answered_together() -> None:
    table = Table()
    reads = reads_of(table)

    answers = await asked(reads, *[(TENANT, TASK, 3)] * 200, (TENANT, TASK, 4))

    assert answers == [["a"]] * 201
    assert table.reads == [(TENANT, TASK, 3), (TENANT, TASK, 4)]


async def test_who_asks_later_sees_what_came_since() -> None:
    table = Table()
    reads = reads_of(table)
    table.is_open.clear()
    early = asyncio.create_task(reads.get((TENANT, TASK, 0)))
    while not table.reads:
        await asyncio.sleep(0)
    table.events = ["a", "b"]
    late = [asyncio.create_task(reads.get((TENANT, TASK, 0))) for _ in range(3)]
    await asyncio.sleep(0)
    table.is_open.set()

    assert await early == ["a"]
    assert await asyncio.gather(*late) == [["a", "b"]] * 3
    assert len(table.reads) == 2


async def test_nothing_is_remembered() -> None:
    table = Table()
    reads = reads_of(table)

    first = await reads.get((TENANT, TASK, 0))
    table.events = []

    assert (first, await reads.get((TENANT, TASK, 0))) == (["a"], [])
    assert not reads._waiting
    assert not reads._reading


async def test_a_read_that_fails_fails_for_all_who_wait_and_for_nobody_after() -> None:
    table = Table()
    table.error = OSError("away")
    reads = reads_of(table)

    failed = await asyncio.gather(
        *(reads.get((TENANT, TASK, 0)) for _ in range(3)), return_exceptions=True
    )
    table.error = None

    assert failed == [failed[0]] * 3
    assert isinstance(failed[0], OSError)
    assert await asked(reads, (TENANT, TASK, 0)) == [["a"]]


async def test_who_gives_up_leaves_the_others_their_answer() -> None:
    table = Table()
    reads = reads_of(table)
    table.is_open.clear()
    leaving, staying = (asyncio.create_task(reads.get((TENANT, TASK, 0))) for _ in range(2))
    while not table.reads:
        await asyncio.sleep(0)

    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    table.is_open.set()

    assert await staying == ["a"]
