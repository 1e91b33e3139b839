"""All SQL on tasks as their tenants see them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from libs.core.canonical import read_canonical
from libs.core.errors import Failure
from libs.core.lifecycle import TaskState
from libs.core.plan import plan_from_json
from libs.db.engine import Connection, Pool, transaction
from libs.db.fetch import fetch
from libs.db.kept import KeptConnection
from libs.db.queries import load_queries
from libs.process.crash_points import pass_crash_point
from services.scheduler.batch_model import Entry, KeyHolder
from services.scheduler.judgement import CANCEL_GRACE_SECONDS
from services.scheduler.model import NewTask, StoredEvent, StoredStep, StoredTask
from services.scheduler.rows import stored_event, stored_step, stored_task, submit_parameters
from services.scheduler.task_reads import Asked, TaskReads
from services.scheduler.waiting import MOST_AHEAD, QueueView

QUERIES = load_queries(Path(__file__).parent / "queries.sql")

LAST_SEQ = 2**31 - 1

# Events that one row of the outbox stands for at most: all of them must fit one batch of the bus.
REPUBLISH_RUN = 100


class TaskStore:
    """Tasks in PostgreSQL. `hot` serves submits and single reads, `pool` whole traces."""

    def __init__(self, *, hot: Pool, pool: Pool) -> None:
        self._hot = hot
        self._pool = pool
        self._reading = KeptConnection(hot)
        self._reads = TaskReads(self._read)

    async def close(self) -> None:
        """Hand back the connection that was kept."""
        await self._reading.give_back()

    async def submit(self, task: NewTask) -> StoredTask | None:
        """Store a planned task, queued; None when its idempotency key names another one.

        Then nothing was written, and `read_key` finds the other.
        """
        async with self._hot.connection() as connection:
            return await _submit(connection, task)

    async def submit_failed(self, task: NewTask, failure: Failure) -> StoredTask | None:
        """Store a task without a plan and fail it, both or neither; None as for `submit`."""
        async with transaction(self._hot) as connection:
            if await _submit(connection, task) is None:
                return None
            pass_crash_point("idem.after_insert")
            return await _fail(connection, task, failure)

    async def submit_batch(self, entries: Sequence[Entry]) -> list[StoredTask] | None:
        """Store several tasks in one transaction, those with a failure as failed; None as for
        `submit`.

        The first task carries the idempotency key of them all.
        """
        ids = [entry.task.id for entry in entries]
        stored = []
        async with transaction(self._hot) as connection:
            for entry in entries:
                is_named = entry.task.idempotency is not None
                one = await _submit(connection, entry.task, batch=ids if is_named else None)
                if one is None:
                    # It is the first: nothing was written, and nothing will be.
                    return None
                pass_crash_point("idem.after_insert")
                if entry.failure is not None:
                    one = await _fail(connection, entry.task, entry.failure)
                stored.append(one)
        return stored

    async def read_key(self, tenant_id: UUID, mode: str, key: str) -> KeyHolder | None:
        """What a key names among the tasks of a mode, and the request that it was first sent
        with.
        """
        named = {"tenant_id": tenant_id, "mode": mode, "key": key}
        async with self._hot.connection() as connection:
            row = await _one(connection, "read_key", named)
        if row is None:
            return None
        return KeyHolder(
            task_ids=tuple(row["batch"] or (row["task_id"],)),
            fingerprint=row["fingerprint"],
            is_batch=row["batch"] is not None,
        )

    async def get(self, tenant_id: UUID, task_id: UUID) -> StoredTask | None:
        """A task of the tenant."""
        return await self._reads.get(tenant_id, task_id)

    async def cancel(self, tenant_id: UUID, task_id: UUID) -> StoredTask | None:
        """Ask for the end of a task; the task then, cancelled unless a step is open.

        None: it is not there, has ended, or somebody asked before.
        """
        parameters = {
            "id": task_id,
            "tenant_id": tenant_id,
            "grace_seconds": CANCEL_GRACE_SECONDS,
        }
        async with self._hot.connection() as connection:
            row = await _one(connection, "cancel", parameters)
        return None if row is None else stored_task(row)

    async def queue_view(self, tenant_id: UUID, task_id: UUID) -> QueueView | None:
        """What a waiting task waits for; None: it does not wait."""
        parameters = {"id": task_id, "tenant_id": tenant_id, "most": MOST_AHEAD + 1}
        async with self._hot.connection() as connection:
            row = await _one(connection, "why_waiting", parameters)
        return None if row is None else QueueView(**row | {"state": TaskState(row["state"])})

    async def events(
        self, tenant_id: UUID, task_id: UUID, *, after: int, up_to: int = LAST_SEQ, limit: int
    ) -> list[StoredEvent]:
        """At most `limit` events of a task of the tenant with after < seq <= up_to, in order."""
        parameters = {
            "id": task_id,
            "tenant_id": tenant_id,
            "after": after,
            "up_to": up_to,
            "limit": limit,
        }
        async with self._hot.connection() as connection:
            cursor = await connection.execute(QUERIES["events_between"], parameters)
            return [stored_event(row) for row in await cursor.fetchall()]

    async def step_hashes(self, tenant_id: UUID, task_ids: Sequence[UUID]) -> dict[UUID, list[str]]:
        """The hashes of the closed steps of tasks of the tenant, in order."""
        parameters = {"ids": list(task_ids), "tenant_id": tenant_id}
        hashes: dict[UUID, list[str]] = {task_id: [] for task_id in task_ids}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(QUERIES["step_hashes"], parameters)
            for row in await cursor.fetchall():
                hashes[row["task_id"]].append(row["step_hash"])
        return hashes

    async def republish_task(self, task_id: UUID) -> int | None:
        """Put every event of a task into the outbox once more; how many, None: no such task."""
        async with self._hot.connection() as connection:
            parameters = {"id": task_id, "run": REPUBLISH_RUN}
            row = await _one(connection, "republish_task", parameters)
        return None if row is None else int(row["events"])

    async def republish_events(self, named: Sequence[tuple[UUID, int]]) -> int:
        """Put single events (task id, seq) into the outbox once more; how many exist."""
        ids, seqs = [task_id for task_id, _ in named], [seq for _, seq in named]
        async with self._hot.connection() as connection:
            cursor = await connection.execute(
                QUERIES["republish_events"], {"ids": ids, "seqs": seqs}
            )
        return cursor.rowcount

    async def step_sizes(self, head: StoredTask) -> list[int]:
        """Bytes of the texts of each closed step of `head`, from step 1."""
        parameters = {"id": head.id, "tenant_id": head.tenant_id, "up_to": head.steps_closed}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(QUERIES["step_sizes"], parameters)
            return [row["size_bytes"] for row in await cursor.fetchall()]

    async def steps(
        self, head: StoredTask, *, first: int, last: int
    ) -> list[tuple[StoredStep, str]]:
        """The closed steps `first` to `last` of a planned task, each with its tool's name."""
        plan = plan_from_json(read_canonical(head.plan or "{}"))
        parameters = {"id": head.id, "tenant_id": head.tenant_id, "first": first, "last": last}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(QUERIES["steps_between"], parameters)
            rows = await cursor.fetchall()
        tools = {step.step_index: step.tool for step in plan.steps}
        return [
            (stored_step(row, tool=tools[row["step_index"]]), tools[row["step_index"]])
            for row in rows
        ]

    async def _read(self, asked: Sequence[Asked]) -> dict[Asked, StoredTask]:
        parameters = {
            "ids": [task_id for _, task_id in asked],
            "tenant_ids": [tenant_id for tenant_id, _ in asked],
        }
        rows = await self._reading.rows(QUERIES.block("get_tasks"), parameters)
        return {(row["tenant_id"], row["id"]): stored_task(row) for row in rows}


async def _submit(
    connection: Connection, task: NewTask, *, batch: Sequence[UUID] | None = None
) -> StoredTask | None:
    row = await _one(connection, "submit", submit_parameters(task, batch=batch))
    return None if row is None else stored_task(row)


async def _fail(connection: Connection, task: NewTask, failure: Failure) -> StoredTask:
    parameters = {
        "id": task.id,
        "tenant_id": task.tenant_id,
        "code": failure.code.value,
        "message": failure.message,
        "reason": failure.reason,
    }
    row = await _one(connection, "fail_unstarted", parameters)
    if row is None:
        raise LookupError(f"task {task.id} vanished in its own transaction")
    return stored_task(row)


async def _one(connection: Connection, name: str, parameters: dict[str, Any]) -> DictRow | None:
    rows = await fetch(connection, QUERIES.block(name), parameters)
    return rows[0] if rows else None
