"""Artifacts: stored once, never changed but for their one step out of staged."""

from __future__ import annotations

from alembic import op

from libs.bus.consumer_tables import consumer_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE artifact.artifacts (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL,
  task_id uuid NOT NULL,
  step_index integer NOT NULL,
  ordinal integer NOT NULL,
  type text NOT NULL,
  data text NOT NULL,
  sha256 text NOT NULL,
  size_bytes integer NOT NULL,
  state text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  settled_at timestamptz,
  CONSTRAINT artifacts_one_per_place UNIQUE (task_id, step_index, ordinal),
  CONSTRAINT artifacts_step_from_one CHECK (step_index >= 1),
  CONSTRAINT artifacts_ordinal_not_negative CHECK (ordinal >= 0),
  CONSTRAINT artifacts_type_bounded CHECK (char_length(type) BETWEEN 1 AND 128),
  CONSTRAINT artifacts_size_bounded CHECK (size_bytes BETWEEN 1 AND 1048576),
  CONSTRAINT artifacts_state_known CHECK (state IN ('staged', 'available', 'discarded')),
  CONSTRAINT artifacts_settled_at_iff_settled CHECK ((settled_at IS NULL) = (state = 'staged'))
);

COMMENT ON TABLE artifact.artifacts IS 'Typed immutable outputs of steps.';
COMMENT ON COLUMN artifact.artifacts.data IS 'Canonical JSON text (RFC 8785).';
COMMENT ON COLUMN artifact.artifacts.sha256 IS 'Hex, of the UTF-8 bytes of data.';
"""

GUARD = """
CREATE FUNCTION artifact.refuse() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
  RAISE EXCEPTION 'artifact.artifacts: %', TG_ARGV[0]
    USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
END
$body$;

-- The content is checked once, here: a constraint would hash it again with every change of state.
CREATE TRIGGER artifacts_stored_whole BEFORE INSERT ON artifact.artifacts FOR EACH ROW
  WHEN (NEW.state <> 'staged' OR NEW.size_bytes <> octet_length(NEW.data)
        OR NEW.sha256 <> encode(sha256(convert_to(NEW.data, 'UTF8')), 'hex'))
  EXECUTE FUNCTION artifact.refuse('it begins as staged, with the size and SHA-256 of its data');
CREATE TRIGGER artifacts_immutable BEFORE UPDATE OF
  id, tenant_id, task_id, step_index, ordinal, type, data, sha256, size_bytes, created_at
  ON artifact.artifacts FOR EACH ROW EXECUTE FUNCTION artifact.refuse('only the state may change');
CREATE TRIGGER artifacts_settled_once BEFORE UPDATE ON artifact.artifacts FOR EACH ROW
  WHEN (OLD.state <> 'staged' OR NEW.state NOT IN ('available', 'discarded'))
  EXECUTE FUNCTION artifact.refuse('staged becomes available or discarded, once');
CREATE TRIGGER artifacts_kept BEFORE DELETE ON artifact.artifacts FOR EACH ROW
  EXECUTE FUNCTION artifact.refuse('nothing is deleted');
CREATE TRIGGER artifacts_kept_all BEFORE TRUNCATE ON artifact.artifacts FOR EACH STATEMENT
  EXECUTE FUNCTION artifact.refuse('nothing is deleted');

ALTER TABLE artifact.artifacts ENABLE ALWAYS TRIGGER artifacts_stored_whole;
ALTER TABLE artifact.artifacts ENABLE ALWAYS TRIGGER artifacts_immutable;
ALTER TABLE artifact.artifacts ENABLE ALWAYS TRIGGER artifacts_settled_once;
ALTER TABLE artifact.artifacts ENABLE ALWAYS TRIGGER artifacts_kept;
ALTER TABLE artifact.artifacts ENABLE ALWAYS TRIGGER artifacts_kept_all;
"""

GRANTS = """
GRANT USAGE ON SCHEMA artifact TO pawl_artifact;
GRANT SELECT, INSERT ON artifact.artifacts TO pawl_artifact;
GRANT UPDATE (state, settled_at) ON artifact.artifacts TO pawl_artifact;
"""


def upgrade() -> None:
    for part in (TABLE, GUARD, GRANTS, consumer_tables("artifact", "pawl_artifact")):
        op.execute(part)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only")
