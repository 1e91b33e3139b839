"""The feed: in which order events were published to a bus that is not this database."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FEED = """
CREATE TABLE bus.feed (
  last_position bigint PRIMARY KEY,
  task_id uuid NOT NULL,
  first_seq integer NOT NULL,
  last_seq integer NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT feed_range CHECK (first_seq > 0 AND first_seq <= last_seq),
  CONSTRAINT feed_positions_positive CHECK (last_position > last_seq - first_seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.2);

COMMENT ON TABLE bus.feed IS
  'Events as published to Kafka: a run of one task, and at which position its last one stands.';
"""

GRANTS = """
GRANT SELECT, INSERT, DELETE ON bus.feed TO pawl_scheduler;
"""


def upgrade() -> None:
    for part in (FEED, GRANTS):
        op.execute(part)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only")
