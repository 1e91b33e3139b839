"""A claimed task begins when its claim has had its turn, not when the claim began to wait for it.

Else tasks seem to run beside those whose ends made room for them.
"""

from __future__ import annotations

import importlib

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BEGAN, HAS_ITS_TURN = "greatest(now(), t.changed_at)", "greatest(clock_timestamp(), t.changed_at)"
CLAIM: str = importlib.import_module("services.scheduler.migrations.0004_replay_tasks").CLAIM


def upgrade() -> None:
    before, found, after = CLAIM.partition(BEGAN)
    if not found or BEGAN in after:
        raise ValueError("0004 is not the migration that this one builds on")
    op.execute(before + HAS_ITS_TURN + after)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only")
