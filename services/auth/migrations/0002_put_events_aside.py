"""What was put aside as a dead letter, so that it can be handled when it comes again."""

from __future__ import annotations

from alembic import op

from libs.bus.consumer_tables import aside_table

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(aside_table("auth", "pawl_auth"))


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only")
