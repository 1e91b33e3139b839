-- SQL of the postgres driver. {schema} is the schema of the outbox or of the consumer.

-- relay_task_events --
-- Move what is committed in the outbox to the topic: append, count up, delete, all or nothing.
-- system
-- One statement, so that nothing can come between. Relays take turns by the advisory lock, which ends with
-- the statement: a relay that dies holds up nobody, and no leader has to be found. Without the lock order
-- would still hold (the rows of a task are always deleted and numbered by one statement), but two relays
-- that delete in different orders could deadlock. One that had to wait has an older snapshot than the one
-- it waited for; it then finds the rows it knows of gone, and takes only those that are still there.
-- What is visible of a task is a gapless prefix, and so are the first rows by (task_id, first_seq) of it:
-- a writer numbers its events under the lock of the task's row and commits before the next one.
WITH turn AS MATERIALIZED (
  SELECT pg_advisory_xact_lock(:lock_class, hashtext(:topic))
), taken AS (
  DELETE FROM {schema}.outbox
  WHERE (SELECT count(*) FROM turn) = 1
    AND ctid = ANY (ARRAY(
      SELECT o.ctid FROM {schema}.outbox o ORDER BY o.task_id, o.first_seq LIMIT :most))
  RETURNING task_id, first_seq, last_seq
), events AS MATERIALIZED (
  SELECT row_number() OVER (ORDER BY e.task_id, e.seq) AS place, e.*, t.tenant_id, t.traceparent, t.request_id
  FROM taken
  -- OFFSET 0 keeps both lookups index probes per row, whatever the statistics say.
  CROSS JOIN LATERAL (
    SELECT x.task_id, x.seq, x.type, x.at, x.data FROM {schema}.task_events x
    WHERE x.task_id = taken.task_id AND x.seq BETWEEN taken.first_seq AND taken.last_seq OFFSET 0) e
  LEFT JOIN LATERAL (
    SELECT k.tenant_id, k.traceparent, k.request_id FROM {schema}.tasks k
    WHERE k.id = taken.task_id OFFSET 0) t ON true
), moved AS (
  UPDATE bus.topics SET last_position = last_position + n.events
  FROM (SELECT count(*) AS events FROM events) AS n
  WHERE topic = :topic AND n.events > 0
  RETURNING last_position - n.events AS base
), appended AS (
  INSERT INTO bus.records (topic, position, key, headers, value)
  -- Written out, because json_build_object takes four times as long. Every text is a UUID, a number or a
  -- known word but for traceparent and request id: nothing else needs escaping.
  SELECT :topic, moved.base + e.place, CAST(e.task_id AS text),
    '{"ce_specversion":"1.0","ce_id":"' || e.task_id || ':' || e.seq
      || '","ce_type":"pawl.task.' || e.type || '.v1","ce_source":"/pawl/scheduler'
      || '","ce_subject":"' || e.task_id
      || '","ce_time":"' || to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
      || '","ce_partitionkey":"' || e.task_id || '","ce_sequence":"' || e.seq
      || coalesce('","ce_tenant":"' || e.tenant_id, '') || '","content-type":"application/json"'
      || coalesce(',"traceparent":' || e.parent || ',"ce_traceparent":' || e.parent, '')
      || coalesce(',"ce_requestid":' || e.request, '') || '}',
    e.data
  FROM moved CROSS JOIN LATERAL (
    SELECT x.*, CAST(to_json(nullif(x.traceparent, '')) AS text) AS parent,
      CAST(to_json(nullif(x.request_id, '')) AS text) AS request FROM events x OFFSET 0) AS e
  RETURNING position
)
SELECT (SELECT count(*) FROM appended) AS events, (SELECT count(*) FROM taken) AS rows,
  coalesce((SELECT extract(epoch FROM clock_timestamp() - min(e.at)) FROM events e), 0)::float8
    AS oldest_age_seconds

-- take_outbox --
-- The oldest rows of the outbox in order of task and seq, with the events they stand for.
-- system
-- What is visible of a task is a gapless prefix: see relay_task_events.
WITH taken AS MATERIALIZED (
  SELECT o.ctid AS place, o.task_id, o.first_seq, o.last_seq
  FROM {schema}.outbox o ORDER BY o.task_id, o.first_seq LIMIT :most
)
SELECT CAST(taken.place AS text) AS place, e.task_id, e.seq, e.type, e.data, t.tenant_id, t.traceparent, t.request_id,
  to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS time,
  CAST(extract(epoch FROM clock_timestamp() - e.at) AS float8) AS age_seconds
FROM taken
CROSS JOIN LATERAL (
  SELECT x.task_id, x.seq, x.type, x.at, x.data FROM {schema}.task_events x
  WHERE x.task_id = taken.task_id AND x.seq BETWEEN taken.first_seq AND taken.last_seq OFFSET 0) e
LEFT JOIN LATERAL (
  SELECT k.tenant_id, k.traceparent, k.request_id FROM {schema}.tasks k
  WHERE k.id = taken.task_id OFFSET 0) t ON true
ORDER BY taken.task_id, taken.first_seq, e.seq

-- close_outbox --
-- Delete rows that were published, and note them in the feed under the next positions of the topic.
-- system
-- Only the one publisher deletes rows and nobody changes them, so a row keeps its place until then.
WITH gone AS (
  DELETE FROM {schema}.outbox
  WHERE ctid = ANY(CAST(:places AS tid[])) AND task_id = ANY(CAST(:task_ids AS uuid[]))
  RETURNING task_id, first_seq, last_seq
), placed AS MATERIALIZED (
  SELECT g.task_id, g.first_seq, g.last_seq,
    sum(g.last_seq - g.first_seq + 1) OVER (ORDER BY g.task_id, g.first_seq, g.last_seq
      ROWS UNBOUNDED PRECEDING) AS events
  FROM gone g
), moved AS (
  UPDATE bus.topics SET last_position = last_position + (SELECT max(p.events) FROM placed p)
  WHERE topic = :topic AND EXISTS (SELECT FROM placed)
  RETURNING last_position - (SELECT max(p.events) FROM placed p) AS base
)
INSERT INTO bus.feed (last_position, task_id, first_seq, last_seq)
SELECT moved.base + p.events, p.task_id, p.first_seq, p.last_seq FROM placed p, moved ORDER BY p.events

-- backlog --
-- How much waits in the outbox, and since when.
-- system
SELECT count(*) AS rows, coalesce(CAST(max(extract(epoch FROM clock_timestamp() - (
    SELECT e.at FROM {schema}.task_events e WHERE e.task_id = o.task_id AND e.seq = o.first_seq))) AS float8), 0)
  AS oldest_age_seconds
FROM (SELECT x.task_id, x.first_seq FROM {schema}.outbox x LIMIT :most) o

-- try_lead --
-- Become the one publisher of the outbox for as long as this connection lives.
-- system
SELECT pg_try_advisory_lock(:lock_class, hashtext(:topic)) AS leads

-- notify_topic --
-- Wake whoever waits for the topic; a statement of its own, because inside another it slows that down.
-- system
SELECT pg_notify(:channel, :topic)

-- drop_expired --
-- Drop the oldest records of a topic that are older than it keeps, a bounded number at a time.
-- system
DELETE FROM bus.records
WHERE topic = :topic AND at < now() - make_interval(secs => :kept_seconds) AND position = ANY (ARRAY(
  SELECT r.position FROM bus.records r WHERE r.topic = :topic ORDER BY r.position LIMIT :most))

-- drop_feed --
-- Drop the oldest rows of the feed that are older than the topic keeps, a bounded number at a time.
-- system
DELETE FROM bus.feed
WHERE at < now() - make_interval(secs => :kept_seconds) AND last_position = ANY (ARRAY(
  SELECT f.last_position FROM bus.feed f ORDER BY f.last_position LIMIT :most))

-- read_records --
-- Records of a topic after a position, in order.
-- system
SELECT topic, position, key, headers, value FROM bus.records
WHERE topic = :topic AND position > :after_position ORDER BY position LIMIT :most

-- last_position --
-- The position of the newest record of a topic.
-- system
SELECT last_position FROM bus.topics WHERE topic = :topic

-- join_group --
-- A group that is new stands before the oldest record that is kept.
-- system
INSERT INTO {schema}.bus_positions (topic, group_name, position)
SELECT t.topic, :group_name, coalesce(
  (SELECT r.position - 1 FROM bus.records r WHERE r.topic = t.topic ORDER BY r.position LIMIT 1),
  t.last_position)
FROM bus.topics t WHERE t.topic = :topic
ON CONFLICT (topic, group_name) DO NOTHING

-- fetch_records --
-- Where the group stands, and the records after that (none: one row of nulls).
-- system
SELECT p.position AS after_position, r.position, r.key, r.headers, r.value,
  (SELECT t.last_position FROM bus.topics t WHERE t.topic = p.topic) AS last_position
FROM {schema}.bus_positions p LEFT JOIN LATERAL (
  SELECT x.position, x.key, x.headers, x.value FROM bus.records x
  WHERE x.topic = p.topic AND x.position > p.position ORDER BY x.position LIMIT :most) r ON true
WHERE p.topic = :topic AND p.group_name = :group_name
ORDER BY r.position

-- advance_group --
-- Move the group from one position to another; no row when another member was faster.
-- system
UPDATE {schema}.bus_positions SET position = :last_position
WHERE topic = :topic AND group_name = :group_name AND position = :after_position

-- note_seen --
-- Lock the keys of a batch and note their last sequences; returned is the last one handled before.
-- system
INSERT INTO {schema}.bus_seen AS s (topic, group_name, key, last_seq)
SELECT :topic, :group_name, k.key, k.seq
FROM unnest(CAST(:keys AS uuid[]), CAST(:seqs AS integer[])) AS k(key, seq) ORDER BY k.key
ON CONFLICT (topic, group_name, key) DO UPDATE SET
  previous_seq = s.last_seq, last_seq = greatest(s.last_seq, EXCLUDED.last_seq), seen_at = now()
RETURNING s.key, s.previous_seq

-- last_seen --
-- The last sequence handled of one key.
-- system
SELECT s.last_seq FROM {schema}.bus_seen s
WHERE s.topic = :topic AND s.group_name = :group_name AND s.key = CAST(:key AS uuid)

-- asides_of --
-- Which events of these keys were put aside.
-- system
SELECT a.key, a.seq FROM {schema}.bus_aside a
WHERE a.topic = :topic AND a.group_name = :group_name AND a.key = ANY(CAST(:keys AS uuid[]))

-- put_aside --
-- Note that an event was put aside.
-- system
INSERT INTO {schema}.bus_aside (topic, group_name, key, seq)
VALUES (:topic, :group_name, CAST(:key AS uuid), CAST(:seq AS integer))
ON CONFLICT (topic, group_name, key, seq) DO NOTHING

-- take_aside --
-- Take an event back that was put aside; no row: it was not, or another member has taken it.
-- system
DELETE FROM {schema}.bus_aside
WHERE topic = :topic AND group_name = :group_name AND key = CAST(:key AS uuid) AND seq = CAST(:seq AS integer)

-- forget_aside --
-- Drop what was put aside so long ago that it cannot come again.
-- system
DELETE FROM {schema}.bus_aside
WHERE topic = :topic AND group_name = :group_name AND at < now() - make_interval(secs => :kept_seconds)

-- forget_seen --
-- Drop keys that nothing was seen of for long, oldest first; keys are UUIDv7, so their order is their age.
-- system
DELETE FROM {schema}.bus_seen
WHERE topic = :topic AND group_name = :group_name AND key = ANY (ARRAY(
  SELECT s.key FROM {schema}.bus_seen s
  WHERE s.topic = :topic AND s.group_name = :group_name AND s.key < CAST(:before_key AS uuid)
    AND s.seen_at < now() - make_interval(secs => :kept_seconds)
  ORDER BY s.key LIMIT :most))

-- dead_letter --
-- Append to the stream of dead letters.
-- system
SELECT bus.dead_letter(:key, :headers, :value)
