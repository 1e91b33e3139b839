"""Tasks read together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest

from services.scheduler.model import StoredTask
from services.scheduler.task_reads import MOST_READS, Asked, TaskReads

TENANT, OTHER = UUID(int=1), UUID(int=2)
A, B = UUID(int=10), UUID(int=11)


class Table:
    """Answers reads one at a time, when it is let."""

    def __init__(self) -> None:
        self.rows: dict[Asked, Any] = {(TENANT, A): "a", (TENANT, B): "b"}
        self.batches: list[list[Asked]] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.error: Exception | None = None

    async def read(self, asked: Sequence[Asked]) -> Mapping[Asked, StoredTask]:
        self.batches.append(list(asked))
        found = {one: self.rows[one] for one in asked if one in self.rows}
        await self.is_open.wait()
        if self.error is not None:
            raise self.error
        return found


def reads_of(table: Table) -> Any:
    """Reads of a table whose rows are words."""
    return TaskReads(table.read)


async def test_task_of_the_tenant_and_no_others() -> None:
    reads = reads_of(Table())

    assert await reads.get(TENANT, A) == "a"
    assert await reads.get(OTHER, A) is None


async def test_reads_that_wait_for_one_go_together_and_see_what_came_since() -> None:
    table = Table()
    reads = reads_of(table)
    table.is_open.clear()
    first = asyncio.create_task(reads.get(TENANT, A))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    table.rows[TENANT, A] = "newer"
    later = [asyncio.create_task(reads.get(TENANT, one)) for one in (A, B, A)]
    await asyncio.sleep(0)
    table.is_open.set()

    assert await first == "a"
    assert await asyncio.gather(*later) == ["newer", "b", "newer"]
    assert table.batches == [[(TENANT, A)], [(TENANT, A), (TENANT, B)]]


async def test_failure_is_heard_by_all_who_waited_and_by_nobody_later() -> None:
    table = Table()
    reads = reads_of(table)
    table.error = ConnectionError("away")
    asked = [asyncio.create_task(reads.get(TENANT, A)) for _ in range(3)]

    for one in asked:
        with pytest.raises(ConnectionError):
            await one
    table.error = None
    assert await reads.get(TENANT, A) == "a"


async def test_one_that_gives_up_takes_nobody_along() -> None:
    table = Table()
    reads = reads_of(table)
    table.is_open.clear()
    gone, stays = (asyncio.create_task(reads.get(TENANT, A)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    table.is_open.set()

    assert await stays == "a"
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_batches_are_bounded() -> None:
    table = Table()
    reads = reads_of(table)

    await asyncio.gather(*(reads.get(TENANT, UUID(int=n)) for n in range(MOST_READS + 1)))

    assert [len(batch) for batch in table.batches] == [MOST_READS, 1]
