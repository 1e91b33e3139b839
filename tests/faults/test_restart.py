"""Everything is started again with a long queue."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from libs.cli.client import Client
from libs.cli.up.database import MAX_CONNECTIONS
from tests.faults.judge import check_run
from tests.faults.load import EXECUTE, ClientLog, Load, Pace, Work, more_done, plan_of
from tests.faults.stack import FaultStack, fault_stack
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

QUEUED = 50_000
FIRST_SECONDS = 5.0
CREATE_SECONDS = 1.0

_COLUMNS = """
SELECT column_name AS name FROM information_schema.columns
WHERE table_schema = 'scheduler' AND table_name = 'tasks' ORDER BY ordinal_position"""
_COPY = """
WITH t AS (
  INSERT INTO scheduler.tasks ({columns}) SELECT {values}
  FROM scheduler.tasks x, generate_series(1, {count}) g WHERE x.id = {template} RETURNING *
), e AS (
  INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)
  SELECT t.id, x.seq, x.type, x.from_state, x.to_state, x.at,
    replace(x.data, x.task_id::text, t.id::text)
  FROM t, scheduler.task_events x WHERE x.task_id = {template}
)
INSERT INTO scheduler.outbox (task_id, first_seq, last_seq) SELECT t.id, 1, t.seq FROM t"""
_ENDED = "SELECT count(*) AS ended FROM scheduler.tasks WHERE finished_at > %s"
_NOW = "SELECT now() AS now, (SELECT count(*) FROM pg_stat_activity) AS sessions"


async def test_restart_with_a_long_queue_serves_at_once_and_runs_each_task_once(
    tmp_path: Path, seed: int
) -> None:
    async with fault_stack(tmp_path / "stack") as stack:
        with stack.processes.held("executor-1", "executor-2"):
            await _fill(stack)

    async with fault_stack(tmp_path / "stack") as stack:
        (began,) = await stack.ask(_NOW)
        load = Load(stack.server, seed=f"{seed}-herd", work=Work(most_steps=1, failing_share=0))
        with load.running(Pace(clients=4, per_second=15)) as log:
            await eventually(lambda: _ended(stack, began["now"]), timeout=FIRST_SECONDS)
            await more_done(log, 150)
            (now,) = await stack.ask(_NOW)

        ended = await _ended(stack, began["now"])
        p99 = _p99(log)
        print(f"ended {ended}, create p99 {p99:.3f} s, sessions {now['sessions']}")
        assert p99 < CREATE_SECONDS
        assert now["sessions"] < MAX_CONNECTIONS
        history = await stack.history(log, settle_seconds=None)
    check_run(history, hits=range(ended))


async def _fill(stack: FaultStack) -> None:
    """Put copies of one task into the queue, while nobody runs any."""
    # Whoever cannot answer holds no lease, and is given nothing.
    await stack.ask("UPDATE scheduler.executors SET lease_until = now()")
    body = plan_of({"seconds": 0})
    template = Client(stack.server).post(EXECUTE, body)["task_id"]
    columns = [row["name"] for row in await stack.ask(_COLUMNS)]
    new = {"id": sql.SQL("uuidv7()"), "rank": sql.SQL("x.rank + g")}
    copy = sql.SQL(_COPY).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        values=sql.SQL(", ").join(new.get(c, sql.Identifier("x", c)) for c in columns),
        count=sql.Literal(QUEUED),
        template=sql.Literal(template),
    )
    async with await psycopg.AsyncConnection.connect(stack.owner_dsn) as owner:
        assert (await owner.execute(copy)).rowcount == QUEUED


async def _ended(stack: FaultStack, since: Any) -> int:
    return int((await stack.ask(_ENDED, (since,)))[0]["ended"])


def _p99(log: ClientLog) -> float:
    took = [o.ended_at - o.began_at for o in log.operations if o.kind == "create"]
    return statistics.quantiles(took, n=100)[-1]
