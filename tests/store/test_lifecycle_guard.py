"""States and edges: the code and the triggers say the same, and nothing else passes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.errors import CheckViolation, InsufficientPrivilege

from libs.core.ids import new_id
from libs.core.lifecycle import TaskState, may_follow
from tests.scheduler_world import TENANT
from tests.servers import Database

pytestmark = pytest.mark.db

Connection = psycopg.AsyncConnection[Any]


_BEGINNING = (TaskState.CREATED, TaskState.PLANNED, TaskState.QUEUED)
_PLAN = "plan = '{}', plan_hash = 'p', tool_set = '[]', planned_by = 'offline', step_count = 2"
_INSERT = """
WITH t AS (
  INSERT INTO scheduler.tasks (id, tenant_id, mode, state, seq, changed_at, created_at, priority,
    rank, plan, plan_hash, tool_set, planned_by, step_count, input)
  SELECT %(id)s, %(tenant)s, 'live', %(state)s, %(seq)s, now(), now(), 0, 0,
    p, p, p, p, CASE WHEN p IS NULL THEN NULL ELSE 2 END, '{}'
  FROM (SELECT CASE WHEN %(seq)s > 1 THEN '{}' END AS p) x
  RETURNING *
)
INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)
SELECT t.id, v.seq, 'status_transition', v.f, v.t, now(), '{}'
FROM t, (VALUES (1, NULL, 'created'), (2, 'created', 'planned'), (3, 'planned', 'queued'))
  AS v(seq, f, t)
WHERE v.seq <= t.seq
"""
_SET = """
  state = %(to)s, seq = seq + 1,
  finished_at = CASE WHEN %(to)s IN ('succeeded','failed','cancelled') THEN now() END,
  task_hash = CASE WHEN %(to)s IN ('succeeded','failed','cancelled') THEN 'h' END,
  failure_code = CASE WHEN %(to)s = 'failed' THEN 'INTERNAL' END,
  failure_message = CASE WHEN %(to)s = 'failed' THEN 'x' END,
  execution_started_at = CASE WHEN %(to)s = 'running' THEN now() ELSE execution_started_at END,
  lease_token = CASE WHEN %(to)s = 'running' THEN 1 ELSE lease_token END,
  steps_begun = CASE WHEN %(to)s = 'succeeded' THEN 2 ELSE steps_begun END,
  steps_closed = CASE WHEN %(to)s = 'succeeded' THEN 2 ELSE steps_closed END
"""
# Column names of the plan are set only where a plan is still missing: it is frozen later.
_MOVE = f"""
WITH u AS (UPDATE scheduler.tasks SET {_SET} WHERE id = %(id)s RETURNING id, seq)
INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)
SELECT id, seq, %(type)s, %(from)s, %(to)s, now(), '{{}}' FROM u
"""
_MOVE_AND_PLAN = _MOVE.replace("SET \n", f"SET {_PLAN},\n", 1)


@pytest.fixture
async def service(database: Database) -> AsyncIterator[Connection]:
    """A connection as the scheduler's role."""
    async with await psycopg.AsyncConnection.connect(
        database.dsn("scheduler"), autocommit=True
    ) as connection:
        yield connection


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """A connection as the owner."""
    async with await psycopg.AsyncConnection.connect(
        database.owner_dsn, autocommit=True
    ) as connection:
        yield connection


async def insert_task(connection: Connection, state: TaskState) -> UUID:
    """A task that came to `state` along the edges."""
    task_id = new_id()
    first = state if state in _BEGINNING else TaskState.QUEUED
    parameters = {"id": task_id, "tenant": TENANT, "state": first.value}
    await connection.execute(_INSERT, parameters | {"seq": _BEGINNING.index(first) + 1})
    if state not in _BEGINNING:
        await move(connection, task_id, TaskState.QUEUED, TaskState.RUNNING)
    if state.is_terminal:
        await move(connection, task_id, TaskState.RUNNING, state)
    return task_id


async def move(connection: Connection, task_id: UUID, before: TaskState, after: TaskState) -> None:
    """One change with its event; a plan comes with planned where there is none yet."""
    is_planning = before is TaskState.CREATED and after not in {
        TaskState.CREATED,
        TaskState.FAILED,
        TaskState.CANCELLED,
    }
    await connection.execute(
        _MOVE_AND_PLAN if is_planning else _MOVE,
        {
            "id": task_id,
            "from": before.value,
            "to": after.value,
            "type": "progress" if before is after else "status_transition",
        },
    )


async def refusal(attempt: Awaitable[object]) -> str | None:
    """What a guard, a constraint or a missing privilege said against it; None when it passed."""
    try:
        await attempt
    except (CheckViolation, InsufficientPrivilege) as error:
        return str(error).partition("\n")[0]
    return None


async def test_trigger_allows_the_edges_of_the_code_and_no_other_pair(service: Connection) -> None:
    wrong = []
    for before in TaskState:
        for after in TaskState:
            task_id = await insert_task(service, before)
            said = await refusal(move(service, task_id, before, after))
            stays = before is after and not before.is_terminal
            if (said is None) != (may_follow(before, after) or stays):
                wrong.append((before.value, after.value, said))

    assert wrong == []


async def test_event_table_refuses_an_edge_that_the_code_does_not_have(owner: Connection) -> None:
    """The constraint by itself: the trigger on tasks would be asked first otherwise."""
    constraint = await owner.execute(
        "SELECT pg_get_expr(conbin, conrelid) AS said FROM pg_constraint"
        " WHERE conname = 'task_events_along_an_edge'"
    )
    row = await constraint.fetchone()
    assert row is not None
    wrong = []
    for before in TaskState:
        for after in TaskState:
            found = await owner.execute(
                f"SELECT {row[0]} FROM (SELECT 2 AS seq, 'status_transition' AS type,"
                " %s::text AS from_state, %s::text AS to_state) e",
                (before.value, after.value),
            )
            answer = await found.fetchone()
            assert answer is not None
            if answer[0] != may_follow(before, after):
                wrong.append((before, after))

    assert wrong == []


EVENT = (
    "INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)"
    " VALUES (%s, {seq}, '{type}', {before}, '{after}', now(), '{{}}')"
)
MOVED = (
    "WITH u AS (UPDATE scheduler.tasks SET {set} WHERE id = %s RETURNING id, seq)"
    " INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)"
    " SELECT id, seq, '{type}', '{before}', '{after}', now(), '{{}}' FROM u"
)
ENDED = "finished_at = now(), task_hash = 'h', failure_code = 'INTERNAL', failure_message = 'x'"
DONE = "state = 'succeeded', seq = seq + 1, finished_at = now(), task_hash = 'h'"
TO_END = {"type": "status_transition", "before": "running", "after": "succeeded"}
SELF = {"type": "progress", "before": "running", "after": "running"}

FORBIDDEN: dict[str, tuple[TaskState, str]] = {
    "terminal row, another column": (
        TaskState.SUCCEEDED,
        "UPDATE scheduler.tasks SET task_hash = 'x' WHERE id = %s",
    ),
    "terminal row, no change at all": (
        TaskState.SUCCEEDED,
        "UPDATE scheduler.tasks SET task_hash = task_hash WHERE id = %s",
    ),
    "state without seq": (
        TaskState.RUNNING,
        f"UPDATE scheduler.tasks SET state = 'failed', {ENDED} WHERE id = %s",
    ),
    "state without event": (
        TaskState.RUNNING,
        f"UPDATE scheduler.tasks SET state = 'failed', seq = seq + 1, {ENDED} WHERE id = %s",
    ),
    "end without finished_at": (
        TaskState.RUNNING,
        MOVED.format(
            set="state = 'cancelled', seq = seq + 1, task_hash = 'h'",
            **TO_END | {"after": "cancelled"},
        ),
    ),
    "end without a hash": (
        TaskState.RUNNING,
        MOVED.format(
            set="state = 'cancelled', seq = seq + 1, finished_at = now()",
            **TO_END | {"after": "cancelled"},
        ),
    ),
    "failed without a failure": (
        TaskState.RUNNING,
        MOVED.format(
            set="state = 'failed', seq = seq + 1, finished_at = now(), task_hash = 'h'",
            **TO_END | {"after": "failed"},
        ),
    ),
    "success with a step missing": (TaskState.RUNNING, MOVED.format(set=DONE, **TO_END)),
    "two steps at once": (
        TaskState.RUNNING,
        MOVED.format(set="seq = seq + 1, steps_begun = 2", **SELF),
    ),
    "a step beyond the plan": (
        TaskState.RUNNING,
        MOVED.format(set="seq = seq + 1, steps_begun = 3, steps_closed = 2", **SELF),
    ),
    "a step before it runs": (
        TaskState.QUEUED,
        "UPDATE scheduler.tasks SET steps_begun = 1 WHERE id = %s",
    ),
    "seq that goes back": (
        TaskState.RUNNING,
        "UPDATE scheduler.tasks SET seq = seq - 1 WHERE id = %s",
    ),
    "time that goes back": (
        TaskState.RUNNING,
        "UPDATE scheduler.tasks SET changed_at = changed_at - interval '1 s' WHERE id = %s",
    ),
    "lease token that goes back": (
        TaskState.RUNNING,
        "UPDATE scheduler.tasks SET lease_token = lease_token - 1 WHERE id = %s",
    ),
    "another plan": (TaskState.QUEUED, "UPDATE scheduler.tasks SET plan = '[]' WHERE id = %s"),
    "other tools": (TaskState.QUEUED, "UPDATE scheduler.tasks SET tools = '{x}' WHERE id = %s"),
    "another tenant": (
        TaskState.QUEUED,
        "UPDATE scheduler.tasks SET tenant_id = gen_random_uuid() WHERE id = %s",
    ),
    "another input": (TaskState.QUEUED, "UPDATE scheduler.tasks SET input = '[]' WHERE id = %s"),
    "event without a change of the task": (
        TaskState.RUNNING,
        EVENT.format(seq=5, type="status_transition", before="'running'", after="failed"),
    ),
    "event of an unknown task": (
        TaskState.RUNNING,
        EVENT.replace("%s", "gen_random_uuid()").format(
            seq=1, type="status_transition", before="NULL", after="created"
        )
        + " RETURNING %s::uuid",
    ),
    "event with a gap": (TaskState.RUNNING, MOVED.format(set="seq = seq + 2", **SELF)),
    "event with a wrong state before": (
        TaskState.RUNNING,
        MOVED.format(
            set=f"state = 'failed', seq = seq + 1, {ENDED}",
            type="status_transition",
            before="queued",
            after="failed",
        ),
    ),
    "event of an unknown type": (
        TaskState.RUNNING,
        MOVED.format(set="seq = seq + 1", **SELF | {"type": "rumour"}),
    ),
    "event that changes": (
        TaskState.RUNNING,
        "UPDATE scheduler.task_events SET data = '1' WHERE task_id = %s",
    ),
    "event that disappears": (
        TaskState.RUNNING,
        "DELETE FROM scheduler.task_events WHERE task_id = %s",
    ),
    "task that disappears": (TaskState.RUNNING, "DELETE FROM scheduler.tasks WHERE id = %s"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
async def test_forbidden_write_is_refused(
    service: Connection, owner: Connection, what: str
) -> None:
    """As the service, as the owner, and as the owner who says that it replays a replica."""
    state, sql = FORBIDDEN[what]
    task_id = await insert_task(service, state)

    as_service = await refusal(service.execute(sql.encode(), (task_id,)))
    as_owner = await refusal(owner.execute(sql.encode(), (task_id,)))
    await owner.execute("SET session_replication_role = replica")
    as_replica = await refusal(owner.execute(sql.encode(), (task_id,)))

    assert None not in {as_service, as_owner, as_replica}


BEGINNINGS: dict[str, Callable[[Connection], Awaitable[object]]] = {
    "as running": lambda c: c.execute(
        _INSERT, {"id": new_id(), "tenant": TENANT, "state": "running", "seq": 3}
    ),
    "with too few events": lambda c: c.execute(
        _INSERT.replace("<= t.seq", "< t.seq"),
        {"id": new_id(), "tenant": TENANT, "state": "queued", "seq": 3},
    ),
    "queued with the events of planned": lambda c: c.execute(
        _INSERT, {"id": new_id(), "tenant": TENANT, "state": "queued", "seq": 2}
    ),
    "queued without a plan": lambda c: c.execute(
        _INSERT.replace("> 1 THEN", "> 9 THEN"),
        {"id": new_id(), "tenant": TENANT, "state": "queued", "seq": 3},
    ),
}


@pytest.mark.parametrize("how", BEGINNINGS)
async def test_task_cannot_begin(service: Connection, how: str) -> None:
    assert await refusal(BEGINNINGS[how](service)) is not None


async def test_after_a_request_to_cancel_nothing_starts_and_nothing_succeeds(
    service: Connection,
) -> None:
    task_id = await insert_task(service, TaskState.RUNNING)
    begin = MOVED.format(set="seq = seq + 1, steps_begun = 1", **SELF)
    take_back = "UPDATE scheduler.tasks SET cancel_requested_at = NULL WHERE id = %s"
    await service.execute(
        "UPDATE scheduler.tasks SET cancel_requested_at = now() WHERE id = %s", (task_id,)
    )

    assert await refusal(service.execute(begin.encode(), (task_id,)))
    assert await refusal(service.execute(take_back.encode(), (task_id,)))
    assert await refusal(move(service, task_id, TaskState.RUNNING, TaskState.SUCCEEDED))
    await move(service, task_id, TaskState.RUNNING, TaskState.CANCELLED)


async def test_several_events_of_one_task_in_one_statement_pass_in_any_order(
    service: Connection,
) -> None:
    task_id = await insert_task(service, TaskState.RUNNING)
    sql = (
        "WITH u AS (UPDATE scheduler.tasks SET seq = seq + 2 WHERE id = %s RETURNING id, seq)"
        " INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)"
        " SELECT id, seq - 2 + n, 'progress', 'running', 'running', now(), '{}'"
        " FROM u, generate_series(1, 2) n ORDER BY n DESC"
    )

    assert await refusal(service.execute(sql.encode(), (task_id,))) is None


async def test_service_cannot_switch_the_guards_off(service: Connection) -> None:
    assert await refusal(service.execute("SET session_replication_role = replica"))
    assert await refusal(
        service.execute("ALTER TABLE scheduler.tasks DISABLE TRIGGER tasks_forward")
    )
    assert await refusal(service.execute("TRUNCATE scheduler.task_events"))


async def test_every_guard_is_always_on(owner: Connection) -> None:
    found = await owner.execute(
        "SELECT tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'scheduler' AND NOT t.tgisinternal AND t.tgenabled <> 'A'"
    )

    assert await found.fetchall() == []
