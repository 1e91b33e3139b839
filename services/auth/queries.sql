-- read_holder --
-- Whose key has this hash: one read by the unique index on the hash, then by primary keys.
-- system
-- Subqueries, because a plan of joins, made while the tables are small and then kept, may begin with
-- all tenants.
SELECT
  k.id, k.tenant_id, k.name, k.prefix, k.mode, k.last_four, k.scopes,
  k.created_at, k.expires_at, k.revoked_at,
  (SELECT t.tier FROM auth.tenants AS t WHERE t.id = k.tenant_id) AS tier,
  (SELECT u.role FROM auth.users AS u
   WHERE u.tenant_id = k.tenant_id AND u.number = k.user_number) AS role
FROM auth.api_keys AS k
WHERE k.hash = :hash;

-- lock_actor --
-- The acting key, if it is still good, held against a revocation until the transaction ends.
SELECT k.id, k.user_number
FROM auth.api_keys AS k
WHERE k.id = :key_id AND k.tenant_id = :tenant_id
  AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > :now)
FOR SHARE;

-- insert_tenant --
-- A new tenant; no row when the name is taken.
-- system
INSERT INTO auth.tenants (id, name, tier, created_at)
VALUES (:id, :name, :tier, :now)
ON CONFLICT (name) DO NOTHING
RETURNING id, name, tier, created_at;

-- insert_owner --
-- The user who owns a new tenant.
INSERT INTO auth.users (tenant_id, email, role, created_at)
VALUES (:tenant_id, :email, 'owner', :now);

-- tenant_by_id --
-- One tenant by its id.
-- system
SELECT id, name, tier, created_at FROM auth.tenants WHERE id = :id;

-- tenant_by_name --
-- One tenant by its name.
-- system
SELECT id, name, tier, created_at FROM auth.tenants WHERE name = :name;

-- list_tenants --
-- Tenants by name, from after a name.
-- system
SELECT id, name, tier, created_at
FROM auth.tenants
WHERE name > :after
ORDER BY name
LIMIT :count;

-- insert_key --
-- A new key of the acting user when that user is the tenant's, else of the tenant's owner.
INSERT INTO auth.api_keys
  (id, tenant_id, user_number, hash, prefix, mode, last_four, name, scopes, created_at, expires_at)
SELECT
  CAST(:id AS uuid), u.tenant_id, u.number, CAST(:hash AS bytea), :prefix, :mode, :last_four, :name,
  CAST(:scopes AS text[]), CAST(:now AS timestamptz), CAST(:expires_at AS timestamptz)
FROM auth.users AS u
WHERE u.tenant_id = :tenant_id
  AND (u.number = CAST(:user_number AS bigint) OR u.role = 'owner')
ORDER BY u.number = CAST(:user_number AS bigint) DESC NULLS LAST
LIMIT 1
RETURNING id, tenant_id, name, prefix, mode, last_four, scopes, created_at, expires_at, revoked_at;

-- list_keys --
-- A tenant's keys, newest first, from before an id; ids begin with the time at which they were made.
SELECT id, tenant_id, name, prefix, mode, last_four, scopes, created_at, expires_at, revoked_at
FROM auth.api_keys
WHERE tenant_id = :tenant_id AND id < :before
ORDER BY id DESC
LIMIT :count;

-- read_key --
-- One key of a tenant.
SELECT id, tenant_id, name, prefix, mode, last_four, scopes, created_at, expires_at, revoked_at
FROM auth.api_keys
WHERE id = :id AND tenant_id = :tenant_id;

-- read_any_key --
-- One key of whichever tenant, for the operator.
-- system
SELECT id, tenant_id, name, prefix, mode, last_four, scopes, created_at, expires_at, revoked_at
FROM auth.api_keys
WHERE id = :id;

-- revoke_key --
-- Revokes a key that is not revoked yet; no row when it is.
UPDATE auth.api_keys SET revoked_at = :now
WHERE id = :id AND tenant_id = :tenant_id AND revoked_at IS NULL
RETURNING id, tenant_id, name, prefix, mode, last_four, scopes, created_at, expires_at, revoked_at;

-- insert_audit --
-- What was changed by which key; no key when the command line of the installation did it.
INSERT INTO auth.audit_log (tenant_id, actor_key_id, action, subject, at)
VALUES (:tenant_id, :actor_key_id, :action, :subject, :now);

-- add_uses --
-- Adds tasks and steps to months of tenants, each named once.
-- system
INSERT INTO auth.usage_months AS m (tenant_id, month, tasks, steps)
-- In one order for everybody, so that two members of the group cannot block each other.
SELECT u.tenant_id, u.month, u.tasks, u.steps
FROM unnest(
  CAST(:tenant_ids AS uuid[]), CAST(:months AS text[]), CAST(:tasks AS bigint[]),
  CAST(:steps AS bigint[])
) AS u (tenant_id, month, tasks, steps)
ORDER BY u.tenant_id, u.month
ON CONFLICT (tenant_id, month)
DO UPDATE SET tasks = m.tasks + EXCLUDED.tasks, steps = m.steps + EXCLUDED.steps;

-- read_usage --
-- What a tenant used in one month; no row when nothing.
SELECT month, tasks, steps FROM auth.usage_months WHERE tenant_id = :tenant_id AND month = :month;

-- take_permits --
-- Debits a tenant's minute and month, and credits what it has not used.
SELECT granted, minute_left, minute_reset, minute_retry, month_left, month_reset
FROM auth.take_permits(
  CAST(:tenant_id AS uuid), CAST(:wanted AS integer), CAST(:returned AS integer),
  CAST(:per_minute AS integer), CAST(:per_month AS bigint), CAST(:is_metered AS boolean)
);

-- tiers_of --
-- The tiers of tenants.
-- system
SELECT t.id, t.tier FROM auth.tenants AS t WHERE t.id = ANY (CAST(:tenant_ids AS uuid[]));
