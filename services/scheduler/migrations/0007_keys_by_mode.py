"""An idempotency key names one task of a tenant's live keys, and another one of its test keys."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEYS_BY_MODE = """
DELETE FROM scheduler.idempotency WHERE created_at < now() - interval '24 hours';
ALTER TABLE scheduler.idempotency ADD COLUMN mode text;
UPDATE scheduler.idempotency i SET mode = t.mode FROM scheduler.tasks t WHERE t.id = i.task_id;
ALTER TABLE scheduler.idempotency
  ALTER COLUMN mode SET NOT NULL,
  ADD CONSTRAINT idempotency_mode_known CHECK (mode IN ('live','test')),
  DROP CONSTRAINT idempotency_pkey,
  ADD CONSTRAINT idempotency_pkey PRIMARY KEY (tenant_id, mode, key);

COMMENT ON TABLE scheduler.idempotency IS
  'One key of a tenant and a mode names one task, or the tasks of one batch, for 24 hours.';
"""


def upgrade() -> None:
    op.execute(KEYS_BY_MODE)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only")
