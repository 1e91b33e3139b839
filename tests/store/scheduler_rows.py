"""Stores of the scheduler on a test database, and rows that keep its invariants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from libs.core.canonical import canonical_text
from libs.core.errors import Failure, FailureCode
from libs.core.hashing import plan_hash
from libs.core.ids import new_id
from libs.core.lifecycle import TaskState
from libs.core.tool_spec import ToolRef
from libs.db.engine import Pool, open_pool
from services.scheduler.model import (
    Assigned,
    Claimed,
    FrozenPlan,
    IdempotencyKey,
    NewTask,
    Report,
    ReportRow,
    StepClosed,
    StoredTask,
    Stream,
    TaskEnd,
    Verdict,
)
from services.scheduler.store import TaskStore
from services.scheduler.sweep_store import SweepStore
from services.scheduler.work_store import WorkStore
from tests.scheduler_world import MATH, TENANT, ask, make_plan
from tests.servers import Database

LEASE_SECONDS = 10.0
BROKE = Failure(
    code=FailureCode.TOOL_ERROR, message="it broke", step="math", step_index=1, reason="MATH_LIMIT"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Both stores as the scheduler's role, and a look at everything as the owner."""

    database: Database
    hot: Pool
    tasks: TaskStore
    work: WorkStore
    sweeps: SweepStore

    async def insert_task(self, **changes: Any) -> StoredTask:
        """A queued task of three steps."""
        stored = await self.tasks.submit(make_task(**changes))
        assert stored is not None
        return stored

    async def connect(self, **changes: Any) -> Stream:
        """A stream that has said hello."""
        stream = make_stream(**changes)
        assert await self.work.hello(stream) is not None
        return stream

    async def claim(self, stream: Stream, *, slots: int = 1) -> tuple[Assigned, ...]:
        """What a claim takes."""
        return (await self.work.claim(stream, slots=slots)).tasks

    async def start(self, *, steps: int = 3, begun: int = 0) -> tuple[Stream, Assigned]:
        """A claimed task; with `begun` its first steps are closed and that one is open."""
        await self.insert_task(steps=steps)
        stream = await self.connect()
        (task,) = await self.claim(stream)
        if begun:
            assert await self.report(stream, task, begins=1) is Verdict.OK
        for step in range(1, begun):
            assert await self.report(stream, task, closes=step, begins=step + 1) is Verdict.OK
        return stream, task

    async def claim_apart(self, stream: Stream, *, slots: int) -> Claimed:
        """A claim of another scheduler: on a connection of its own."""
        work = WorkStore(self.hot, lease_seconds=LEASE_SECONDS)
        try:
            return await work.claim(stream, slots=slots)
        finally:
            await work.close()

    async def report(self, stream: Stream, task: Assigned, **parts: Any) -> Verdict:
        """The verdict on one report."""
        fates = await self.work.report([row(stream, task, **parts)])
        return fates[task.task_id].verdict

    async def ask(self, sql: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Rows of a statement run as the owner."""
        return await ask(self.database.owner_dsn, sql, parameters)

    async def history(self, task_id: UUID) -> list[str]:
        """`type:state after` of each event in order; seq must be gapless."""
        rows = await self.ask(
            "SELECT seq, type, to_state FROM scheduler.task_events WHERE task_id = %s ORDER BY seq",
            (task_id,),
        )
        assert [r["seq"] for r in rows] == list(range(1, len(rows) + 1))
        return [f"{r['type']}:{r['to_state']}" for r in rows]

    async def dump(self) -> list[list[dict[str, Any]]]:
        """All rows that a report may touch."""
        return [
            await self.ask("SELECT * FROM scheduler.tasks ORDER BY id"),
            await self.ask("SELECT * FROM scheduler.task_events ORDER BY task_id, seq"),
            await self.ask("SELECT * FROM scheduler.steps ORDER BY task_id, step_index"),
            await self.ask("SELECT * FROM scheduler.outbox ORDER BY task_id, first_seq"),
        ]


def make_task(
    *,
    steps: int = 3,
    tool: ToolRef = MATH,
    key: str | None = None,
    planned: bool = True,
    **changes: Any,
) -> NewTask:
    """A task about to be stored."""
    plan = make_plan(steps, tool=tool)
    frozen = FrozenPlan(
        plan=plan,
        tool_set=(tool,),
        plan_hash=plan_hash(plan, tools=[tool], task_input={}),
        planned_by="offline",
        note=None,
    )
    task = NewTask(
        id=new_id(),
        tenant_id=TENANT,
        mode="live",
        task_input="{}",
        priority=0,
        frozen=frozen if planned else None,
        idempotency=None if key is None else IdempotencyKey(key=key, fingerprint="f" * 64),
        request_id="req_test",
        traceparent="",
    )
    return replace(task, **changes)


def make_stream(
    *,
    executor_id: str = "ex-1",
    boot_id: UUID | None = None,
    slots: int = 8,
    tools: Sequence[ToolRef] = (MATH,),
) -> Stream:
    """A stream of an executor."""
    return Stream(
        boot_id=boot_id or uuid4(),
        stream_id=uuid4(),
        executor_id=executor_id,
        slots=slots,
        offers=tuple(tool.offer for tool in tools),
    )


def row(
    stream: Stream,
    task: Assigned,
    *,
    closes: int | None = None,
    begins: int | None = None,
    ends: TaskState | None = None,
    failure: Failure | None = None,
    token: int | None = None,
    **changes: Any,
) -> ReportRow:
    """A report of a task's executor as it is written; with `failure` the closed step failed. The
    `changes` are of the closed step, without one of the end.
    """
    used, closed = ({} if closes else changes), None
    if closes is not None:
        closed = StepClosed(
            step_index=closes,
            resolved_input="{}",
            output=None if failure else canonical_text({"result": closes}),
            failure=failure,
            step_hash=f"{closes:064x}",
            schema_failures="",
            cost_usd=0.25,
        )
    report = Report(
        task_id=task.task_id,
        lease_token=task.lease_token if token is None else token,
        closed=replace(closed, **changes) if closed else None,
        begins=begins,
        end=None if ends is None else TaskEnd(state=ends, failure=failure, **used),
    )
    return ReportRow(
        report=report,
        boot_id=stream.boot_id,
        closed_tool=None if closes is None else "math",
        begins_tool=None if begins is None else "math",
    )


@asynccontextmanager
async def scheduler_stores(database: Database) -> AsyncIterator[Stores]:
    """Stores with pools as in production, closed at the end."""
    async with AsyncExitStack() as stack:
        dsn = database.dsn("scheduler")
        hot = await open_pool(dsn, name="test-hot", max_size=50, hot=True)
        stack.push_async_callback(hot.close)
        pool = await open_pool(dsn, name="test-read")
        stack.push_async_callback(pool.close)
        work = WorkStore(hot, lease_seconds=LEASE_SECONDS)
        stack.push_async_callback(work.close)
        tasks = TaskStore(hot=hot, pool=pool)
        stack.push_async_callback(tasks.close)
        yield Stores(
            database=database,
            hot=hot,
            tasks=tasks,
            work=work,
            sweeps=SweepStore(hot, lease_seconds=LEASE_SECONDS),
        )
