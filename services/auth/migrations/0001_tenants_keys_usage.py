"""Tenants, users, keys, the audit log and usage."""

from __future__ import annotations

from alembic import op

from libs.bus.consumer_tables import consumer_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in (TENANTS, USERS, API_KEYS, REVOCATION_GUARD, AUDIT_LOG, USAGE, GRANTS):
        op.execute(statement)
    op.execute(consumer_tables("auth", "pawl_auth"))


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward")


TENANTS = """
CREATE TABLE auth.tenants (
  id uuid CONSTRAINT tenants_pkey PRIMARY KEY,
  name text NOT NULL CONSTRAINT tenants_name_is_unique UNIQUE,
  tier text NOT NULL,
  created_at timestamptz NOT NULL,
  CONSTRAINT tenants_name_is_plain CHECK (name ~ '^[a-z][a-z0-9-]{0,63}$'),
  CONSTRAINT tenants_tier_is_known CHECK (tier IN ('free', 'starter', 'pro', 'enterprise'))
);
COMMENT ON TABLE auth.tenants IS 'The accounts that own tasks and keys';
"""

USERS = """
CREATE TABLE auth.users (
  number bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT users_pkey PRIMARY KEY,
  tenant_id uuid NOT NULL CONSTRAINT users_tenant_exists REFERENCES auth.tenants (id),
  email text NOT NULL,
  role text NOT NULL,
  created_at timestamptz NOT NULL,
  CONSTRAINT users_role_is_known CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
  CONSTRAINT users_number_belongs_to_tenant UNIQUE (tenant_id, number)
);
CREATE UNIQUE INDEX users_one_owner_per_tenant ON auth.users (tenant_id) WHERE role = 'owner';
COMMENT ON TABLE auth.users IS 'People; a key belongs to the one who made it';
"""

API_KEYS = """
CREATE TABLE auth.api_keys (
  id uuid CONSTRAINT api_keys_pkey PRIMARY KEY,
  tenant_id uuid NOT NULL CONSTRAINT api_keys_tenant_exists REFERENCES auth.tenants (id),
  user_number bigint NOT NULL,
  hash bytea NOT NULL CONSTRAINT api_keys_hash_is_unique UNIQUE,
  prefix text NOT NULL,
  mode text NOT NULL,
  last_four text NOT NULL,
  name text NOT NULL,
  scopes text[] NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz,
  revoked_at timestamptz,
  CONSTRAINT api_keys_user_is_of_tenant
    FOREIGN KEY (tenant_id, user_number) REFERENCES auth.users (tenant_id, number),
  CONSTRAINT api_keys_hash_is_sha256 CHECK (octet_length(hash) = 32),
  CONSTRAINT api_keys_prefix_is_known CHECK (prefix IN ('pawl', 'atx', 'ra')),
  CONSTRAINT api_keys_mode_is_known CHECK (mode IN ('live', 'test')),
  CONSTRAINT api_keys_last_four_are_four CHECK (last_four ~ '^[0-9A-Za-z]{4}$'),
  CONSTRAINT api_keys_name_is_short CHECK (char_length(name) <= 100),
  CONSTRAINT api_keys_scopes_are_known CHECK (
    cardinality(scopes) > 0
    AND scopes <@ ARRAY['tasks:read', 'tasks:write', 'keys:read', 'keys:write', 'operator']
  ),
  CONSTRAINT api_keys_operator_is_live CHECK (NOT 'operator' = ANY (scopes) OR mode = 'live'),
  CONSTRAINT api_keys_expire_after_birth CHECK (expires_at > created_at)
);
CREATE INDEX api_keys_of_tenant ON auth.api_keys (tenant_id, id);
COMMENT ON TABLE auth.api_keys IS 'Keys by the hash of their secret, which is not stored';
"""

REVOCATION_GUARD = """
CREATE FUNCTION auth.keep_revocation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at THEN
    RAISE EXCEPTION 'key % is revoked for good', OLD.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'api_keys_revoked_for_good';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER api_keys_revoked_for_good BEFORE UPDATE ON auth.api_keys
  FOR EACH ROW EXECUTE FUNCTION auth.keep_revocation();
ALTER TABLE auth.api_keys ENABLE ALWAYS TRIGGER api_keys_revoked_for_good;
"""

AUDIT_LOG = """
CREATE TABLE auth.audit_log (
  id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT audit_log_pkey PRIMARY KEY,
  tenant_id uuid NOT NULL,
  actor_key_id uuid,
  action text NOT NULL,
  subject text NOT NULL,
  at timestamptz NOT NULL,
  CONSTRAINT audit_log_action_is_known
    CHECK (action IN ('tenant.created', 'key.created', 'key.revoked'))
);
CREATE INDEX audit_log_of_tenant ON auth.audit_log (tenant_id, id);
COMMENT ON TABLE auth.audit_log IS 'Who changed what; rows are only ever added';
COMMENT ON COLUMN auth.audit_log.actor_key_id IS 'Null: the command line of the installation';
"""

USAGE = """
CREATE TABLE auth.usage_months (
  tenant_id uuid NOT NULL,
  month text NOT NULL,
  tasks bigint NOT NULL,
  steps bigint NOT NULL,
  CONSTRAINT usage_months_pkey PRIMARY KEY (tenant_id, month),
  CONSTRAINT usage_months_month_is_a_month CHECK (month ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CONSTRAINT usage_months_never_negative CHECK (tasks >= 0 AND steps >= 0)
);
COMMENT ON TABLE auth.usage_months IS 'What tenants used, by calendar month in UTC';
"""

# A service adds rows; of what stands it may change a month's sums and revoke a key, no more.
GRANTS = """
GRANT USAGE ON SCHEMA auth TO pawl_auth;
GRANT SELECT, INSERT ON auth.tenants, auth.users, auth.api_keys, auth.audit_log, auth.usage_months
  TO pawl_auth;
GRANT UPDATE (revoked_at) ON auth.api_keys TO pawl_auth;
GRANT UPDATE (tasks, steps) ON auth.usage_months TO pawl_auth;
"""
