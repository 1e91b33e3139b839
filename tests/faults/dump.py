"""Reading what a run has left in the database and on the bus."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row

from libs.bus.topics import TASK_EVENTS
from libs.cli.stack import Stack
from tests.faults.records import Dump, EventRow, KeyRow, StepRow, TaskRow
from tests.published import read_published

_TASKS = """
SELECT id, tenant_id, mode, state, seq, created_at, queue_deadline_at, execution_started_at,
  finished_at, max_total_seconds, cancel_requested_at, lease_token, step_count, failure_code,
  plan_hash, task_hash, tool_set, plan, input, tenant_limit, md5(t::text) AS digest
FROM scheduler.tasks t ORDER BY id"""
_EVENTS = """
SELECT task_id, seq, type, from_state, to_state, at, data FROM scheduler.task_events
ORDER BY task_id, seq"""
_STEPS = """
SELECT task_id, step_index, status, started_at, finished_at, failure_code, step_hash,
  resolved_input, output
FROM scheduler.steps ORDER BY task_id, step_index"""
_KEYS = "SELECT key, task_id FROM scheduler.idempotency ORDER BY key"
_USED = """
SELECT tenant_id, sum(tasks)::int AS tasks, sum(steps)::int AS steps
FROM auth.usage_days GROUP BY tenant_id"""
_UNSETTLED = """
SELECT (SELECT count(*) FROM scheduler.tasks
    WHERE state NOT IN ('succeeded', 'failed', 'cancelled')) AS tasks,
  (SELECT count(*) FROM scheduler.outbox) AS unpublished,
  (SELECT count(*) FROM scheduler.tasks WHERE mode = 'live')
    - (SELECT coalesce(sum(tasks), 0) FROM auth.usage_days) AS uncounted_tasks,
  (SELECT count(*) FROM scheduler.steps s JOIN scheduler.tasks t ON t.id = s.task_id
      WHERE t.mode = 'live')
    - (SELECT coalesce(sum(steps), 0) FROM auth.usage_days) AS uncounted_steps,
  CAST(1000000000 * (SELECT coalesce(sum(cost_usd), 0) FROM scheduler.tasks WHERE mode = 'live')
    - 1000000000 * (SELECT coalesce(sum(cost_usd), 0) FROM auth.usage_days) AS bigint)
    AS uncounted_billionths_usd,
  (SELECT count(*) FROM artifact.artifacts WHERE state = 'staged') AS staged"""


async def read_dump(stack: Stack) -> Dump:
    """Everything of one moment, and what had been published shortly before."""
    published = tuple(
        (UUID(one.key), int(one.headers["ce_sequence"]))
        for one in await read_published(stack)
        if one.topic == TASK_EVENTS
    )
    async with await _connected(stack) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)

        async def rows(query: str) -> list[dict[str, Any]]:
            return await (await connection.execute(query)).fetchall()

        (now,) = await rows("SELECT now() AS now")
        return Dump(
            taken_at=now["now"],
            tasks=tuple(TaskRow(**row) for row in await rows(_TASKS)),
            events=tuple(
                EventRow(**{**row, "data": json.loads(row["data"])}) for row in await rows(_EVENTS)
            ),
            steps=tuple(StepRow(**row) for row in await rows(_STEPS)),
            keys=tuple(KeyRow(**row) for row in await rows(_KEYS)),
            published=published,
            used={row["tenant_id"]: (row["tasks"], row["steps"]) for row in await rows(_USED)},
        )


async def unsettled(stack: Stack) -> Mapping[str, int]:
    """What is still on its way, by its kind: empty once every task and every consumer is done."""
    try:
        async with await _connected(stack) as connection:
            row = await (await connection.execute(_UNSETTLED)).fetchone()
    except psycopg.OperationalError:
        return {"database": 1}
    assert row is not None
    return {name: int(count) for name, count in row.items() if count}


async def _connected(stack: Stack) -> psycopg.AsyncConnection[DictRow]:
    return await psycopg.AsyncConnection[DictRow].connect(
        stack.ready.postgres.dsn, row_factory=dict_row
    )
