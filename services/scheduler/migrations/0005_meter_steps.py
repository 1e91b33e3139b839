"""Time in a sandbox of each step, and what a step used in the data of its event."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE scheduler.steps
  ADD COLUMN sandbox_ms bigint NOT NULL DEFAULT 0,
  ADD CONSTRAINT steps_sandbox_ms_not_negative CHECK (sandbox_ms >= 0);

COMMENT ON COLUMN scheduler.steps.cost_usd IS
  'What it cost by the executor''s price table, with what its tool counted.';
COMMENT ON COLUMN scheduler.steps.sandbox_ms IS 'Milliseconds that its code ran in a sandbox.';
"""

# As in 0001, and what was used, each left out when there is nothing of it. A second function: older
# schedulers call the first until they are replaced, and events of another kind have nothing to add.
EVENT_DATA = """
CREATE FUNCTION scheduler.event_data(
  task_id uuid, tenant_id uuid, seq integer, from_state text, to_state text, at timestamptz,
  mode text, step_index integer, tool text, status text, step_hash text, failure_code text,
  task_hash text, tokens bigint, sandbox_ms bigint, cost_usd numeric
) RETURNS text LANGUAGE sql STABLE AS $body$
  SELECT '{"task_id":"' || $1::text || '","tenant_id":"' || $2::text || '","seq":' || $3::text
    || coalesce(',"from_state":"' || $4 || '"', '') || ',"to_state":"' || $5
    || '","at":"' || to_char($6 AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    || '","mode":"' || $7 || '"'
    || coalesce(',"step_index":' || $8::text, '') || coalesce(',"tool":"' || $9 || '"', '')
    || coalesce(',"status":"' || $10 || '"', '') || coalesce(',"step_hash":"' || $11 || '"', '')
    || coalesce(',"failure_code":"' || $12 || '"', '')
    || coalesce(',"task_hash":"' || $13 || '"', '')
    || coalesce(',"tokens":' || nullif($14, 0)::text, '')
    || coalesce(',"sandbox_ms":' || nullif($15, 0)::text, '')
    || coalesce(',"cost_usd":' || nullif($16, 0)::text, '') || '}'
$body$;

COMMENT ON FUNCTION scheduler.event_data(uuid, uuid, integer, text, text, timestamptz, text,
  integer, text, text, text, text, text, bigint, bigint, numeric) IS
  'TaskEventData as JSON, with what was used; otherwise as its shorter namesake.';
"""


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(EVENT_DATA)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only")
