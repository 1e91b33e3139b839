"""Topics and records of the postgres driver, dead letters, and the state of a task by its log."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE bus.topics (
  topic text PRIMARY KEY,
  last_position bigint NOT NULL DEFAULT 0,
  CONSTRAINT topics_position_not_negative CHECK (last_position >= 0)
) WITH (fillfactor = 50);

INSERT INTO bus.topics (topic) VALUES
  ('pawl.task.events.v1'), ('pawl.artifact.events.v1'), ('pawl.dead-letters.v1');

CREATE TABLE bus.records (
  topic text NOT NULL,
  position bigint NOT NULL,
  key text NOT NULL,
  headers text NOT NULL,
  value text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (topic, position),
  CONSTRAINT records_position_positive CHECK (position > 0)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.2);

COMMENT ON TABLE bus.topics IS 'The streams, each with the position of its newest record.';
COMMENT ON TABLE bus.records IS 'What was published. Positions are gapless from 1.';
"""

DEAD_LETTER = """
CREATE FUNCTION bus.dead_letter(letter_key text, letter_headers text, letter_value text)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $body$
DECLARE
  placed bigint;
BEGIN
  UPDATE bus.topics SET last_position = last_position + 1 WHERE topic = 'pawl.dead-letters.v1'
    RETURNING last_position INTO STRICT placed;
  INSERT INTO bus.records (topic, position, key, headers, value)
    VALUES ('pawl.dead-letters.v1', placed, letter_key, letter_headers, letter_value);
  RETURN placed;
END
$body$;

COMMENT ON FUNCTION bus.dead_letter IS
  'Appends to pawl.dead-letters.v1: the only record that a consumer role may write.';
"""

# The body names the scheduler's event log, which is created after this migration: plpgsql looks it
# up when the function is called.
TASK_STATE = """
CREATE FUNCTION bus.task_state(of_task uuid) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $body$
BEGIN
  RETURN (SELECT e.to_state FROM scheduler.task_events e WHERE e.task_id = of_task
          ORDER BY e.seq DESC LIMIT 1);
END
$body$;

COMMENT ON FUNCTION bus.task_state IS
  'The state in the newest committed event of a task, published or not; null: no event.';
"""

GRANTS = """
GRANT USAGE ON SCHEMA bus TO pawl_auth, pawl_planner, pawl_scheduler, pawl_artifact;
GRANT SELECT ON bus.topics, bus.records TO pawl_auth, pawl_planner, pawl_scheduler, pawl_artifact;
GRANT UPDATE (last_position) ON bus.topics TO pawl_scheduler, pawl_artifact;
GRANT INSERT, DELETE ON bus.records TO pawl_scheduler, pawl_artifact;
REVOKE EXECUTE ON FUNCTION bus.dead_letter, bus.task_state FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bus.dead_letter TO pawl_auth, pawl_planner, pawl_scheduler, pawl_artifact;
GRANT EXECUTE ON FUNCTION bus.task_state TO pawl_artifact;
"""


def upgrade() -> None:
    for part in (TABLES, DEAD_LETTER, TASK_STATE, GRANTS):
        op.execute(part)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only")
