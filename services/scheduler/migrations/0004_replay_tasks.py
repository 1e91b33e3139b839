"""Replays: the clock that their tools see, and the tools that are answered from a record."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE scheduler.tasks
  ADD COLUMN clock_at timestamptz,
  ADD COLUMN recorded_tools text[],
  ADD CONSTRAINT tasks_replay_as_a_whole CHECK (CASE WHEN replay_of_task_id IS NULL
    THEN clock_at IS NULL AND recorded_tools IS NULL
    ELSE clock_at IS NOT NULL AND plan_hash IS NOT NULL END);

COMMENT ON COLUMN scheduler.tasks.clock_at IS
  'The time that tools are shown: of a replay its original''s. Null: created_at.';
COMMENT ON COLUMN scheduler.tasks.recorded_tools IS
  'Names of tools whose steps are answered from the original. Null: every step runs.';

DROP TRIGGER tasks_fixed ON scheduler.tasks;
CREATE TRIGGER tasks_fixed
  BEFORE UPDATE OF id, tenant_id, mode, input, created_at, replay_of_task_id, agent_id,
    tenant_limit, agent_limit, scheduled_at, clock_at, recorded_tools
  ON scheduler.tasks FOR EACH ROW
  EXECUTE FUNCTION scheduler.refuse('this column never changes');
ALTER TABLE scheduler.tasks ENABLE ALWAYS TRIGGER tasks_fixed;
"""

# As in 0003, and the two columns. A function's columns cannot be added to in place.
CLAIM = """
DROP FUNCTION scheduler.claim(uuid, uuid, text[], integer);
CREATE FUNCTION scheduler.claim(p_boot uuid, p_stream uuid, p_offers text[], p_slots integer)
RETURNS TABLE (
  limited boolean, id uuid, tenant_id uuid, lease_token integer, plan text, tool_set text,
  input text, plan_hash text, steps_begun integer, steps_closed integer, tokens_used bigint,
  cost_usd numeric, seconds_left double precision, created_at timestamptz, mode text,
  traceparent text, request_id text, is_cancelling boolean, closed_outputs text[],
  last_step_hash text, clock_at timestamptz, recorded_tools text[]
) LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
  -- So many heads of the queue are looked at before it is looked at tenant by tenant.
  v_window CONSTANT integer := 500;
  v_heads refcursor;
  v_part integer := 1;
  v_seen integer := 0;
  v_one record;
  v_place integer;
  v_tenants uuid[] := '{}';
  v_tenant_loads integer[] := '{}';
  v_agents uuid[] := '{}';
  v_agent_loads integer[] := '{}';
  v_full_agents uuid[] := '{}';
  v_known integer := -1;
  v_tenant integer;
  v_agent integer;
  v_picked uuid[] := '{}';
  v_limited boolean := false;
BEGIN
  PERFORM FROM scheduler.tasks t
    WHERE t.boot_id IS NULL AND t.state IN ('queued','running') LIMIT 1;
  -- Who offers nothing is about to leave: it takes nothing, not even a replay that calls no tool.
  IF NOT FOUND OR cardinality(p_offers) = 0 THEN
    RETURN;
  END IF;
  -- Claims take turns until they commit: what runs cannot grow between counting and taking.
  PERFORM pg_advisory_xact_lock(5206, 1);
  -- The share lock makes a newer stream of the same boot wait, so that its hello sees what was
  -- claimed here.
  PERFORM FROM scheduler.executors x
    WHERE x.boot_id = p_boot AND x.stream_id = p_stream AND x.ended_at IS NULL
      AND x.lease_until > clock_timestamp()
    FOR SHARE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  OPEN v_heads FOR
    SELECT t.id, t.state, t.tenant_id, t.agent_id, t.tenant_limit, t.agent_limit
    FROM scheduler.tasks t
    WHERE t.boot_id IS NULL AND t.state IN ('queued','running') AND t.tools <@ p_offers
    ORDER BY t.priority DESC, t.rank, t.id LIMIT v_window;
  WHILE cardinality(v_picked) < p_slots LOOP
    FETCH v_heads INTO v_one;
    IF NOT FOUND THEN
      EXIT WHEN v_part = 1 AND v_seen < v_window OR cardinality(v_full_agents) = v_known;
      -- Tenants or agents at their limit fill the head of the queue: ask every waiting tenant for
      -- its own, and again for as long as that finds further agents who hide others.
      CLOSE v_heads;
      v_part := 2;
      v_known := cardinality(v_full_agents);
      OPEN v_heads FOR
        WITH RECURSIVE w AS (
          (SELECT t.tenant_id FROM scheduler.tasks t
            WHERE t.boot_id IS NULL AND t.state IN ('queued','running')
            ORDER BY t.tenant_id LIMIT 1)
          UNION ALL
          SELECT (SELECT t.tenant_id FROM scheduler.tasks t
            WHERE t.boot_id IS NULL AND t.state IN ('queued','running')
              AND t.tenant_id > w.tenant_id
            ORDER BY t.tenant_id LIMIT 1)
          FROM w WHERE w.tenant_id IS NOT NULL
        ), l AS MATERIALIZED (
          SELECT w.tenant_id, (SELECT count(*) FROM scheduler.tasks t
            WHERE t.state = 'running' AND t.tenant_id = w.tenant_id) AS load
          FROM w WHERE w.tenant_id IS NOT NULL
        )
        SELECT h.id, h.state, h.tenant_id, h.agent_id, h.tenant_limit, h.agent_limit
        FROM l CROSS JOIN LATERAL (
          SELECT t.* FROM scheduler.tasks t
          WHERE t.tenant_id = l.tenant_id AND t.boot_id IS NULL
            AND t.state IN ('queued','running') AND t.tools <@ p_offers
            AND (t.state = 'running' OR (t.tenant_limit IS NULL OR t.tenant_limit > l.load)
              AND (t.agent_limit IS NULL OR t.agent_id <> ALL (v_full_agents)))
          ORDER BY t.priority DESC, t.rank, t.id LIMIT p_slots) h
        ORDER BY h.priority DESC, h.rank, h.id;
      CONTINUE;
    END IF;
    v_seen := v_seen + 1;
    CONTINUE WHEN v_one.id = ANY (v_picked);
    -- A task that is taken over runs already: it is in the counts, and takes nobody's place.
    IF v_one.state = 'queued' THEN
      IF v_one.tenant_limit IS NOT NULL THEN
        v_tenant := array_position(v_tenants, v_one.tenant_id);
        IF v_tenant IS NULL THEN
          v_tenants := v_tenants || v_one.tenant_id;
          v_tenant := cardinality(v_tenants);
          v_tenant_loads[v_tenant] := (SELECT count(*) FROM scheduler.tasks t
            WHERE t.state = 'running' AND t.tenant_id = v_one.tenant_id);
        END IF;
        IF v_tenant_loads[v_tenant] >= v_one.tenant_limit THEN
          v_limited := true;
          CONTINUE;
        END IF;
      END IF;
      IF v_one.agent_limit IS NOT NULL THEN
        v_agent := array_position(v_agents, v_one.agent_id);
        IF v_agent IS NULL THEN
          v_agents := v_agents || v_one.agent_id;
          v_agent := cardinality(v_agents);
          v_agent_loads[v_agent] := (SELECT count(*) FROM scheduler.tasks t
            WHERE t.state = 'running' AND t.agent_id = v_one.agent_id);
        END IF;
        IF v_agent_loads[v_agent] >= v_one.agent_limit THEN
          v_limited := true;
          IF v_one.agent_id <> ALL (v_full_agents) THEN
            v_full_agents := v_full_agents || v_one.agent_id;
          END IF;
          CONTINUE;
        END IF;
      END IF;
    END IF;
    PERFORM FROM scheduler.tasks t
      WHERE t.id = v_one.id AND t.boot_id IS NULL AND t.state IN ('queued','running')
        AND t.cancel_requested_at IS NULL
      FOR NO KEY UPDATE SKIP LOCKED;
    CONTINUE WHEN NOT FOUND;
    v_picked := v_picked || v_one.id;
    IF v_one.state = 'queued' AND v_one.tenant_limit IS NOT NULL THEN
      v_tenant_loads[v_tenant] := v_tenant_loads[v_tenant] + 1;
    END IF;
    IF v_one.state = 'queued' AND v_one.agent_limit IS NOT NULL THEN
      v_agent_loads[v_agent] := v_agent_loads[v_agent] + 1;
    END IF;
  END LOOP;
  CLOSE v_heads;
  IF cardinality(v_picked) = 0 THEN
    IF v_limited THEN
      limited := true;
      RETURN NEXT;
    END IF;
    RETURN;
  END IF;
  RETURN QUERY
  WITH c AS MATERIALIZED (
    SELECT t.id, t.state AS was, greatest(now(), t.changed_at) AS at FROM scheduler.tasks t
    WHERE t.id = ANY (v_picked)
  ), u AS (
    UPDATE scheduler.tasks t SET state = 'running', seq = t.seq + CAST(c.was = 'queued' AS integer),
      changed_at = CASE WHEN c.was = 'queued' THEN c.at ELSE t.changed_at END,
      boot_id = p_boot, lease_token = t.lease_token + 1,
      execution_started_at = coalesce(t.execution_started_at, c.at),
      deadline_at = coalesce(t.deadline_at, c.at + make_interval(secs => t.max_total_seconds)),
      due_at = coalesce(t.deadline_at, c.at + make_interval(secs => t.max_total_seconds))
        + interval '0.75 s'
    FROM c WHERE t.id = c.id AND t.id = ANY (v_picked)
    RETURNING t.*, c.was
  ), e AS (
    INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)
    SELECT u.id, u.seq, 'status_transition', u.was, u.state, u.changed_at, scheduler.event_data(
      u.id, u.tenant_id, u.seq, u.was, u.state, u.changed_at, u.mode,
      NULL, NULL, NULL, NULL, NULL, NULL)
    FROM u WHERE u.was = 'queued'
  ), o AS (
    INSERT INTO scheduler.outbox (task_id, first_seq, last_seq)
    SELECT u.id, u.seq, u.seq FROM u WHERE u.was = 'queued'
  )
  SELECT v_limited, u.id, u.tenant_id, u.lease_token, u.plan, u.tool_set, u.input, u.plan_hash,
    u.steps_begun, u.steps_closed, u.tokens_used, u.cost_usd,
    CAST(CASE WHEN u.deadline_at IS NULL THEN 0
      ELSE greatest(0.001, extract(epoch FROM u.deadline_at - clock_timestamp())) END
      AS double precision),
    u.created_at, u.mode, u.traceparent, u.request_id, false,
    CASE WHEN u.steps_closed > 0 THEN (SELECT array_agg(s.output ORDER BY s.step_index)
      FROM scheduler.steps s WHERE s.task_id = u.id) END,
    CASE WHEN u.steps_closed > 0 THEN (SELECT s.step_hash FROM scheduler.steps s
      WHERE s.task_id = u.id AND s.step_index = u.steps_closed) END,
    u.clock_at, u.recorded_tools
  FROM u ORDER BY array_position(v_picked, u.id);
END
$body$;

COMMENT ON FUNCTION scheduler.claim IS
  'Lease the first waiting tasks that the offered tools can run to a boot, if its stream is the
newest: by priority, then in turn across tenants, then by age, within the limits of tenants and
agents. limited: a limit kept others back; then there may be one row without a task.';

GRANT EXECUTE ON FUNCTION scheduler.claim TO pawl_scheduler;
"""


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(CLAIM)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only")
