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
-- Adds what was used to days of tenants, each named once.
-- system
INSERT INTO auth.usage_days AS d (tenant_id, day, tasks, steps, sandbox_ms, tokens, cost_usd)
-- In one order for everybody, so that two members of the group cannot block each other.
SELECT u.tenant_id, u.day, u.tasks, u.steps, u.sandbox_ms, u.tokens, u.cost_usd
FROM unnest(
  CAST(:tenant_ids AS uuid[]), CAST(:days AS date[]), CAST(:tasks AS bigint[]),
  CAST(:steps AS bigint[]), CAST(:sandbox_ms AS bigint[]), CAST(:tokens AS bigint[]),
  CAST(:cost_usd AS numeric[])
) AS u (tenant_id, day, tasks, steps, sandbox_ms, tokens, cost_usd)
ORDER BY u.tenant_id, u.day
ON CONFLICT (tenant_id, day) DO UPDATE SET
  tasks = d.tasks + EXCLUDED.tasks, steps = d.steps + EXCLUDED.steps,
  sandbox_ms = d.sandbox_ms + EXCLUDED.sandbox_ms, tokens = d.tokens + EXCLUDED.tokens,
  cost_usd = d.cost_usd + EXCLUDED.cost_usd;

-- list_usage --
-- The days of a tenant on which it used anything, in order; requests are counted in their own table.
SELECT b.day, CAST(sum(b.requests) AS bigint) AS requests, CAST(sum(b.tasks) AS bigint) AS tasks,
  CAST(sum(b.steps) AS bigint) AS steps, CAST(sum(b.sandbox_ms) AS bigint) AS sandbox_ms,
  CAST(sum(b.tokens) AS bigint) AS tokens, sum(b.cost_usd) AS cost_usd
FROM (
  SELECT u.day, 0 AS requests, u.tasks, u.steps, u.sandbox_ms, u.tokens, u.cost_usd
  FROM auth.usage_days AS u
  WHERE u.tenant_id = :tenant_id AND u.day BETWEEN CAST(:first AS date) AND CAST(:last AS date)
  UNION ALL
  SELECT r.day, r.requests, 0, 0, 0, 0, 0
  FROM auth.request_days AS r
  WHERE r.tenant_id = :tenant_id AND r.day BETWEEN CAST(:first AS date) AND CAST(:last AS date)
) AS b
GROUP BY b.day
ORDER BY b.day;

-- read_account --
-- The user whose key it is, and the tenant's tier; no row: there is no such key, or no such user now.
SELECT u.number, u.tenant_id, u.email, u.role, u.created_at,
  (SELECT t.tier FROM auth.tenants AS t WHERE t.id = u.tenant_id) AS tier
FROM auth.api_keys AS k
CROSS JOIN LATERAL (SELECT x.* FROM auth.users AS x
  WHERE x.tenant_id = k.tenant_id AND x.number = k.user_number OFFSET 0) AS u
WHERE k.id = :key_id AND k.tenant_id = :tenant_id AND u.removed_at IS NULL;
