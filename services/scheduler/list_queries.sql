-- list_tasks --
-- A page of a tenant's tasks, newest first: those of every state and mode that is wanted, merged.
-- Each branch below is one range of an index per state, mode and agent, whatever else the tenant has; the first is
-- for lists of all agents, the last for replays of one task, which have the agent of their original. A page ends
-- early when its texts have so many bytes, but not before its first task.
WITH page AS MATERIALIZED (
  SELECT p.id, p.created_at
  FROM unnest(CAST(:states AS text[])) AS s(state)
  CROSS JOIN unnest(CAST(:modes AS text[])) AS m(mode)
  CROSS JOIN LATERAL (
    (SELECT t.id, t.created_at FROM scheduler.tasks t
      WHERE CAST(:agent_ids AS uuid[]) IS NULL AND CAST(:replay_of AS uuid) IS NULL
        AND t.tenant_id = CAST(:tenant_id AS uuid) AND t.state = s.state AND t.mode = m.mode
        AND t.created_at >= CAST(:created_from AS timestamptz)
        AND (t.created_at, t.id) < (CAST(:before_at AS timestamptz), CAST(:before_id AS uuid))
      ORDER BY t.created_at DESC, t.id DESC LIMIT CAST(:most AS integer))
    UNION ALL
    (SELECT o.id, o.created_at FROM unnest(CAST(:agent_ids AS uuid[])) AS a(agent_id)
      CROSS JOIN LATERAL (SELECT t.id, t.created_at FROM scheduler.tasks t
        WHERE t.tenant_id = CAST(:tenant_id AS uuid) AND t.agent_id = a.agent_id AND t.state = s.state
          AND t.mode = m.mode AND t.created_at >= CAST(:created_from AS timestamptz)
          AND (t.created_at, t.id) < (CAST(:before_at AS timestamptz), CAST(:before_id AS uuid))
        ORDER BY t.created_at DESC, t.id DESC LIMIT CAST(:most AS integer)) AS o
      WHERE CAST(:replay_of AS uuid) IS NULL)
    UNION ALL
    (SELECT t.id, t.created_at FROM scheduler.tasks t
      WHERE t.tenant_id = CAST(:tenant_id AS uuid) AND t.replay_of_task_id = CAST(:replay_of AS uuid)
        AND t.state = s.state AND t.mode = m.mode AND t.created_at >= CAST(:created_from AS timestamptz)
        AND (t.created_at, t.id) < (CAST(:before_at AS timestamptz), CAST(:before_id AS uuid))
        AND (CAST(:agent_ids AS uuid[]) IS NULL OR EXISTS (SELECT FROM scheduler.tasks r
          WHERE r.id = CAST(:replay_of AS uuid) AND r.tenant_id = CAST(:tenant_id AS uuid)
            AND r.agent_id = ANY(CAST(:agent_ids AS uuid[]))))
      ORDER BY t.created_at DESC, t.id DESC LIMIT CAST(:most AS integer))
  ) AS p
  ORDER BY p.created_at DESC, p.id DESC LIMIT CAST(:most AS integer)
), sized AS (
  SELECT t.id, t.created_at, t.tenant_id, t.state, t.seq, t.mode, t.priority, t.input,
    CAST(NULL AS text) AS plan, t.plan_hash, CAST(NULL AS text) AS tool_set, t.planned_by,
    CAST(NULL AS text) AS planner_note, t.steps_begun, t.steps_closed, t.step_started_at, r.output AS result,
    t.failure_code, t.failure_message, t.failure_reason, t.failure_step, t.failure_step_index, t.cost_usd,
    t.execution_started_at, t.finished_at, t.replay_of_task_id, t.clock_at, t.recorded_tools, t.task_hash,
    t.scheduled_at, t.cancel_requested_at, t.tokens_used, t.agent_id, t.agent_limit, t.boot_id,
    sum(octet_length(t.input) + coalesce(octet_length(r.output), 0) + coalesce(octet_length(t.failure_message), 0))
      OVER (ORDER BY t.created_at DESC, t.id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before,
    (SELECT count(*) FROM page) AS found
  FROM page
  CROSS JOIN LATERAL (SELECT x.* FROM scheduler.tasks x
    WHERE x.id = page.id AND x.tenant_id = CAST(:tenant_id AS uuid) OFFSET 0) AS t
  LEFT JOIN LATERAL (SELECT y.output FROM scheduler.steps y
    WHERE t.state = 'succeeded' AND y.task_id = t.id AND y.step_index = t.step_count OFFSET 0) AS r ON true
)
SELECT s.* FROM sized s
WHERE s.bytes_before IS NULL OR s.bytes_before < CAST(:most_bytes AS bigint)
ORDER BY s.created_at DESC, s.id DESC LIMIT CAST(:page_size AS integer);

-- count_tasks --
-- How many of a tenant's tasks, or of those of some agents, have not ended.
SELECT count(*) FILTER (WHERE t.state <> 'running') AS waiting, count(*) FILTER (WHERE t.state = 'running') AS running
FROM scheduler.tasks t
WHERE t.tenant_id = CAST(:tenant_id AS uuid) AND t.state IN ('created','planned','queued','running')
  AND (CAST(:agent_ids AS uuid[]) IS NULL OR t.agent_id = ANY(CAST(:agent_ids AS uuid[])));
