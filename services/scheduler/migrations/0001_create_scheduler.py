"""Tasks, events, steps, the queue, streams of executors, idempotency keys; and the guards."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The edges of docs/lifecycle.md. Written out twice below (a function call per row would cost more
# than the guard itself); a test holds both against libs/core/lifecycle.py.
EDGES = """(
      ('created','planned'), ('planned','queued'), ('queued','running'), ('running','succeeded'),
      ('created','failed'), ('planned','failed'), ('queued','failed'), ('running','failed'),
      ('created','cancelled'), ('planned','cancelled'), ('queued','cancelled'),
      ('running','cancelled'))"""

TASKS = """
CREATE TABLE scheduler.tasks (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL,
  mode text NOT NULL,
  state text NOT NULL,
  seq integer NOT NULL,
  changed_at timestamptz NOT NULL,
  priority smallint NOT NULL,
  rank bigint NOT NULL,
  tools text[] NOT NULL DEFAULT '{}',
  boot_id uuid,
  lease_token integer NOT NULL DEFAULT 0,
  step_count integer,
  steps_begun integer NOT NULL DEFAULT 0,
  steps_closed integer NOT NULL DEFAULT 0,
  step_started_at timestamptz,
  created_at timestamptz NOT NULL,
  queue_deadline_at timestamptz,
  execution_started_at timestamptz,
  max_total_seconds double precision,
  deadline_at timestamptz,
  cancel_requested_at timestamptz,
  finished_at timestamptz,
  cost_usd numeric NOT NULL DEFAULT 0,
  failure_code text,
  failure_message text,
  failure_step text,
  failure_step_index integer,
  failure_reason text,
  plan_hash text,
  task_hash text,
  planned_by text,
  planner_note text,
  replay_of_task_id uuid,
  request_id text NOT NULL DEFAULT '',
  traceparent text NOT NULL DEFAULT '',
  tool_set text,
  plan text,
  input text NOT NULL,
  CONSTRAINT tasks_state_known CHECK (state IN
    ('created','planned','queued','running','succeeded','failed','cancelled')),
  CONSTRAINT tasks_mode_known CHECK (mode IN ('live','test')),
  CONSTRAINT tasks_seq_positive CHECK (seq > 0),
  CONSTRAINT tasks_priority_in_bounds CHECK (priority BETWEEN -1000 AND 1000),
  CONSTRAINT tasks_finished_at_iff_final CHECK
    ((finished_at IS NOT NULL) = (state IN ('succeeded','failed','cancelled'))),
  CONSTRAINT tasks_task_hash_iff_final CHECK ((task_hash IS NOT NULL) = (finished_at IS NOT NULL)),
  CONSTRAINT tasks_failure_iff_failed CHECK
    ((failure_code IS NOT NULL) = (state = 'failed')
      AND (failure_message IS NOT NULL) = (state = 'failed')),
  CONSTRAINT tasks_planned_as_a_whole CHECK
    (num_nonnulls(plan, plan_hash, tool_set, planned_by, step_count) IN (0, 5)),
  CONSTRAINT tasks_planned_from_planned_on CHECK
    (plan_hash IS NOT NULL OR state IN ('created','failed','cancelled')),
  CONSTRAINT tasks_steps_one_at_a_time CHECK
    (steps_closed >= 0 AND steps_begun - steps_closed IN (0, 1)
      AND steps_begun <= coalesce(step_count, 0)),
  CONSTRAINT tasks_no_step_before_running CHECK
    (steps_begun = 0 OR state NOT IN ('created','planned','queued')),
  CONSTRAINT tasks_succeeded_with_every_step CHECK
    (state <> 'succeeded' OR steps_closed = step_count),
  CONSTRAINT tasks_held_only_when_started CHECK
    (boot_id IS NULL OR state NOT IN ('created','planned','queued')),
  CONSTRAINT tasks_started_iff_claimed CHECK
    ((execution_started_at IS NOT NULL) = (lease_token > 0)),
  CONSTRAINT tasks_cost_not_negative CHECK (cost_usd >= 0)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX tasks_claim ON scheduler.tasks (priority DESC, rank, id)
  WHERE boot_id IS NULL AND state IN ('queued','running');
CREATE INDEX tasks_claim_tenant ON scheduler.tasks (tenant_id, priority DESC, rank, id)
  WHERE boot_id IS NULL AND state IN ('queued','running');
CREATE INDEX tasks_running ON scheduler.tasks (boot_id) WHERE state = 'running';
CREATE INDEX tasks_running_tenant ON scheduler.tasks (tenant_id) WHERE state = 'running';

COMMENT ON TABLE scheduler.tasks IS
  'One run of a plan. Whatever decides about a report (state, steps, lease, cancel) is in its row.';
COMMENT ON COLUMN scheduler.tasks.seq IS 'seq of its last event.';
COMMENT ON COLUMN scheduler.tasks.changed_at IS 'Time of its last event; never goes back.';
COMMENT ON COLUMN scheduler.tasks.rank IS 'Virtual rank of the fair queue.';
COMMENT ON COLUMN scheduler.tasks.tools IS
  'name@version#digest of each tool; an executor must offer all.';
COMMENT ON COLUMN scheduler.tasks.boot_id IS
  'The executor boot that holds it, or held it last. Null: anybody may claim it.';
COMMENT ON COLUMN scheduler.tasks.steps_begun IS
  'Last step begun. Above steps_closed: that step is open, or was interrupted when the task ended.';
COMMENT ON COLUMN scheduler.tasks.tool_set IS
  'Canonical JSON [[name, version, digest], …], sorted.';
COMMENT ON COLUMN scheduler.tasks.plan IS 'Canonical JSON text; frozen once it is set.';
"""

EVENTS = f"""
CREATE TABLE scheduler.task_events (
  task_id uuid NOT NULL,
  seq integer NOT NULL,
  type text NOT NULL,
  from_state text,
  to_state text NOT NULL,
  at timestamptz NOT NULL,
  data text NOT NULL,
  PRIMARY KEY (task_id, seq),
  CONSTRAINT task_events_seq_positive CHECK (seq > 0),
  CONSTRAINT task_events_type_known CHECK (type IN
    ('status_transition','step_started','step_finished','cancel_requested','plan_validation_failed','progress')),
  CONSTRAINT task_events_first_has_no_from CHECK ((from_state IS NULL) = (seq = 1)),
  CONSTRAINT task_events_along_an_edge CHECK (CASE
    WHEN seq = 1 THEN type = 'status_transition' AND to_state = 'created'
    WHEN type = 'status_transition' THEN (from_state, to_state) IN {EDGES}
    ELSE from_state = to_state AND to_state NOT IN ('succeeded','failed','cancelled') END)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.2);

COMMENT ON TABLE scheduler.task_events IS
  'Everything that happened to a task, in order; append only.';
COMMENT ON COLUMN scheduler.task_events.data IS
  'pawl.events.v1.TaskEventData as JSON text with proto field names; published as it stands.';

CREATE TABLE scheduler.outbox (
  task_id uuid NOT NULL,
  first_seq integer NOT NULL,
  last_seq integer NOT NULL,
  CONSTRAINT outbox_range CHECK (first_seq <= last_seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0);

COMMENT ON TABLE scheduler.outbox IS
  'Events not yet published, one row per task and statement. No index: the relay takes them all.';
"""

STEPS = """
CREATE TABLE scheduler.steps (
  task_id uuid NOT NULL,
  step_index integer NOT NULL,
  status text NOT NULL,
  started_at timestamptz NOT NULL,
  finished_at timestamptz NOT NULL,
  cost_usd numeric NOT NULL DEFAULT 0,
  failure_code text,
  failure_message text,
  failure_reason text,
  step_hash text NOT NULL,
  schema_failures text NOT NULL DEFAULT '',
  resolved_input text NOT NULL,
  output text,
  PRIMARY KEY (task_id, step_index),
  CONSTRAINT steps_index_positive CHECK (step_index > 0),
  CONSTRAINT steps_status_known CHECK (status IN ('succeeded','failed')),
  CONSTRAINT steps_output_iff_succeeded CHECK ((output IS NOT NULL) = (status = 'succeeded')),
  CONSTRAINT steps_failure_iff_failed CHECK
    ((failure_code IS NOT NULL) = (status = 'failed')
      AND (failure_message IS NOT NULL) = (status = 'failed')),
  CONSTRAINT steps_hash_is_sha256 CHECK (step_hash ~ '^[0-9a-f]{64}$'),
  CONSTRAINT steps_cost_not_negative CHECK (cost_usd >= 0)
);

COMMENT ON TABLE scheduler.steps IS
  'Every closed step; append only. The open step of a running task stands in its tasks row.';
"""

REST = """
CREATE TABLE scheduler.idempotency (
  tenant_id uuid NOT NULL,
  key text NOT NULL,
  fingerprint text NOT NULL,
  task_id uuid NOT NULL REFERENCES scheduler.tasks,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, key)
);

COMMENT ON TABLE scheduler.idempotency IS 'One key of a tenant names one task for 24 hours.';

CREATE TABLE scheduler.executors (
  boot_id uuid PRIMARY KEY,
  executor_id text NOT NULL,
  stream_id uuid NOT NULL,
  slots integer NOT NULL,
  tools text[] NOT NULL,
  connected_at timestamptz NOT NULL,
  lease_until timestamptz NOT NULL,
  ended_at timestamptz,
  CONSTRAINT executors_id_length CHECK (length(executor_id) BETWEEN 1 AND 128),
  CONSTRAINT executors_slots_in_bounds CHECK (slots BETWEEN 1 AND 1000)
) WITH (fillfactor = 50);

CREATE INDEX executors_living ON scheduler.executors (executor_id) WHERE ended_at IS NULL;

COMMENT ON TABLE scheduler.executors IS
  'One row per start of an executor: its lease covers every task that names the boot.';
COMMENT ON COLUMN scheduler.executors.stream_id IS
  'The newest stream of this boot; older ones may not claim.';
COMMENT ON COLUMN scheduler.executors.ended_at IS 'Final: this boot never gets work again.';
"""

FUNCTIONS = """
CREATE FUNCTION scheduler.event_data(
  task_id uuid, tenant_id uuid, seq integer, from_state text, to_state text, at timestamptz,
  mode text, step_index integer, tool text, status text, step_hash text, failure_code text,
  task_hash text
) RETURNS text LANGUAGE sql STABLE AS $body$
  SELECT '{"task_id":"' || $1::text || '","tenant_id":"' || $2::text || '","seq":' || $3::text
    || coalesce(',"from_state":"' || $4 || '"', '') || ',"to_state":"' || $5
    || '","at":"' || to_char($6 AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    || '","mode":"' || $7 || '"'
    || coalesce(',"step_index":' || $8::text, '') || coalesce(',"tool":"' || $9 || '"', '')
    || coalesce(',"status":"' || $10 || '"', '') || coalesce(',"step_hash":"' || $11 || '"', '')
    || coalesce(',"failure_code":"' || $12 || '"', '')
    || coalesce(',"task_hash":"' || $13 || '"', '') || '}'
$body$;

COMMENT ON FUNCTION scheduler.event_data IS
  'TaskEventData as JSON. Every text is hex, a known word or of [a-z0-9_]: nothing needs escaping.';

CREATE FUNCTION scheduler.task_hash(
  plan_hash text, step_hashes text[], state text, failure_code text
) RETURNS text LANGUAGE sql IMMUTABLE AS $body$
  SELECT encode(sha256(convert_to(
    'pawl:task:v1' || chr(10) || '{"failure_code":' || coalesce('"' || $4 || '"', 'null')
    || ',"plan_hash":"' || coalesce($1, '') || '","state":"' || $3 || '","step_hashes":['
    || coalesce('"' || nullif(array_to_string($2, '","'), '') || '"', '') || ']}', 'UTF8')), 'hex')
$body$;

COMMENT ON FUNCTION scheduler.task_hash IS
  'Equal to libs/core/hashing.task_hash: SHA-256 of the RFC 8785 form; no plan: plan hash "".';
"""

GUARDS = f"""
CREATE FUNCTION scheduler.refuse() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
  RAISE EXCEPTION 'refused by %: %', TG_NAME, TG_ARGV[0] USING ERRCODE = 'check_violation';
END
$body$;

CREATE TRIGGER tasks_begin BEFORE INSERT ON scheduler.tasks FOR EACH ROW
  WHEN (NEW.state NOT IN ('created','planned','queued'))
  EXECUTE FUNCTION scheduler.refuse('a task begins as created, planned or queued');

CREATE TRIGGER tasks_forward BEFORE UPDATE ON scheduler.tasks FOR EACH ROW
  WHEN (OLD.state IN ('succeeded','failed','cancelled')
    OR NEW.seq < OLD.seq OR NEW.changed_at < OLD.changed_at OR NEW.lease_token < OLD.lease_token
    OR NEW.steps_begun < OLD.steps_begun OR NEW.steps_closed < OLD.steps_closed
    OR (OLD.cancel_requested_at IS NOT NULL AND (NEW.cancel_requested_at IS NULL
      OR NEW.state = 'succeeded' OR NEW.steps_begun > OLD.steps_begun))
    OR (NEW.state <> OLD.state AND (NEW.seq = OLD.seq OR (OLD.state, NEW.state) NOT IN {EDGES})))
  EXECUTE FUNCTION scheduler.refuse('not an allowed change of a task');

CREATE TRIGGER tasks_fixed
  BEFORE UPDATE OF id, tenant_id, mode, input, created_at, replay_of_task_id
  ON scheduler.tasks FOR EACH ROW
  EXECUTE FUNCTION scheduler.refuse('this column never changes');

CREATE TRIGGER tasks_frozen
  BEFORE UPDATE OF plan, plan_hash, tool_set, tools, step_count, planned_by, max_total_seconds
  ON scheduler.tasks FOR EACH ROW WHEN (OLD.plan_hash IS NOT NULL)
  EXECUTE FUNCTION scheduler.refuse('the plan is frozen');

CREATE TRIGGER tasks_stay BEFORE DELETE ON scheduler.tasks FOR EACH ROW
  EXECUTE FUNCTION scheduler.refuse('a task is not deleted');
CREATE TRIGGER tasks_no_truncate BEFORE TRUNCATE ON scheduler.tasks FOR EACH STATEMENT
  EXECUTE FUNCTION scheduler.refuse('tasks are not deleted');

CREATE TRIGGER task_events_append BEFORE UPDATE OR DELETE ON scheduler.task_events FOR EACH ROW
  EXECUTE FUNCTION scheduler.refuse('events are append only');
CREATE TRIGGER task_events_no_truncate BEFORE TRUNCATE ON scheduler.task_events FOR EACH STATEMENT
  EXECUTE FUNCTION scheduler.refuse('events are append only');
CREATE TRIGGER steps_append BEFORE UPDATE OR DELETE ON scheduler.steps FOR EACH ROW
  EXECUTE FUNCTION scheduler.refuse('steps are append only');
CREATE TRIGGER steps_no_truncate BEFORE TRUNCATE ON scheduler.steps FOR EACH STATEMENT
  EXECUTE FUNCTION scheduler.refuse('steps are append only');

-- The two checks below run once per statement, after it: they see all its rows, those of its other
-- parts included. Correlated subqueries, not joins: an index probe per row whatever the statistics.
CREATE FUNCTION scheduler.check_events() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE bad record;
BEGIN
  SELECT n.task_id, n.seq INTO bad FROM new_rows n
   WHERE n.seq > 1 AND n.from_state IS DISTINCT FROM (SELECT p.to_state
       FROM scheduler.task_events p WHERE p.task_id = n.task_id AND p.seq = n.seq - 1)
      OR coalesce((SELECT t.seq < n.seq OR t.seq = n.seq AND t.state <> n.to_state
       FROM scheduler.tasks t WHERE t.id = n.task_id), true)
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'event % of task % does not continue its history', bad.seq, bad.task_id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END
$body$;

CREATE TRIGGER task_events_continue AFTER INSERT ON scheduler.task_events
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION scheduler.check_events();

CREATE FUNCTION scheduler.check_tasks() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE bad record;
BEGIN
  SELECT n.id INTO bad FROM new_rows n
   WHERE n.state IS DISTINCT FROM (
     SELECT e.to_state FROM scheduler.task_events e WHERE e.task_id = n.id AND e.seq = n.seq)
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'task % has no event for its state', bad.id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END
$body$;

CREATE TRIGGER tasks_have_events_i AFTER INSERT ON scheduler.tasks
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION scheduler.check_tasks();
CREATE TRIGGER tasks_have_events_u AFTER UPDATE ON scheduler.tasks
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION scheduler.check_tasks();

ALTER TABLE scheduler.tasks ENABLE ALWAYS TRIGGER tasks_begin;
ALTER TABLE scheduler.tasks ENABLE ALWAYS TRIGGER tasks_forward;
ALTER TABLE scheduler.tasks ENABLE ALWAYS TRIGGER tasks_fixed;
ALTER TABLE scheduler.tasks ENABLE ALWAYS TRIGGER tasks_frozen;
ALTER TABLE scheduler.tasks ENABLE ALWAYS TRIGGER tasks_stay;
ALTER TABLE scheduler.tasks ENABLE ALWAYS TRIGGER tasks_no_truncate;
ALTER TABLE scheduler.tasks ENABLE ALWAYS TRIGGER tasks_have_events_i;
ALTER TABLE scheduler.tasks ENABLE ALWAYS TRIGGER tasks_have_events_u;
ALTER TABLE scheduler.task_events ENABLE ALWAYS TRIGGER task_events_append;
ALTER TABLE scheduler.task_events ENABLE ALWAYS TRIGGER task_events_no_truncate;
ALTER TABLE scheduler.task_events ENABLE ALWAYS TRIGGER task_events_continue;
ALTER TABLE scheduler.steps ENABLE ALWAYS TRIGGER steps_append;
ALTER TABLE scheduler.steps ENABLE ALWAYS TRIGGER steps_no_truncate;
"""

GRANTS = """
GRANT USAGE ON SCHEMA scheduler TO pawl_scheduler;
GRANT SELECT, INSERT ON scheduler.tasks TO pawl_scheduler;
GRANT UPDATE (state, seq, changed_at, priority, rank, tools, boot_id, lease_token, step_count,
  steps_begun, steps_closed, step_started_at, queue_deadline_at, execution_started_at,
  max_total_seconds, deadline_at, cancel_requested_at, finished_at, cost_usd, failure_code,
  failure_message, failure_step, failure_step_index, failure_reason, plan_hash, task_hash,
  planned_by, planner_note, tool_set, plan) ON scheduler.tasks TO pawl_scheduler;
GRANT SELECT, INSERT ON scheduler.task_events, scheduler.steps TO pawl_scheduler;
GRANT SELECT, INSERT, DELETE ON scheduler.outbox TO pawl_scheduler;
GRANT SELECT, INSERT, UPDATE, DELETE ON scheduler.idempotency, scheduler.executors
  TO pawl_scheduler;
"""


def upgrade() -> None:
    for part in (TASKS, EVENTS, STEPS, REST, FUNCTIONS, GUARDS, GRANTS):
        op.execute(part)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only")
