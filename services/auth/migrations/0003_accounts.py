"""Keys that are rotated and bound to agents and definitions, people, permits, use by the day."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in (KEYS, USERS, SCOPES, AUDIT, GUARDS, PERMITS, TAKE_PERMITS, USAGE, GRANTS):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only")


KEYS = """
ALTER TABLE auth.api_keys
  ADD COLUMN allowed_agent_ids uuid[],
  ADD COLUMN allowed_task_ids uuid[],
  ADD COLUMN last_used_at timestamptz,
  ADD COLUMN replaced_by_id uuid
    CONSTRAINT api_keys_replacement_exists REFERENCES auth.api_keys (id),
  ADD CONSTRAINT api_keys_allow_lists_are_short CHECK (
    coalesce(cardinality(allowed_agent_ids), 0) <= 100
    AND coalesce(cardinality(allowed_task_ids), 0) <= 100),
  -- A rotated key ends with the overlap, which may be none.
  DROP CONSTRAINT api_keys_expire_after_birth,
  ADD CONSTRAINT api_keys_expire_after_birth CHECK (expires_at >= created_at);
COMMENT ON COLUMN auth.api_keys.allowed_agent_ids IS 'Null: every agent';
COMMENT ON COLUMN auth.api_keys.allowed_task_ids IS 'Null: every definition';
COMMENT ON COLUMN auth.api_keys.last_used_at IS 'To about a minute';
COMMENT ON COLUMN auth.api_keys.replaced_by_id IS 'The key that took its place when it was rotated';
"""

USERS = """
ALTER TABLE auth.users ADD COLUMN removed_at timestamptz;
CREATE UNIQUE INDEX users_email_once_per_tenant ON auth.users (tenant_id, lower(email))
  WHERE removed_at IS NULL;
-- Judged at the end of the transaction: an owner who hands over is for a moment not the only one.
DROP INDEX auth.users_one_owner_per_tenant;
ALTER TABLE auth.users ADD CONSTRAINT users_one_owner_per_tenant
  EXCLUDE USING btree (tenant_id WITH =) WHERE (role = 'owner' AND removed_at IS NULL)
  DEFERRABLE INITIALLY IMMEDIATE;
COMMENT ON COLUMN auth.users.removed_at IS 'Null: not removed; the number is never given again';
"""

# What is new is given to the keys that could do everything before.
SCOPES = """
ALTER TABLE auth.api_keys DROP CONSTRAINT api_keys_scopes_are_known;
ALTER TABLE auth.api_keys ADD CONSTRAINT api_keys_scopes_are_known CHECK (
  cardinality(scopes) > 0
  AND scopes <@ ARRAY['tasks:read', 'tasks:write', 'keys:read', 'keys:write', 'users:read',
    'users:write', 'audit:read', 'operator']);
UPDATE auth.api_keys
SET scopes = ARRAY['tasks:read', 'tasks:write', 'keys:read', 'keys:write', 'users:read',
  'users:write', 'audit:read', 'operator']
WHERE 'operator' = ANY (scopes);
"""

AUDIT = """
ALTER TABLE auth.audit_log
  ADD COLUMN actor_user_number bigint,
  ADD COLUMN details text NOT NULL DEFAULT '{}',
  DROP CONSTRAINT audit_log_action_is_known,
  ADD CONSTRAINT audit_log_action_is_known CHECK (action IN (
    'tenant.created', 'tenant.tier_changed', 'key.created', 'key.rotated', 'key.revoked',
    'user.created', 'user.role_changed', 'user.removed'));
COMMENT ON COLUMN auth.audit_log.details IS
  'A flat JSON object: what it was and what it is now; no secrets';
"""

# Whoever may change a key's end or a person's role can still not undo an end, nor touch what was
# noted.
GUARDS = """
CREATE FUNCTION auth.keep_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.expires_at IS DISTINCT FROM OLD.expires_at
    AND coalesce(NEW.expires_at, 'infinity') > coalesce(OLD.expires_at, 'infinity') THEN
    RAISE EXCEPTION 'key % does not end later than it was to end', OLD.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'api_keys_never_end_later';
  END IF;
  IF OLD.replaced_by_id IS NOT NULL AND NEW.replaced_by_id IS DISTINCT FROM OLD.replaced_by_id THEN
    RAISE EXCEPTION 'key % is replaced once', OLD.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'api_keys_are_replaced_once';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER api_keys_never_end_later
  BEFORE UPDATE OF expires_at, replaced_by_id ON auth.api_keys
  FOR EACH ROW EXECUTE FUNCTION auth.keep_end();
ALTER TABLE auth.api_keys ENABLE ALWAYS TRIGGER api_keys_never_end_later;

CREATE FUNCTION auth.keep_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.removed_at IS NOT NULL THEN
    RAISE EXCEPTION 'user % is removed for good', OLD.number
      USING ERRCODE = 'check_violation', CONSTRAINT = 'users_removed_for_good';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER users_removed_for_good BEFORE UPDATE ON auth.users
  FOR EACH ROW EXECUTE FUNCTION auth.keep_removal();
ALTER TABLE auth.users ENABLE ALWAYS TRIGGER users_removed_for_good;

CREATE FUNCTION auth.keep_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'lines of the audit log are only ever added'
    USING ERRCODE = 'check_violation', CONSTRAINT = 'audit_log_only_grows';
END
$$;
CREATE TRIGGER audit_log_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON auth.audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION auth.keep_audit_log();
ALTER TABLE auth.audit_log ENABLE ALWAYS TRIGGER audit_log_only_grows;
"""

# A crash of the database empties it: then every tenant begins with a whole minute, and nothing is
# lost that was acknowledged.
PERMITS = """
CREATE UNLOGGED TABLE auth.rates (
  tenant_id uuid CONSTRAINT rates_pkey PRIMARY KEY,
  full_at timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE auth.rates IS
  'When the allowance of requests per minute of a tenant will be whole again (GCRA)';

-- Beside usage_days, whose rows the consumer of task events holds while it commits.
CREATE TABLE auth.request_days (
  tenant_id uuid NOT NULL,
  day date NOT NULL,
  requests bigint NOT NULL,
  CONSTRAINT request_days_pkey PRIMARY KEY (tenant_id, day),
  CONSTRAINT request_days_never_negative CHECK (requests >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE auth.request_days IS 'Requests of live keys that were granted, by day in UTC';
"""

# The generic cell rate algorithm, after ATM Forum, Traffic Management 4.1, section 4.4.2: one
# instant stands for the whole past. A tenant may send a minute's requests at once, and one more
# each 60/rate seconds.
#
# A tenant with a limit is locked by its row in rates, also for its month; every statement after
# that sees what was committed before. The commit is not waited for: a crash of the database forgets
# the counts of about half a second, in the tenant's favour, as it forgets all of rates.
TAKE_PERMITS = """
CREATE FUNCTION auth.take_permits(
  tenant uuid, wanted integer, returned integer,
  per_minute integer, per_month bigint, is_metered boolean
) RETURNS TABLE (
  granted integer, minute_left bigint, minute_reset double precision, minute_retry double precision,
  month_left bigint, month_reset double precision
) LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
  is_alone CONSTANT boolean :=
    per_minute IS NOT NULL OR (is_metered AND (per_month IS NOT NULL OR returned > 0));
  now_at timestamptz;
  today date;
  month_start timestamp;
  full_then timestamptz;
  used bigint;
  lacking bigint;
BEGIN
  granted := wanted;
  IF is_alone THEN
    SELECT r.full_at INTO full_then FROM auth.rates r
    WHERE r.tenant_id = tenant FOR NO KEY UPDATE;
    IF NOT FOUND THEN
      INSERT INTO auth.rates (tenant_id, full_at) VALUES (tenant, '-infinity')
      ON CONFLICT DO NOTHING;
      SELECT r.full_at INTO full_then FROM auth.rates r
      WHERE r.tenant_id = tenant FOR NO KEY UPDATE;
    END IF;
  END IF;
  now_at := clock_timestamp();
  today := CAST(now_at AT TIME ZONE 'UTC' AS date);
  IF per_minute IS NOT NULL THEN
    full_then := greatest(full_then - make_interval(secs => 60.0 * returned / per_minute), now_at);
    -- A clock that was set back does not make anybody wait longer than a minute.
    full_then := least(full_then, now_at + interval '60 s');
    -- The small part forgives what rounding to microseconds has cost.
    granted := least(granted, floor(
      extract(epoch FROM interval '60 s' - (full_then - now_at)) * per_minute / 60.0 + 0.0001));
  END IF;
  IF is_metered AND per_month IS NOT NULL THEN
    month_start := date_trunc('month', CAST(today AS timestamp));
    SELECT greatest(0, coalesce(sum(d.requests), 0) - returned) INTO used
    FROM auth.request_days d
    WHERE d.tenant_id = tenant AND d.day BETWEEN CAST(month_start AS date) AND today;
    granted := greatest(0, least(granted, per_month - used));
    month_left := greatest(0, per_month - used - granted);
    month_reset := extract(epoch FROM
      (month_start + interval '1 month') AT TIME ZONE 'UTC' - now_at);
  END IF;
  IF is_metered AND granted < returned THEN
    SELECT returned - granted - coalesce(max(d.requests), 0) INTO lacking
    FROM auth.request_days d WHERE d.tenant_id = tenant AND d.day = today;
    -- What today does not have was taken before midnight.
    IF lacking > 0 THEN
      UPDATE auth.request_days d SET requests = greatest(0, d.requests - lacking)
      WHERE d.tenant_id = tenant AND d.day = today - 1;
    END IF;
  END IF;
  IF is_metered AND granted <> returned THEN
    INSERT INTO auth.request_days AS d (tenant_id, day, requests)
    VALUES (tenant, today, greatest(0, granted - returned))
    ON CONFLICT (tenant_id, day)
    DO UPDATE SET requests = greatest(0, d.requests + granted - returned);
  END IF;
  IF per_minute IS NOT NULL THEN
    IF granted > 0 OR returned > 0 THEN
      full_then := full_then + make_interval(secs => 60.0 * granted / per_minute);
      UPDATE auth.rates r SET full_at = full_then WHERE r.tenant_id = tenant;
    END IF;
    minute_reset := extract(epoch FROM full_then - now_at);
    minute_left := greatest(0, floor((60.0 - minute_reset) * per_minute / 60.0 + 0.0001));
    minute_retry := greatest(0, minute_reset - 60.0 + 60.0 / per_minute);
  END IF;
  PERFORM set_config('synchronous_commit', 'off', true);
  RETURN NEXT;
END
$body$;
COMMENT ON FUNCTION auth.take_permits IS
  'Debits requests from a tenant''s minute and month; limits are null for none; seconds';
"""

USAGE = """
CREATE TABLE auth.usage_days (
  tenant_id uuid NOT NULL,
  day date NOT NULL,
  tasks bigint NOT NULL DEFAULT 0,
  steps bigint NOT NULL DEFAULT 0,
  sandbox_ms bigint NOT NULL DEFAULT 0,
  tokens bigint NOT NULL DEFAULT 0,
  cost_usd numeric NOT NULL DEFAULT 0,
  CONSTRAINT usage_days_pkey PRIMARY KEY (tenant_id, day),
  CONSTRAINT usage_days_never_negative CHECK (
    tasks >= 0 AND steps >= 0 AND sandbox_ms >= 0 AND tokens >= 0 AND cost_usd >= 0)
) WITH (fillfactor = 70);
COMMENT ON TABLE auth.usage_days IS 'What tenants used, by day in UTC; live keys only';
-- What was counted by the month stands at the month's first day.
INSERT INTO auth.usage_days (tenant_id, day, tasks, steps)
SELECT tenant_id, CAST(month || '-01' AS date), tasks, steps FROM auth.usage_months;
"""

# A service adds rows; of what stands it may change sums, and what people and keys may do, no more.
GRANTS = """
GRANT SELECT, INSERT ON auth.usage_days, auth.request_days, auth.rates TO pawl_auth;
GRANT UPDATE (tasks, steps, sandbox_ms, tokens, cost_usd) ON auth.usage_days TO pawl_auth;
GRANT UPDATE (requests) ON auth.request_days TO pawl_auth;
GRANT UPDATE (full_at) ON auth.rates TO pawl_auth;
GRANT UPDATE (expires_at, last_used_at, replaced_by_id) ON auth.api_keys TO pawl_auth;
GRANT UPDATE (tier) ON auth.tenants TO pawl_auth;
GRANT UPDATE (role, removed_at) ON auth.users TO pawl_auth;
"""
