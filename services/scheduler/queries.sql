-- submit --
-- Store a task with its events, in one statement; no row: its idempotency key belongs to another task.
WITH k AS (
  INSERT INTO scheduler.idempotency AS i (tenant_id, mode, key, fingerprint, task_id, batch)
  SELECT CAST(:tenant_id AS uuid), CAST(:mode AS text), CAST(:key AS text), CAST(:fingerprint AS text),
    CAST(:id AS uuid), CAST(:batch AS uuid[])
  WHERE CAST(:key AS text) IS NOT NULL
  ON CONFLICT (tenant_id, mode, key) DO UPDATE
    SET fingerprint = EXCLUDED.fingerprint, task_id = EXCLUDED.task_id, batch = EXCLUDED.batch,
      created_at = EXCLUDED.created_at
    WHERE i.created_at < now() - interval '24 hours'
  RETURNING i.task_id
), w AS MATERIALIZED (
  -- A planned task whose time has not come waits as planned; any other with a plan is queued at once.
  SELECT CASE WHEN CAST(:state AS text) = 'queued' AND CAST(:scheduled_at AS timestamptz) > now()
      THEN 'planned' ELSE CAST(:state AS text) END AS state,
    greatest(now(), CAST(:scheduled_at AS timestamptz))
      + make_interval(secs => CAST(:max_queue_seconds AS double precision)) AS queue_deadline_at
), t AS (
  INSERT INTO scheduler.tasks (id, tenant_id, mode, state, seq, changed_at, created_at, priority, rank, tools,
    step_count, scheduled_at, queue_deadline_at, due_at, max_total_seconds, tenant_limit, agent_id, agent_limit,
    plan_hash, planned_by, planner_note, replay_of_task_id, clock_at, recorded_tools, request_id, traceparent,
    tool_set, plan, input)
  SELECT CAST(:id AS uuid), CAST(:tenant_id AS uuid), CAST(:mode AS text), w.state,
    CASE w.state WHEN 'created' THEN 1 WHEN 'planned' THEN 2 ELSE 3 END,
    now(), now(), CAST(:priority AS smallint),
    -- Fair across tenants: behind the own tasks, and not before those that wait already. Two index probes.
    greatest(
      coalesce((SELECT q.rank FROM scheduler.tasks q
        WHERE q.boot_id IS NULL AND q.state IN ('queued','running')
          AND q.priority = CAST(:priority AS smallint)
        ORDER BY q.rank, q.id LIMIT 1), 0),
      coalesce((SELECT q.rank FROM scheduler.tasks q
        WHERE q.tenant_id = :tenant_id AND q.boot_id IS NULL AND q.state IN ('queued','running')
          AND q.priority = CAST(:priority AS smallint)
        ORDER BY q.rank DESC, q.id DESC LIMIT 1) + 1, 0)),
    CAST(:tools AS text[]), CAST(:step_count AS integer), CAST(:scheduled_at AS timestamptz), w.queue_deadline_at,
    CASE w.state WHEN 'planned' THEN CAST(:scheduled_at AS timestamptz) WHEN 'queued' THEN w.queue_deadline_at END,
    CAST(:max_total_seconds AS double precision), CAST(:tenant_limit AS integer), CAST(:agent_id AS uuid),
    CAST(:agent_limit AS integer), CAST(:plan_hash AS text), CAST(:planned_by AS text),
    CAST(:planner_note AS text), CAST(:replay_of_task_id AS uuid), CAST(:clock_at AS timestamptz),
    CAST(:recorded_tools AS text[]), CAST(:request_id AS text), CAST(:traceparent AS text),
    CAST(:tool_set AS text), CAST(:plan AS text), CAST(:input AS text)
  FROM w WHERE CAST(:key AS text) IS NULL OR EXISTS (SELECT FROM k)
  RETURNING *
), e AS (
  INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)
  SELECT t.id, v.seq, 'status_transition', v.f, v.t, t.changed_at, scheduler.event_data(
    t.id, t.tenant_id, v.seq, v.f, v.t, t.changed_at, t.mode, NULL, NULL, NULL, NULL, NULL, NULL)
  FROM t CROSS JOIN (VALUES
    (1, NULL, 'created'), (2, 'created', 'planned'), (3, 'planned', 'queued')) AS v(seq, f, t)
  WHERE v.seq <= t.seq
), o AS (
  INSERT INTO scheduler.outbox (task_id, first_seq, last_seq) SELECT t.id, 1, t.seq FROM t
)
SELECT t.*, NULL AS result FROM t;

-- read_key --
-- The task, or the batch of tasks, that an idempotency key of a mode names, within its 24 hours.
SELECT i.task_id, i.batch, i.fingerprint FROM scheduler.idempotency i
WHERE i.tenant_id = :tenant_id AND i.mode = CAST(:mode AS text) AND i.key = CAST(:key AS text)
  AND i.created_at >= now() - interval '24 hours';

-- fail_unstarted --
-- End a task that never ran as failed; no row: it runs, has ended or is not there.
WITH l AS MATERIALIZED (
  SELECT t.id, t.state, greatest(now(), t.changed_at) AS at FROM scheduler.tasks t
  WHERE t.id = :id AND t.tenant_id = :tenant_id AND t.state IN ('created','planned','queued')
  FOR NO KEY UPDATE
), u AS (
  UPDATE scheduler.tasks t SET state = 'failed', seq = t.seq + 1, changed_at = l.at, finished_at = l.at,
    due_at = NULL, failure_code = CAST(:code AS text), failure_message = CAST(:message AS text),
    failure_reason = CAST(:reason AS text),
    task_hash = scheduler.task_hash(t.plan_hash, '{}', 'failed', CAST(:code AS text))
  FROM l WHERE t.id = l.id AND t.id = :id
  RETURNING t.*, l.state AS was
), e AS (
  INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)
  SELECT u.id, u.seq, 'status_transition', u.was, u.state, u.changed_at, scheduler.event_data(
    u.id, u.tenant_id, u.seq, u.was, u.state, u.changed_at, u.mode, NULL, NULL, NULL, NULL,
    u.failure_code, u.task_hash)
  FROM u
), o AS (
  INSERT INTO scheduler.outbox (task_id, first_seq, last_seq) SELECT u.id, u.seq, u.seq FROM u
)
SELECT u.*, NULL AS result FROM u;

-- get_tasks --
-- Tasks of tenants; a task's result is the output of its last step, once it has succeeded.
SELECT t.*, CASE WHEN t.state = 'succeeded' THEN (
    SELECT s.output FROM scheduler.steps s
    WHERE s.task_id = t.id AND s.step_index = t.step_count) END AS result
FROM unnest(CAST(:ids AS uuid[]), CAST(:tenant_ids AS uuid[])) AS asked(id, tenant_id)
JOIN scheduler.tasks t ON t.id = asked.id AND t.id = ANY(CAST(:ids AS uuid[]))
  AND t.tenant_id = asked.tenant_id;

-- hello --
-- Note an executor's stream and lease its boot; earlier boots of the same executor end. No row: this one has.
-- system
WITH this AS (
  INSERT INTO scheduler.executors AS e
    (boot_id, executor_id, stream_id, slots, tools, connected_at, lease_until)
  VALUES (:boot_id, CAST(:executor_id AS text), :stream_id, CAST(:slots AS integer), CAST(:offers AS text[]),
    now(), now() + make_interval(secs => CAST(:lease_seconds AS double precision)))
  ON CONFLICT (boot_id) DO UPDATE SET stream_id = EXCLUDED.stream_id, slots = EXCLUDED.slots,
    tools = EXCLUDED.tools, connected_at = EXCLUDED.connected_at, lease_until = EXCLUDED.lease_until,
    stream_ended_at = NULL
    WHERE e.ended_at IS NULL AND e.executor_id = EXCLUDED.executor_id
  RETURNING e.boot_id
), earlier AS (
  UPDATE scheduler.executors SET ended_at = now()
  WHERE executor_id = CAST(:executor_id AS text) AND boot_id <> :boot_id AND ended_at IS NULL
    AND EXISTS (SELECT FROM this)
  RETURNING boot_id
)
SELECT this.boot_id, (SELECT count(*) FROM earlier) AS ended FROM this;

-- renew --
-- Renew the lease of everything that a stream runs; no row: the boot has ended or has a newer stream.
-- system
UPDATE scheduler.executors e
SET lease_until = now() + make_interval(secs => CAST(:lease_seconds AS double precision))
FROM (SELECT x.boot_id, x.lease_until < now() AS had_lapsed FROM scheduler.executors x
  WHERE x.boot_id = :boot_id) AS before
WHERE e.boot_id = before.boot_id AND e.boot_id = :boot_id AND e.stream_id = :stream_id
  AND e.ended_at IS NULL
RETURNING before.had_lapsed;

-- held --
-- What a boot holds now, as an assignment would say it.
-- system
SELECT t.*,
  CASE WHEN t.deadline_at IS NULL THEN 0 ELSE greatest(0.001, extract(epoch FROM t.deadline_at - now())) END
    AS seconds_left,
  t.cancel_requested_at IS NOT NULL AS is_cancelling,
  (SELECT array_agg(s.output ORDER BY s.step_index) FROM scheduler.steps s WHERE s.task_id = t.id)
    AS closed_outputs,
  (SELECT s.step_hash FROM scheduler.steps s WHERE s.task_id = t.id AND s.step_index = t.steps_closed)
    AS last_step_hash
FROM scheduler.tasks t WHERE t.boot_id = :boot_id AND t.state = 'running' ORDER BY t.id;

-- claim --
-- Lease the first waiting tasks to a boot; a row without a task says that a limit kept others back.
-- system
SELECT * FROM scheduler.claim(
  CAST(:boot_id AS uuid), CAST(:stream_id AS uuid), CAST(:offers AS text[]), CAST(:slots AS integer));

-- report --
-- Write what executors report, at most one report per task, and say of each how it fared.
-- Every decision reads the locked row of the task and nothing else: other tables are seen as they were
-- before the lock. Earlier steps are the exception: they were acknowledged, so they are committed.
-- system
WITH r AS MATERIALIZED (
  SELECT * FROM json_to_recordset(CAST(:reports AS json)) AS x(
    task_id uuid, boot_id uuid, token integer,
    fin integer, fin_tool text, fin_code text, fin_message text, fin_reason text, resolved_input text,
    output text, step_hash text, schema_failures text, cost numeric, tokens bigint, sandbox_ms bigint,
    start integer, start_tool text,
    term text, term_code text, term_message text, term_step text, term_step_index integer, term_reason text)
), l AS MATERIALIZED (
  SELECT r.*, t.tenant_id, t.mode, t.state, t.seq, greatest(now(), t.changed_at) AS at, t.lease_token,
    t.boot_id AS holder, t.step_count, t.steps_begun, t.steps_closed, t.step_started_at, t.plan_hash,
    t.cancel_requested_at IS NOT NULL AS cancelling
  FROM r JOIN scheduler.tasks t ON t.id = r.task_id AND t.id = ANY(CAST(:ids AS uuid[]))
  ORDER BY t.id FOR NO KEY UPDATE OF t
), v AS (
  SELECT l.*, CASE
    WHEN l.lease_token <> l.token OR l.holder IS DISTINCT FROM l.boot_id THEN 'STALE_LEASE'
    -- Sent again: the step that begins is open already, the step that closed is closed, the end is there.
    WHEN l.start IS NOT NULL AND l.start = l.steps_begun AND l.steps_closed < l.steps_begun
      AND l.state = 'running' THEN 'SEEN'
    WHEN l.start IS NULL AND l.fin = l.steps_closed AND (l.term IS NULL OR l.state <> 'running') THEN 'SEEN'
    WHEN l.start IS NULL AND l.fin IS NULL AND l.state = l.term THEN 'SEEN'
    WHEN l.state <> 'running' THEN 'TERMINAL'
    -- Not the next thing that can happen to this task.
    WHEN l.fin IS NOT NULL
        AND (l.fin <> l.steps_begun OR l.steps_closed = l.steps_begun OR l.fin_tool IS NULL)
      OR l.start IS NOT NULL AND l.start_tool IS NULL
      OR l.start IS NOT NULL AND (l.start <> l.steps_begun + 1 OR l.start > l.step_count
        OR l.fin IS NULL AND l.steps_closed < l.steps_begun)
      OR l.term = 'succeeded' AND coalesce(l.fin, l.steps_closed) <> l.step_count
      OR l.term = 'cancelled' AND NOT l.cancelling THEN 'STALE_LEASE'
    WHEN l.cancelling THEN 'LATE'
    ELSE 'OK' END AS verdict
  FROM l
), d AS MATERIALIZED (
  SELECT v.task_id, v.verdict, v.tenant_id, v.mode, v.seq AS seq_before, v.at, v.step_started_at, v.plan_hash,
    v.fin, v.fin_tool, v.fin_code, v.fin_message, v.fin_reason, v.resolved_input, v.output, v.step_hash,
    v.schema_failures, coalesce(v.cost, 0) AS cost, coalesce(v.tokens, 0) AS tokens,
    coalesce(v.sandbox_ms, 0) AS sandbox_ms, v.start_tool,
    CASE WHEN v.verdict = 'OK' THEN v.start END AS start,
    CASE WHEN v.verdict = 'LATE' THEN 'cancelled' ELSE v.term END AS term,
    CASE WHEN v.verdict = 'OK' THEN v.term_code END AS term_code,
    v.term_message, v.term_step, v.term_step_index, v.term_reason
  FROM v
), u AS (
  UPDATE scheduler.tasks t SET
    seq = d.seq_before + CAST(d.fin IS NOT NULL AS integer) + CAST(d.start IS NOT NULL AS integer)
      + CAST(d.term IS NOT NULL AS integer),
    changed_at = d.at,
    steps_closed = coalesce(d.fin, t.steps_closed),
    steps_begun = coalesce(d.start, t.steps_begun),
    step_started_at = CASE WHEN d.start IS NOT NULL THEN d.at ELSE t.step_started_at END,
    cost_usd = t.cost_usd + d.cost,
    tokens_used = t.tokens_used + d.tokens,
    state = coalesce(d.term, t.state),
    due_at = CASE WHEN d.term IS NULL THEN t.due_at END,
    finished_at = CASE WHEN d.term IS NOT NULL THEN d.at END,
    failure_code = d.term_code,
    failure_message = CASE WHEN d.term_code IS NOT NULL THEN d.term_message END,
    failure_step = CASE WHEN d.term_code IS NOT NULL THEN d.term_step END,
    failure_step_index = CASE WHEN d.term_code IS NOT NULL THEN d.term_step_index END,
    failure_reason = CASE WHEN d.term_code IS NOT NULL THEN d.term_reason END,
    task_hash = CASE WHEN d.term IS NOT NULL THEN scheduler.task_hash(
      d.plan_hash,
      ARRAY(SELECT s.step_hash FROM scheduler.steps s WHERE s.task_id = d.task_id ORDER BY s.step_index)
        || CASE WHEN d.fin IS NOT NULL THEN ARRAY[d.step_hash] ELSE '{}' END,
      d.term, d.term_code) END
  FROM d WHERE t.id = d.task_id AND t.id = ANY(CAST(:ids AS uuid[])) AND d.verdict IN ('OK', 'LATE')
  RETURNING d.*, t.seq AS last_seq, t.task_hash
), s AS (
  INSERT INTO scheduler.steps (task_id, step_index, status, started_at, finished_at, cost_usd, tokens, sandbox_ms,
    failure_code, failure_message, failure_reason, step_hash, schema_failures, resolved_input, output)
  SELECT u.task_id, u.fin, CASE WHEN u.fin_code IS NULL THEN 'succeeded' ELSE 'failed' END, u.step_started_at,
    u.at, u.cost, u.tokens, u.sandbox_ms, u.fin_code, u.fin_message, u.fin_reason, u.step_hash,
    coalesce(u.schema_failures, ''), u.resolved_input, u.output
  FROM u WHERE u.fin IS NOT NULL
), e AS (
  INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)
  SELECT u.task_id, x.seq, x.type, 'running', x.to_state, u.at, scheduler.event_data(
    u.task_id, u.tenant_id, x.seq, 'running', x.to_state, u.at, u.mode,
    x.step_index, x.tool, x.status, x.step_hash, x.failure_code, x.task_hash,
    CASE WHEN x.has_use THEN u.tokens END, CASE WHEN x.has_use THEN u.sandbox_ms END,
    CASE WHEN x.has_use THEN u.cost END)
  -- What was used belongs to the step that closed; of one that was killed, to the end.
  FROM u CROSS JOIN LATERAL (VALUES
    (u.fin IS NOT NULL, u.seq_before + 1, 'step_finished', 'running', u.fin, u.fin_tool,
      CASE WHEN u.fin_code IS NULL THEN 'succeeded' ELSE 'failed' END, u.step_hash, u.fin_code, NULL, true),
    (u.start IS NOT NULL, u.seq_before + 1 + CAST(u.fin IS NOT NULL AS integer), 'step_started', 'running',
      u.start, u.start_tool, NULL, NULL, NULL, NULL, false),
    (u.term IS NOT NULL, u.last_seq, 'status_transition', u.term,
      NULL, NULL, NULL, NULL, u.term_code, u.task_hash, u.fin IS NULL)
  ) AS x(happened, seq, type, to_state, step_index, tool, status, step_hash, failure_code, task_hash, has_use)
  WHERE x.happened
), o AS (
  INSERT INTO scheduler.outbox (task_id, first_seq, last_seq)
  SELECT u.task_id, u.seq_before + 1, u.last_seq FROM u
)
SELECT d.task_id, d.verdict, d.term AS ended FROM d;

-- cancel --
-- Ask for a task's end; it is cancelled at once unless a step is open. No row: it has ended, or was asked before.
WITH l AS MATERIALIZED (
  SELECT t.id, t.state AS was, t.seq AS seq_before, greatest(now(), t.changed_at) AS at,
    t.steps_begun = t.steps_closed AS is_between, t.steps_closed
  FROM scheduler.tasks t
  WHERE t.id = :id AND t.tenant_id = :tenant_id AND t.state IN ('created','planned','queued','running')
    AND t.cancel_requested_at IS NULL
  FOR NO KEY UPDATE
), v AS (
  -- A step that closed while this waited for the lock is not in its snapshot, and without its hash there is no
  -- end: then the task is due at once, and a scheduler ends it.
  SELECT l.*, l.is_between
    AND (SELECT count(*) FROM scheduler.steps s WHERE s.task_id = l.id) = l.steps_closed AS is_end
  FROM l
), u AS (
  UPDATE scheduler.tasks t SET cancel_requested_at = v.at, seq = v.seq_before + 1 + CAST(v.is_end AS integer),
    changed_at = v.at,
    state = CASE WHEN v.is_end THEN 'cancelled' ELSE t.state END,
    finished_at = CASE WHEN v.is_end THEN v.at END,
    due_at = CASE WHEN v.is_end THEN NULL WHEN v.is_between THEN now()
      ELSE least(t.due_at, now() + make_interval(secs => CAST(:grace_seconds AS double precision))) END,
    task_hash = CASE WHEN v.is_end THEN scheduler.task_hash(t.plan_hash,
      ARRAY(SELECT s.step_hash FROM scheduler.steps s WHERE s.task_id = v.id ORDER BY s.step_index),
      'cancelled', NULL) END
  FROM v WHERE t.id = v.id AND t.id = :id
  RETURNING t.*, v.was, v.seq_before
), e AS (
  INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)
  SELECT u.id, x.seq, x.type, u.was, x.to_state, u.changed_at, scheduler.event_data(
    u.id, u.tenant_id, x.seq, u.was, x.to_state, u.changed_at, u.mode, NULL, NULL, NULL, NULL, NULL, x.task_hash)
  FROM u CROSS JOIN LATERAL (VALUES
    (u.seq_before + 1, 'cancel_requested', u.was, NULL),
    (u.seq_before + 2, 'status_transition', 'cancelled', u.task_hash)
  ) AS x(seq, type, to_state, task_hash)
  WHERE x.seq <= u.seq
), o AS (
  INSERT INTO scheduler.outbox (task_id, first_seq, last_seq) SELECT u.id, u.seq_before + 1, u.seq FROM u
)
SELECT u.*, NULL AS result FROM u;

-- end_stream --
-- Note that the newest stream of a boot is gone; no row: it was not the newest.
-- system
UPDATE scheduler.executors SET stream_ended_at = now()
WHERE boot_id = :boot_id AND stream_id = :stream_id AND ended_at IS NULL AND stream_ended_at IS NULL
RETURNING boot_id;

-- end_boot --
-- End a boot whose executor says that it is over; no row: it had ended, or has a newer stream.
-- system
UPDATE scheduler.executors SET ended_at = now()
WHERE boot_id = :boot_id AND stream_id = :stream_id AND ended_at IS NULL
RETURNING boot_id;

-- sweep --
-- End boots whose lease ran out or whose stream stayed away, and say what else there is to do.
-- No row changes of another sweep are overlooked: leases are judged on locked rows. After a gap, when nobody
-- swept, nobody could renew either: then all get one lease more and nobody ends. A shorter gap (late) is enough
-- to keep an executor from coming back within its few seconds: these begin anew.
-- system
WITH s AS (
  UPDATE scheduler.sweep w SET previous = w.last, last = now()
  WHERE w.id = 1 AND (w.last < now() OR w.last > now() + interval '5 s')
  RETURNING w.previous NOT BETWEEN now() - interval '5 s' AND now() + interval '5 s' AS paused,
    w.previous NOT BETWEEN now() - interval '2 s' AND now() + interval '2 s' AS late
), x AS (
  UPDATE scheduler.executors e
  SET lease_until = CASE WHEN s.paused
      THEN now() + make_interval(secs => CAST(:lease_seconds AS double precision)) ELSE e.lease_until END,
    stream_ended_at = CASE WHEN e.stream_ended_at IS NOT NULL THEN now() END
  FROM s WHERE e.ended_at IS NULL
    AND (s.paused OR s.late AND e.stream_ended_at IS NOT NULL AND e.lease_until >= now())
), dead AS MATERIALIZED (
  SELECT e.boot_id FROM scheduler.executors e, s
  WHERE NOT s.paused AND e.ended_at IS NULL AND (e.lease_until < now() OR NOT s.late
    AND e.stream_ended_at < now() - make_interval(secs => CAST(:grace_seconds AS double precision)))
  ORDER BY e.boot_id FOR NO KEY UPDATE OF e SKIP LOCKED
), f AS (
  UPDATE scheduler.executors e SET ended_at = now() FROM dead
  WHERE e.boot_id = dead.boot_id AND e.boot_id = ANY(ARRAY(SELECT dead.boot_id FROM dead))
  RETURNING e.boot_id
)
SELECT coalesce((SELECT s.paused FROM s), false) AS paused,
  ARRAY(SELECT f.boot_id FROM f) AS ended,
  EXISTS (SELECT FROM f) OR EXISTS (SELECT FROM scheduler.executors e
    WHERE e.ended_at IS NOT NULL AND e.settled_at IS NULL) AS is_unsettled,
  (SELECT CAST(extract(epoch FROM t.due_at - now()) AS double precision) FROM scheduler.tasks t
    WHERE t.due_at IS NOT NULL ORDER BY t.due_at LIMIT 1) AS due_in_seconds,
  (SELECT count(*) FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.application_name = CAST(:listener AS text)) AS listening;

-- lost_tasks --
-- Running tasks of boots that have ended. One that was to be cancelled before its executor was lost is cancelled.
-- system
SELECT t.id, t.state, t.seq, t.lease_token, t.steps_begun, t.steps_closed, t.step_count,
  t.cancel_requested_at IS NOT NULL AND (t.steps_begun = t.steps_closed
    OR t.cancel_requested_at <= coalesce(e.stream_ended_at, e.ended_at)) AS is_cancelling, true AS is_offered,
  t.max_total_seconds, t.request_id, (CAST(t.plan AS json)->'steps'->(t.steps_begun - 1)->>'tool') AS open_tool
FROM scheduler.executors e
CROSS JOIN LATERAL (SELECT x.* FROM scheduler.tasks x
  WHERE x.state = 'running' AND x.boot_id = e.boot_id OFFSET 0) t
WHERE e.ended_at IS NOT NULL AND e.settled_at IS NULL
ORDER BY t.id LIMIT CAST(:most AS integer);

-- due_tasks --
-- Tasks whose patience has ended: queued too long, run too long, or not dead within the grace of a cancel.
-- system
SELECT t.id, t.state, t.seq, t.lease_token, t.steps_begun, t.steps_closed, t.step_count,
  t.cancel_requested_at IS NOT NULL AS is_cancelling,
  EXISTS (SELECT FROM scheduler.executors e
    WHERE e.ended_at IS NULL AND e.lease_until > now() AND t.tools <@ e.tools AND e.tools <> '{}') AS is_offered,
  t.max_total_seconds, t.request_id, (CAST(t.plan AS json)->'steps'->(t.steps_begun - 1)->>'tool') AS open_tool
FROM scheduler.tasks t
WHERE t.due_at <= now() AND t.state IN ('queued','running')
ORDER BY t.due_at LIMIT CAST(:most AS integer);

-- settle --
-- Carry out what was decided about tasks: end them, or free them for another executor, each with a new lease
-- token; only of those that have not changed since they were read.
-- system
WITH r AS MATERIALIZED (
  SELECT * FROM json_to_recordset(CAST(:settlements AS json)) AS x(
    task_id uuid, seq integer, token integer, term text, code text, message text, reason text,
    step text, step_index integer)
), l AS MATERIALIZED (
  SELECT r.*, t.state AS was, greatest(now(), t.changed_at) AS at
  FROM r JOIN scheduler.tasks t ON t.id = r.task_id AND t.id = ANY(CAST(:ids AS uuid[]))
  WHERE t.seq = r.seq AND t.lease_token = r.token AND t.state IN ('queued','running')
    AND (r.term IS NOT NULL OR t.state = 'running' AND t.boot_id IS NOT NULL)
  ORDER BY t.id FOR NO KEY UPDATE OF t
), u AS (
  UPDATE scheduler.tasks t SET
    state = coalesce(l.term, t.state),
    seq = t.seq + CAST(l.term IS NOT NULL AS integer),
    changed_at = CASE WHEN l.term IS NOT NULL THEN l.at ELSE t.changed_at END,
    lease_token = t.lease_token + CAST(t.lease_token > 0 AS integer),
    boot_id = CASE WHEN l.term IS NOT NULL THEN t.boot_id END,
    due_at = CASE WHEN l.term IS NULL THEN t.due_at END,
    finished_at = CASE WHEN l.term IS NOT NULL THEN l.at END,
    failure_code = l.code, failure_message = l.message, failure_reason = l.reason, failure_step = l.step,
    failure_step_index = l.step_index,
    task_hash = CASE WHEN l.term IS NOT NULL THEN scheduler.task_hash(t.plan_hash,
      ARRAY(SELECT s.step_hash FROM scheduler.steps s WHERE s.task_id = l.task_id ORDER BY s.step_index),
      l.term, l.code) END
  FROM l WHERE t.id = l.task_id AND t.id = ANY(CAST(:ids AS uuid[]))
  RETURNING t.*, l.was, l.term
), e AS (
  INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)
  SELECT u.id, u.seq, 'status_transition', u.was, u.state, u.changed_at, scheduler.event_data(
    u.id, u.tenant_id, u.seq, u.was, u.state, u.changed_at, u.mode, NULL, NULL, NULL, NULL,
    u.failure_code, u.task_hash)
  FROM u WHERE u.term IS NOT NULL
), o AS (
  INSERT INTO scheduler.outbox (task_id, first_seq, last_seq) SELECT u.id, u.seq, u.seq FROM u WHERE u.term IS NOT NULL
)
SELECT u.id, u.state FROM u;

-- settle_boots --
-- Note of boots that have ended that nothing is left which they held.
-- system
UPDATE scheduler.executors e SET settled_at = now()
WHERE e.ended_at IS NOT NULL AND e.settled_at IS NULL
  AND NOT EXISTS (SELECT FROM scheduler.tasks t WHERE t.state = 'running' AND t.boot_id = e.boot_id);

-- forget_boots --
-- Drop boots that were settled long ago.
-- system
DELETE FROM scheduler.executors
WHERE settled_at < now() - make_interval(secs => CAST(:kept_seconds AS double precision));

-- judge_boots --
-- Of these boots the ones that have ended, and those that nobody knows.
-- system
SELECT asked.boot_id, e.boot_id IS NOT NULL AS is_known
FROM unnest(CAST(:boot_ids AS uuid[])) AS asked(boot_id)
LEFT JOIN scheduler.executors e ON e.boot_id = asked.boot_id
WHERE e.boot_id IS NULL OR e.ended_at IS NOT NULL;

-- queue_due --
-- Queue planned tasks whose time has come, each behind its tenant's own tasks.
-- system
WITH l AS MATERIALIZED (
  SELECT t.id, t.tenant_id, t.priority, t.due_at, greatest(now(), t.changed_at) AS at FROM scheduler.tasks t
  WHERE t.due_at <= now() AND t.state = 'planned' AND t.cancel_requested_at IS NULL
  ORDER BY t.due_at LIMIT CAST(:most AS integer)
  FOR NO KEY UPDATE SKIP LOCKED
), p AS MATERIALIZED (
  SELECT l.id, l.at, greatest(
    coalesce((SELECT q.rank FROM scheduler.tasks q
      WHERE q.boot_id IS NULL AND q.state IN ('queued','running') AND q.priority = l.priority
      ORDER BY q.rank, q.id LIMIT 1), 0),
    coalesce((SELECT q.rank FROM scheduler.tasks q
      WHERE q.tenant_id = l.tenant_id AND q.boot_id IS NULL AND q.state IN ('queued','running')
        AND q.priority = l.priority
      ORDER BY q.rank DESC, q.id DESC LIMIT 1) + 1, 0))
    + row_number() OVER (PARTITION BY l.tenant_id, l.priority ORDER BY l.due_at, l.id) - 1 AS rank
  FROM l
), u AS (
  UPDATE scheduler.tasks t SET state = 'queued', seq = t.seq + 1, changed_at = p.at, rank = p.rank,
    due_at = t.queue_deadline_at
  FROM p WHERE t.id = p.id AND t.id = ANY(ARRAY(SELECT p.id FROM p))
  RETURNING t.*
), e AS (
  INSERT INTO scheduler.task_events (task_id, seq, type, from_state, to_state, at, data)
  SELECT u.id, u.seq, 'status_transition', 'planned', u.state, u.changed_at, scheduler.event_data(
    u.id, u.tenant_id, u.seq, 'planned', u.state, u.changed_at, u.mode, NULL, NULL, NULL, NULL, NULL, NULL)
  FROM u
), o AS (
  INSERT INTO scheduler.outbox (task_id, first_seq, last_seq) SELECT u.id, u.seq, u.seq FROM u
)
SELECT u.id FROM u;

-- why_waiting --
-- What a task waits for; no row: it does not wait.
SELECT t.state, t.scheduled_at, t.tenant_limit, t.agent_limit,
  EXISTS (SELECT FROM scheduler.executors e
    WHERE e.ended_at IS NULL AND e.lease_until > now() AND t.tools <@ e.tools AND e.tools <> '{}') AS is_offered,
  EXISTS (SELECT FROM scheduler.executors e
    WHERE e.ended_at IS NULL AND e.lease_until > now() AND t.tools <@ e.tools AND e.tools <> '{}'
      AND e.slots > (SELECT count(*) FROM scheduler.tasks r WHERE r.state = 'running' AND r.boot_id = e.boot_id))
    AS has_slot,
  (SELECT count(*) FROM scheduler.tasks r WHERE r.state = 'running' AND r.tenant_id = t.tenant_id) AS tenant_running,
  (SELECT count(*) FROM scheduler.tasks r WHERE r.state = 'running' AND r.agent_id = t.agent_id) AS agent_running,
  (SELECT count(*) FROM (SELECT FROM scheduler.tasks q
      WHERE q.boot_id IS NULL AND q.state IN ('queued','running') AND q.priority > t.priority
      LIMIT CAST(:most AS integer)) AS higher)
    + (SELECT count(*) FROM (SELECT FROM scheduler.tasks q
      WHERE q.boot_id IS NULL AND q.state IN ('queued','running') AND q.priority = t.priority
        AND (q.rank, q.id) < (t.rank, t.id)
      LIMIT CAST(:most AS integer)) AS earlier) AS ahead
FROM scheduler.tasks t
WHERE t.id = :id AND t.tenant_id = :tenant_id
  AND (t.state = 'planned' OR t.boot_id IS NULL AND t.state IN ('queued','running'));

-- events_between --
-- A page of one task's events in order of seq.
SELECT e.task_id, e.seq, e.type, e.from_state, e.to_state, e.at, e.data FROM scheduler.task_events e
WHERE e.task_id = :id AND e.seq > CAST(:after AS integer) AND e.seq <= CAST(:up_to AS integer)
  AND EXISTS (SELECT FROM scheduler.tasks t WHERE t.id = :id AND t.tenant_id = :tenant_id)
ORDER BY e.seq LIMIT CAST(:limit AS integer);

-- step_sizes --
-- Bytes of each closed step's texts, without reading them.
SELECT s.step_index, octet_length(s.resolved_input) + coalesce(octet_length(s.output), 0)
  + octet_length(s.schema_failures) AS size_bytes
FROM scheduler.steps s
WHERE s.task_id = :id AND s.step_index <= CAST(:up_to AS integer)
  AND EXISTS (SELECT FROM scheduler.tasks t WHERE t.id = :id AND t.tenant_id = :tenant_id)
ORDER BY s.step_index;

-- steps_between --
-- Closed steps of one task in order.
SELECT s.* FROM scheduler.steps s
WHERE s.task_id = :id AND s.step_index BETWEEN CAST(:first AS integer) AND CAST(:last AS integer)
  AND EXISTS (SELECT FROM scheduler.tasks t WHERE t.id = :id AND t.tenant_id = :tenant_id)
ORDER BY s.step_index;

-- step_hashes --
-- Hashes of the closed steps of tasks in order.
SELECT s.task_id, s.step_hash FROM scheduler.steps s
WHERE s.task_id = ANY(CAST(:ids AS uuid[]))
  AND EXISTS (SELECT FROM scheduler.tasks t WHERE t.id = s.task_id AND t.tenant_id = :tenant_id)
ORDER BY s.task_id, s.step_index;

-- recall_step --
-- What the original of a replay came to in a step; no row: the replay does not run under that token.
-- system
SELECT t.replay_of_task_id, s.step_index, s.output, s.failure_code, s.failure_message,
  s.failure_reason, encode(sha256(convert_to(s.resolved_input, 'UTF8')), 'hex') AS input_sha256
FROM scheduler.tasks t
LEFT JOIN LATERAL (SELECT x.* FROM scheduler.steps x
  WHERE x.task_id = t.replay_of_task_id AND x.step_index = CAST(:step_index AS integer) OFFSET 0) AS s ON true
WHERE t.id = :id AND t.lease_token = CAST(:token AS integer) AND t.state = 'running' AND t.boot_id IS NOT NULL
  AND t.recorded_tools IS NOT NULL;

-- feed_events --
-- Events in the order in which they were published, after a position.
-- system
SELECT f.last_position - (f.last_seq - e.seq) AS position, t.tenant_id,
  e.task_id, e.seq, e.type, e.from_state, e.to_state, e.at, e.data
FROM (SELECT x.* FROM bus.feed x WHERE x.last_position > CAST(:after AS bigint)
  ORDER BY x.last_position LIMIT CAST(:limit AS integer)) AS f
CROSS JOIN LATERAL (SELECT y.* FROM scheduler.task_events y
  WHERE y.task_id = f.task_id AND y.seq BETWEEN f.first_seq AND f.last_seq OFFSET 0) AS e
CROSS JOIN LATERAL (SELECT k.tenant_id FROM scheduler.tasks k WHERE k.id = f.task_id OFFSET 0) AS t
WHERE f.last_position - (f.last_seq - e.seq) > CAST(:after AS bigint)
ORDER BY position;

-- feed_end --
-- The position of the newest published event of a topic.
-- system
SELECT last_position FROM bus.topics WHERE topic = CAST(:topic AS text);

-- republish_task --
-- Put every event of a task into the outbox once more, in runs that fit a batch; no row: there is no such task.
-- system
WITH t AS MATERIALIZED (
  -- The lock makes a writer that is at work on the task commit first.
  SELECT t.id, t.seq FROM scheduler.tasks t WHERE t.id = :id FOR NO KEY UPDATE
), o AS (
  INSERT INTO scheduler.outbox (task_id, first_seq, last_seq)
  SELECT t.id, s, least(s + CAST(:run AS integer) - 1, t.seq)
  FROM t, generate_series(1, t.seq, CAST(:run AS integer)) AS s
)
SELECT t.seq AS events FROM t;

-- republish_events --
-- Put single events into the outbox once more, those that exist.
-- system
INSERT INTO scheduler.outbox (task_id, first_seq, last_seq)
SELECT e.task_id, e.seq, e.seq
FROM unnest(CAST(:ids AS uuid[]), CAST(:seqs AS integer[])) AS x(task_id, seq)
CROSS JOIN LATERAL (SELECT y.task_id, y.seq FROM scheduler.task_events y
  WHERE y.task_id = x.task_id AND y.seq = x.seq OFFSET 0) AS e;

-- announce --
-- Wake the other schedulers.
-- system
SELECT pg_notify(CAST(:channel AS text), CAST(:payload AS text));

-- count_waiting --
-- How many tasks wait for an executor.
-- system
SELECT count(*) AS waiting FROM scheduler.tasks t WHERE t.boot_id IS NULL AND t.state IN ('queued','running');
