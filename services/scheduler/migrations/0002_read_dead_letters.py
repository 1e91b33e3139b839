"""Where the scheduler stands in the dead letters whose events it publishes anew."""

from __future__ import annotations

from alembic import op

from libs.bus.consumer_tables import consumer_tables

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(consumer_tables("scheduler", "pawl_scheduler"))


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only")
