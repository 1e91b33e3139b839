"""Large data lies in the blob store; its row has the key in place of the data."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMN = """
ALTER TABLE artifact.artifacts
  ALTER COLUMN data DROP NOT NULL,
  ADD COLUMN blob_key text,
  ADD CONSTRAINT artifacts_data_or_blob CHECK ((data IS NULL) = (blob_key IS NOT NULL)),
  -- The row of one tenant cannot name the blob of another, nor one of other content.
  ADD CONSTRAINT artifacts_blob_of_tenant_and_content CHECK (
    blob_key IS NULL OR sha256 ~ '^[0-9a-f]{64}$'
    AND blob_key = CAST(tenant_id AS text) || '/sha256/' || left(sha256, 2) || '/' || sha256);

COMMENT ON COLUMN artifact.artifacts.data IS 'Canonical JSON text (RFC 8785); null: in the blob.';
COMMENT ON COLUMN artifact.artifacts.blob_key IS 'Where the blob store has the data; else null.';
COMMENT ON COLUMN artifact.artifacts.sha256 IS 'Hex, of the UTF-8 bytes of the data.';
"""

# What lies elsewhere cannot be hashed here: the service stores and checks it before the row.
GUARD = """
DROP TRIGGER artifacts_stored_whole ON artifact.artifacts;
CREATE TRIGGER artifacts_stored_whole BEFORE INSERT ON artifact.artifacts FOR EACH ROW
  WHEN (NEW.state <> 'staged'
        OR NEW.data IS NOT NULL
           AND (NEW.size_bytes <> octet_length(NEW.data)
                OR NEW.sha256 <> encode(sha256(convert_to(NEW.data, 'UTF8')), 'hex')))
  EXECUTE FUNCTION artifact.refuse('it begins as staged, with the size and SHA-256 of its data');
DROP TRIGGER artifacts_immutable ON artifact.artifacts;
CREATE TRIGGER artifacts_immutable BEFORE UPDATE OF
  id, tenant_id, task_id, step_index, ordinal, type, data, blob_key, sha256, size_bytes, created_at
  ON artifact.artifacts FOR EACH ROW EXECUTE FUNCTION artifact.refuse('only the state may change');

ALTER TABLE artifact.artifacts ENABLE ALWAYS TRIGGER artifacts_stored_whole;
ALTER TABLE artifact.artifacts ENABLE ALWAYS TRIGGER artifacts_immutable;
"""


def upgrade() -> None:
    for part in (COLUMN, GUARD):
        op.execute(part)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only")
