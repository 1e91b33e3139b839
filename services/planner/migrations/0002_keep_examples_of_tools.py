"""Tools have examples. They are no part of the digest, so a tool stored without may get some."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in (EXAMPLES, GUARD, GRANTS):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")


EXAMPLES = """
ALTER TABLE planner.tools
  ADD COLUMN examples text NOT NULL DEFAULT '[]',
  ADD CONSTRAINT tools_examples_are_bounded CHECK (octet_length(examples) BETWEEN 2 AND 32768);
COMMENT ON COLUMN planner.tools.examples IS
  'List of {title, input, output | failure_code} as canonical JSON text; filled once';
COMMENT ON TABLE planner.tools IS
  'Every exact tool ever registered; rows never change, except that examples are filled once';
"""

GUARD = """
CREATE FUNCTION planner.keep_examples() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the tool % has examples already', OLD.name
    USING ERRCODE = '23514', CONSTRAINT = 'tools_examples_are_filled_once';
END $$;
CREATE TRIGGER tools_examples_are_filled_once
  BEFORE UPDATE OF examples ON planner.tools
  FOR EACH ROW WHEN (OLD.examples <> '[]') EXECUTE FUNCTION planner.keep_examples();
ALTER TABLE planner.tools ENABLE ALWAYS TRIGGER tools_examples_are_filled_once;
"""

GRANTS = "GRANT UPDATE (examples) ON planner.tools TO pawl_planner"
