"""A database server in the simulation, and the stores of a scheduler that ask it.

A statement takes effect at one moment between its question and its answer. The question may get
lost, and so may the answer; the server may stand still, and goes on with what it was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar
from uuid import UUID

from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from libs.bus.bus import Backlog, Moved
from libs.core.errors import Failure
from libs.core.lifecycle import TaskState
from libs.db.engine import STATEMENT_TIMEOUT_SECONDS, WAIT_SECONDS
from services.scheduler.batch_model import KeyHolder
from services.scheduler.judgement import (
    CANCEL_GRACE_SECONDS,
    RECONNECT_SECONDS,
    JudgedTask,
    Settlement,
)
from services.scheduler.model import (
    Assigned,
    Claimed,
    Fate,
    NewTask,
    Renewal,
    ReportRow,
    StoredTask,
    Stream,
)
from services.scheduler.replay_model import Recall, RecordedAnswer
from services.scheduler.store import TaskStore
from services.scheduler.sweep_store import MOST_TASKS, SweepStore, Swept
from services.scheduler.work_store import WorkStore
from tests.simulation.sweep_statements import Statements
from tests.simulation.virtual_loop import Process, VirtualLoop

LEASE_SECONDS = 10.0
CONNECTIONS = 10
RELAY_ROWS = 4
LONGEST_TRIP_SECONDS = 0.004
SLOW_TRIP_SECONDS = 0.5

T = TypeVar("T")


class MemoryServer:
    """Runs statements for its clients; `failures` is how many of a thousand statements break."""

    def __init__(self, loop: VirtualLoop, statements: Statements, random: Random) -> None:
        self.process = Process("database")
        self.statements = statements
        self.failures = 0
        self.on_effect: Callable[[], None] = lambda: None
        self._loop = loop
        self._random = random

    def ask(self, statement: Callable[[], T]) -> asyncio.Future[T]:
        """The answer to a statement, or OperationalError, whether or not it took effect."""
        answer: asyncio.Future[T] = self._loop.create_future()
        fate = self._random.randrange(1000)
        ticket = self.statements.next_ticket()
        asked_at = self._loop.time() + self._trip()

        def run() -> None:
            is_too_late = self._loop.time() - asked_at > STATEMENT_TIMEOUT_SECONDS
            if fate < self.failures or (is_too_late and fate % 2):
                self._answer(answer, error=OperationalError("the statement was not run"))
                return
            self.statements.ticket = ticket
            try:
                result = statement()
            except Exception as error:  # noqa: BLE001 - as a server, it answers and lives on
                self._answer(answer, error=error)
                return
            self.on_effect()
            if fate < 2 * self.failures:
                self._answer(answer, error=OperationalError("the answer was lost"))
            else:
                self._answer(answer, result=result)

        self._loop.call_at(asked_at, run, context=self.process.context)
        return answer

    def _answer(
        self,
        answer: asyncio.Future[T],
        *,
        result: T | None = None,
        error: Exception | None = None,
    ) -> None:
        def tell() -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]  # T may be None itself

        self._loop.call_later(self._trip(), tell, context=self.process.context)

    def _trip(self) -> float:
        if self._random.randrange(20) == 0:
            return self._random.uniform(0, SLOW_TRIP_SECONDS)
        return self._random.uniform(0.0002, LONGEST_TRIP_SECONDS)


class MemoryPool:
    """The connections of one scheduler: so many statements at once, the others wait for 2 s."""

    def __init__(self, server: MemoryServer) -> None:
        self.statements = server.statements
        self.server = server
        self._free = asyncio.Semaphore(CONNECTIONS)

    async def run(self, statement: Callable[[], T]) -> T:
        """Run one statement. OperationalError: nobody knows whether it took effect."""
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        try:
            return await self.server.ask(statement)
        finally:
            self._free.release()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError as error:
            raise PoolTimeout("no connection") from error


class MemoryWorkStore(WorkStore):
    """WorkStore on the server in memory."""

    def __init__(self, pool: MemoryPool, *, notify: Callable[[str], None]) -> None:
        self._pool = pool
        self._sql = pool.statements
        self._notify = notify
        self._claims = asyncio.Lock()

    async def close(self) -> None:
        """There is no connection to hand back."""

    async def hello(self, stream: Stream) -> int | None:
        """As WorkStore.hello."""
        return await self._pool.run(lambda: self._sql.hello(stream, lease_seconds=LEASE_SECONDS))

    async def end_stream(self, stream: Stream) -> None:
        """As WorkStore.end_stream."""
        await self._pool.run(lambda: self._sql.end_stream(stream))

    async def end_boot(self, stream: Stream) -> None:
        """As WorkStore.end_boot."""
        await self._pool.run(lambda: self._sql.end_boot(stream))

    async def renew(self, stream: Stream) -> Renewal:
        """As WorkStore.renew."""
        return await self._pool.run(lambda: self._sql.renew(stream, lease_seconds=LEASE_SECONDS))

    async def held(self, boot_id: UUID) -> list[Assigned]:
        """As WorkStore.held."""
        return await self._pool.run(lambda: self._sql.held(boot_id))

    async def claim(self, stream: Stream, *, slots: int) -> Claimed:
        """As WorkStore.claim: claims of one scheduler share a connection."""
        async with self._claims:
            return await self._pool.run(lambda: self._sql.claim(stream, slots=slots))

    async def report(self, rows: Sequence[ReportRow], *, writer: int = 0) -> dict[UUID, Fate]:
        """As WorkStore.report."""
        del writer
        return await self._pool.run(lambda: self._sql.report(rows))

    async def recall(self, asked: Recall) -> RecordedAnswer | None:
        """As WorkStore.recall."""
        return await self._pool.run(lambda: self._sql.recall(asked))

    async def announce(self, channel: str, payload: str) -> None:
        """As WorkStore.announce."""
        del channel
        await self._pool.run(lambda: self._notify(payload))

    async def count_waiting(self) -> int:
        """As WorkStore.count_waiting."""
        return await self._pool.run(lambda: sum(1 for _ in self._sql.waiting()))


class MemorySweepStore(SweepStore):
    """SweepStore on the server in memory."""

    def __init__(self, pool: MemoryPool) -> None:
        self._pool = pool
        self._sql = pool.statements

    async def sweep(self) -> Swept:
        """As SweepStore.sweep."""
        return await self._pool.run(
            lambda: self._sql.sweep(lease_seconds=LEASE_SECONDS, grace_seconds=RECONNECT_SECONDS)
        )

    async def lost_tasks(self) -> list[JudgedTask]:
        """As SweepStore.lost_tasks."""
        return await self._pool.run(lambda: self._sql.lost_tasks(most=MOST_TASKS))

    async def due_tasks(self) -> list[JudgedTask]:
        """As SweepStore.due_tasks."""
        return await self._pool.run(lambda: self._sql.due_tasks(most=MOST_TASKS))

    async def settle(self, settlements: Sequence[Settlement]) -> dict[UUID, TaskState]:
        """As SweepStore.settle."""
        return await self._pool.run(lambda: self._sql.settle(settlements))

    async def settle_boots(self) -> None:
        """As SweepStore.settle_boots."""
        await self._pool.run(self._sql.settle_boots)

    async def forget_boots(self) -> None:
        """No history lasts a week."""

    async def queue_due(self) -> list[UUID]:
        """As SweepStore.queue_due."""
        return await self._pool.run(lambda: self._sql.queue_due(most=MOST_TASKS))


class MemoryTaskStore(TaskStore):
    """TaskStore on the server in memory, as far as tasks are submitted, read and cancelled."""

    def __init__(self, pool: MemoryPool, random: Random) -> None:
        self._memory = pool
        self._sql = pool.statements
        self._random = random

    async def submit(self, task: NewTask) -> StoredTask | None:
        """As TaskStore.submit."""
        return await self._memory.run(lambda: self._sql.submit(task))

    async def submit_failed(self, task: NewTask, failure: Failure) -> StoredTask | None:
        """Everything can be planned here."""
        raise NotImplementedError

    async def read_key(self, tenant_id: UUID, mode: str, key: str) -> KeyHolder | None:
        """As TaskStore.read_key."""
        return await self._memory.run(lambda: self._sql.read_key(tenant_id, mode, key))

    async def get(self, tenant_id: UUID, task_id: UUID) -> StoredTask | None:
        """As TaskStore.get."""
        return await self._memory.run(lambda: self._sql.get(tenant_id, task_id))

    async def cancel(self, tenant_id: UUID, task_id: UUID) -> StoredTask | None:
        """As TaskStore.cancel; now and then a step closes while it waits for the lock."""
        is_blind = self._random.randrange(10) == 0
        return await self._memory.run(
            lambda: self._sql.cancel(
                tenant_id, task_id, grace_seconds=CANCEL_GRACE_SECONDS, is_blind=is_blind
            )
        )


class MemoryPublisher:
    """The postgres driver's end of a relay, with few rows at a time."""

    def __init__(self, pool: MemoryPool) -> None:
        self._pool = pool

    async def move(self) -> Moved:
        """As PostgresPublisher.move."""
        rows = await self._pool.run(lambda: self._pool.statements.relay(most=RELAY_ROWS))
        return Moved(events=rows, oldest_age_seconds=0.0, is_more=rows == RELAY_ROWS)

    async def backlog(self) -> Backlog:
        """What is not yet published."""
        rows = await self._pool.run(lambda: len(self._pool.statements.outbox))
        return Backlog(rows=rows, oldest_age_seconds=0.0)

    async def drop_expired(self) -> int:
        """No history lasts a week."""
        return 0

    async def close(self) -> None:
        """Nothing is open."""
