"""The catalogue of tools and who offers them."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in (TOOLS, REGISTRATIONS, GRANTS):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")


TOOLS = """
CREATE TABLE planner.tools (
  digest text CONSTRAINT tools_pkey PRIMARY KEY,
  name text NOT NULL,
  version text NOT NULL,
  description text NOT NULL,
  input_schema text NOT NULL,
  output_schema text NOT NULL,
  effects text[] NOT NULL,
  registered_at timestamptz NOT NULL,
  CONSTRAINT tools_digest_is_sha256 CHECK (digest ~ '^[0-9a-f]{64}$'),
  CONSTRAINT tools_name_is_plain CHECK (name ~ '^[a-z0-9_]{1,64}$'),
  CONSTRAINT tools_version_is_plain CHECK (version ~ '^[0-9A-Za-z.+_-]{1,64}$'),
  CONSTRAINT tools_description_is_short CHECK (char_length(description) BETWEEN 1 AND 1000),
  CONSTRAINT tools_effects_are_known CHECK (
    cardinality(effects) > 0
    AND effects <@ ARRAY['pure', 'network', 'sandbox', 'model', 'artifact']
  )
);
COMMENT ON TABLE planner.tools IS 'Every exact tool ever registered; rows never change';
COMMENT ON COLUMN planner.tools.input_schema IS 'JSON Schema as canonical JSON text';
COMMENT ON COLUMN planner.tools.output_schema IS 'JSON Schema as canonical JSON text';
"""

REGISTRATIONS = """
CREATE TABLE planner.registrations (
  executor_id text NOT NULL,
  boot_id uuid NOT NULL,
  digest text NOT NULL CONSTRAINT registrations_tool_exists REFERENCES planner.tools (digest),
  expires_at timestamptz NOT NULL,
  CONSTRAINT registrations_pkey PRIMARY KEY (executor_id, boot_id, digest),
  CONSTRAINT registrations_executor_is_named CHECK (char_length(executor_id) BETWEEN 1 AND 128)
);
CREATE INDEX registrations_of_tool ON planner.registrations (digest, expires_at);
COMMENT ON TABLE planner.registrations IS 'Which executors offer which tools, and until when';
"""

# A tool is added once and stays as it is: the service may neither change nor delete it.
GRANTS = """
GRANT USAGE ON SCHEMA planner TO pawl_planner;
GRANT SELECT, INSERT ON planner.tools TO pawl_planner;
GRANT SELECT, INSERT, DELETE ON planner.registrations TO pawl_planner;
GRANT UPDATE (expires_at) ON planner.registrations TO pawl_planner;
"""
