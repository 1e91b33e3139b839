"""Tasks that are submitted together, and lists of tasks."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BATCHES = """
ALTER TABLE scheduler.idempotency
  ADD COLUMN batch uuid[],
  ADD CONSTRAINT idempotency_batch_begins_with_its_task CHECK (batch IS NULL OR batch[1] = task_id);

COMMENT ON TABLE scheduler.idempotency IS
  'One key of a tenant names one task, or the tasks of one batch, for 24 hours.';
COMMENT ON COLUMN scheduler.idempotency.batch IS
  'The tasks of the batch in order. Null: the key names a single task.';
"""

# By state and mode, so that the newest of any of them are found without passing the others by:
# a list merges the heads of those that it wants.
LISTS = """
CREATE INDEX tasks_listed ON scheduler.tasks (tenant_id, state, mode, created_at, id);
CREATE INDEX tasks_listed_agent
  ON scheduler.tasks (tenant_id, agent_id, state, mode, created_at, id) WHERE agent_id IS NOT NULL;
CREATE INDEX tasks_listed_replays
  ON scheduler.tasks (tenant_id, replay_of_task_id, state, mode, created_at, id)
  WHERE replay_of_task_id IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(BATCHES)
    op.execute(LISTS)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only")
