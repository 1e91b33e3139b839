"""A tenant with very many tasks, written straight into the database by its owner.

Every guard of the tables holds for them: they have the events and the steps that tasks of their
state have. They are in no outbox, and no executor offers their tool.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import psycopg

AGENTS = tuple(UUID(int=(0x0193 << 112) | (7 << 76) | (2 << 62) | n) for n in range(1, 5))
"""Half of a tenant's tasks have the first, a quarter the second, a few the third, none the last."""

_COLUMNS = """
CREATE TEMP TABLE many AS
SELECT CAST(lpad(to_hex(CAST(extract(epoch FROM g.at) * 1000 AS bigint)), 12, '0')
    || '7' || substr(md5(random()::text), 1, 3)
    || '8' || substr(md5(random()::text), 1, 15) AS uuid) AS id,
  g.at, g.n,
  CASE WHEN g.n %% 20000 = 1 THEN 'created' WHEN g.n %% 10000 = 2 THEN 'planned'
    WHEN g.n %% 100 = 3 THEN 'queued' WHEN g.n %% 25000 = 4 THEN 'running'
    WHEN g.n %% 100 = 5 THEN 'cancelled' WHEN g.n %% 10 = 6 THEN 'failed'
    ELSE 'succeeded' END AS state,
  CASE WHEN g.n %% 1000 = 7 THEN 'test' ELSE 'live' END AS mode,
  CASE WHEN g.n %% 2 = 0 THEN CAST(%(a1)s AS uuid) WHEN g.n %% 4 = 1 THEN CAST(%(a2)s AS uuid)
    WHEN g.n %% 20000 = 11 THEN CAST(%(a3)s AS uuid) END AS agent_id,
  g.n %% 50 = 8 AS is_replay
FROM (SELECT n, now() - make_interval(secs => (%(count)s - n) * 2592000.0 / %(count)s) AS at
  FROM generate_series(1, %(count)s) AS n) AS g
"""
_INSERT = """
WITH t AS (
  INSERT INTO scheduler.tasks (id, tenant_id, mode, state, seq, changed_at, created_at, priority,
    rank, tools, step_count, max_total_seconds, plan_hash, planned_by, tool_set, plan, input,
    agent_id, replay_of_task_id, clock_at)
  SELECT m.id, %(tenant)s, m.mode, s.state,
    array_position(ARRAY['created','planned','queued'], s.state),
    m.at, m.at, 0, m.n, '{nobody@1#0}', p.steps, 45, p.hash, p.by, p.tools, p.plan,
    '{"topic":"' || md5(m.n::text) || '","text":"' || repeat('lorem ipsum ', 12) || '"}',
    m.agent_id, CASE WHEN m.is_replay THEN r.id END, CASE WHEN m.is_replay THEN m.at END
  FROM many m
  CROSS JOIN LATERAL (SELECT CASE WHEN m.state IN ('created','planned') THEN m.state
    ELSE 'queued' END AS state) AS s
  CROSS JOIN (SELECT id FROM many ORDER BY at LIMIT 1) AS r
  LEFT JOIN LATERAL (SELECT 1 AS steps, repeat('a', 64) AS hash, 'caller' AS by,
    '[["math","1.0","' || repeat('a', 64) || '"]]' AS tools,
    '{"limits":{"max_steps":12,"max_total_seconds":45},"steps":[{"input":{"expression":"1+1","note":"'
      || repeat('lorem ipsum ', 20) || '"},"step_index":1,"tool":"math"}]}' AS plan) AS p
    ON m.state <> 'created' OR m.is_replay
  RETURNING id, seq, created_at
)
INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)
SELECT t.id, v.seq, 'status_transition', v.f, v.t, t.created_at, '{}' FROM t
CROSS JOIN (VALUES (1, NULL, 'created'), (2, 'created', 'planned'), (3, 'planned', 'queued'))
  AS v(seq, f, t)
WHERE v.seq <= t.seq
"""
_START = """
WITH u AS (
  UPDATE scheduler.tasks t SET state = 'running', seq = 4, boot_id = %(boot)s, lease_token = 1,
    execution_started_at = t.created_at, steps_begun = 1, step_started_at = t.created_at
  FROM many m WHERE t.id = m.id AND m.state NOT IN ('created','planned','queued')
  RETURNING t.id, t.changed_at
)
INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)
SELECT id, 4, 'status_transition', 'queued', 'running', changed_at, '{}' FROM u
"""
_STEPS = """
INSERT INTO scheduler.steps (task_id, step_index, status, started_at, finished_at, step_hash,
  resolved_input, output)
SELECT m.id, 1, 'succeeded', m.at, m.at, repeat('c', 64), '{"expression":"1+1"}',
  '{"result":2,"text":"' || repeat('dolor sit ', 20) || '"}'
FROM many m WHERE m.state = 'succeeded'
"""
_END = """
WITH u AS (
  UPDATE scheduler.tasks t SET state = m.state, seq = 5, finished_at = t.changed_at,
    task_hash = repeat('d', 64), steps_closed = CASE WHEN m.state = 'succeeded' THEN 1 ELSE 0 END,
    failure_code = CASE WHEN m.state = 'failed' THEN 'TOOL_ERROR' END,
    failure_message = CASE WHEN m.state = 'failed' THEN 'division by zero' END
  FROM many m WHERE t.id = m.id AND m.state IN ('succeeded','failed','cancelled')
  RETURNING t.id, t.state, t.changed_at
)
INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)
SELECT id, 5, 'status_transition', 'running', state, changed_at, '{}' FROM u
"""
_FIRST = "SELECT id FROM many ORDER BY at LIMIT 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What was written: so many tasks of a tenant, every fiftieth a replay of the oldest."""

    tenant_id: UUID
    replayed_id: UUID
    count: int


def fill(owner_dsn: str, *, tenant_id: UUID, count: int) -> Filled:
    """Write `count` tasks over the last 30 days: most succeeded, few of them in other states, very
    few running, planned or created.
    """
    agents = {f"a{n}": agent for n, agent in enumerate(AGENTS, start=1)}
    with psycopg.connect(owner_dsn) as owner:
        owner.execute(_COLUMNS, {"count": count, **agents})
        owner.execute(_INSERT, {"tenant": tenant_id})
        owner.execute(_START, {"boot": UUID(int=1)})
        owner.execute(_STEPS)
        owner.execute(_END)
        row = owner.execute(_FIRST).fetchone()
        owner.execute("DROP TABLE many")
    assert row is not None
    return Filled(tenant_id=tenant_id, replayed_id=row[0], count=count)


def tidy(owner_dsn: str) -> None:
    """What autovacuum would do by and by."""
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        for table in ("tasks", "steps", "task_events"):
            owner.execute(f"VACUUM ANALYZE scheduler.{table}".encode())
