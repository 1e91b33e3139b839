-- read_holder --
-- Whose key has this hash: one read by the unique index on the hash, then by primary keys.
-- system
-- Subqueries, because a plan of joins, made while the tables are small and then kept, may begin with
-- all tenants.
SELECT
  k.id, k.tenant_id, k.name, k.prefix, k.mode, k.last_four, k.scopes,
  k.created_at, k.expires_at, k.revoked_at, k.user_number, k.allowed_agent_ids, k.allowed_task_ids,
  k.last_used_at, k.replaced_by_id,
  (SELECT t.tier FROM auth.tenants AS t WHERE t.id = k.tenant_id) AS tier,
  (SELECT CASE WHEN u.removed_at IS NULL THEN u.role END FROM auth.users AS u
   WHERE u.tenant_id = k.tenant_id AND u.number = k.user_number) AS role
FROM auth.api_keys AS k
WHERE k.hash = :hash;

-- note_use --
-- Notes that a key is used, unless that was noted lately or somebody holds the key: nobody waits here.
UPDATE auth.api_keys SET last_used_at = :now
WHERE tenant_id = :tenant_id AND id = (
  SELECT k.id FROM auth.api_keys AS k
  WHERE k.id = :id AND k.tenant_id = :tenant_id
    AND (k.last_used_at IS NULL OR k.last_used_at <= CAST(:noted_until AS timestamptz))
  FOR NO KEY UPDATE SKIP LOCKED);

-- lock_tenant --
-- A tenant, held until the transaction ends against other changes of its keys and people.
SELECT t.id FROM auth.tenants AS t WHERE t.id = :tenant_id FOR NO KEY UPDATE;

-- lock_actor --
-- The acting key, if it is still good, held against a revocation until the transaction ends.
SELECT k.user_number
FROM auth.api_keys AS k
WHERE k.id = :key_id AND k.tenant_id = :tenant_id
  AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > :now)
FOR SHARE;

-- lock_role --
-- The role of a person who is still there, held against a change until the transaction ends.
-- Here and below "not removed" is said so that the planner does not recognise the condition of the
-- index on addresses: on empty tables that one looks as good as the index on numbers.
SELECT u.role
FROM auth.users AS u
WHERE u.tenant_id = :tenant_id AND u.number = :number
  AND coalesce(u.removed_at, 'infinity') = 'infinity'
FOR SHARE;

-- insert_tenant --
-- A new tenant; no row when the name is taken.
-- system
INSERT INTO auth.tenants (id, name, tier, created_at)
VALUES (:id, :name, :tier, :now)
ON CONFLICT (name) DO NOTHING
RETURNING id, name, tier, created_at;

-- set_tier --
-- Gives a tenant another tier; no row when it is of that tier.
UPDATE auth.tenants SET tier = :tier
WHERE id = :tenant_id AND tier <> :tier
RETURNING id, name, tier, created_at;

-- insert_user --
-- A new person of a tenant; no row when the address is taken.
INSERT INTO auth.users (tenant_id, email, role, created_at)
VALUES (:tenant_id, :email, :role, :now)
ON CONFLICT (tenant_id, lower(email)) WHERE removed_at IS NULL DO NOTHING
RETURNING number, tenant_id, email, role, created_at;

-- read_user --
-- One person of a tenant.
SELECT number, tenant_id, email, role, created_at
FROM auth.users
WHERE tenant_id = :tenant_id AND number = :number AND coalesce(removed_at, 'infinity') = 'infinity';

-- read_any_user --
-- One person of whichever tenant, for the operator.
-- system
SELECT number, tenant_id, email, role, created_at
FROM auth.users
WHERE number = :number AND coalesce(removed_at, 'infinity') = 'infinity';

-- read_owner --
-- The owner of a tenant.
SELECT number, tenant_id, email, role, created_at
FROM auth.users
WHERE tenant_id = :tenant_id AND role = 'owner' AND removed_at IS NULL;

-- list_users --
-- A tenant's people by number, from after a number.
SELECT number, tenant_id, email, role, created_at
FROM auth.users
WHERE tenant_id = :tenant_id AND number > :after AND removed_at IS NULL
ORDER BY number
LIMIT :count;

-- set_role --
-- Gives a person another role, never that of the owner.
UPDATE auth.users SET role = :role
WHERE tenant_id = :tenant_id AND number = :number AND role <> 'owner' AND coalesce(removed_at, 'infinity') = 'infinity'
RETURNING number, tenant_id, email, role, created_at;

-- hand_over --
-- Makes a person the owner and the owner an admin, in one statement: no moment has two or none.
UPDATE auth.users SET role = CASE WHEN number = :number THEN 'owner' ELSE 'admin' END
WHERE tenant_id = :tenant_id AND number = ANY (ARRAY[CAST(:number AS bigint), CAST(:owner AS bigint)])
  AND coalesce(removed_at, 'infinity') = 'infinity'
RETURNING number, tenant_id, email, role, created_at;

-- remove_user --
-- Removes a person who is not the owner; their number stays taken.
UPDATE auth.users SET removed_at = :now
WHERE tenant_id = :tenant_id AND number = :number AND role <> 'owner' AND coalesce(removed_at, 'infinity') = 'infinity'
RETURNING number;

-- revoke_keys_of_user --
-- Revokes every key of a person.
UPDATE auth.api_keys SET revoked_at = :now
WHERE tenant_id = :tenant_id AND user_number = :number AND revoked_at IS NULL
RETURNING
  id, tenant_id, name, prefix, mode, last_four, scopes, created_at, expires_at, revoked_at,
  user_number, allowed_agent_ids, allowed_task_ids, last_used_at, replaced_by_id;

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
-- A new key of a person.
INSERT INTO auth.api_keys
  (id, tenant_id, user_number, hash, prefix, mode, last_four, name, scopes, created_at, expires_at,
  allowed_agent_ids, allowed_task_ids)
VALUES
  (:id, :tenant_id, :user_number, :hash, :prefix, :mode, :last_four, :name, :scopes, :now, :expires_at,
  CAST(:allowed_agent_ids AS uuid[]), CAST(:allowed_task_ids AS uuid[]))
RETURNING
  id, tenant_id, name, prefix, mode, last_four, scopes, created_at, expires_at, revoked_at,
  user_number, allowed_agent_ids, allowed_task_ids, last_used_at, replaced_by_id;

-- list_keys --
-- A tenant's keys, newest first, from before an id; ids begin with the time at which they were made.
SELECT
  id, tenant_id, name, prefix, mode, last_four, scopes, created_at, expires_at, revoked_at,
  user_number, allowed_agent_ids, allowed_task_ids, last_used_at, replaced_by_id
FROM auth.api_keys
WHERE tenant_id = :tenant_id AND id < :before
ORDER BY id DESC
LIMIT :count;

-- read_key --
-- One key of a tenant.
SELECT
  id, tenant_id, name, prefix, mode, last_four, scopes, created_at, expires_at, revoked_at,
  user_number, allowed_agent_ids, allowed_task_ids, last_used_at, replaced_by_id
FROM auth.api_keys
WHERE id = :id AND tenant_id = :tenant_id;

-- read_any_key --
-- One key of whichever tenant, for the operator.
-- system
SELECT
  id, tenant_id, name, prefix, mode, last_four, scopes, created_at, expires_at, revoked_at,
  user_number, allowed_agent_ids, allowed_task_ids, last_used_at, replaced_by_id
FROM auth.api_keys
WHERE id = :id;

-- lock_key --
-- One key of a tenant, held until the transaction ends.
SELECT
  id, tenant_id, name, prefix, mode, last_four, scopes, created_at, expires_at, revoked_at,
  user_number, allowed_agent_ids, allowed_task_ids, last_used_at, replaced_by_id
FROM auth.api_keys
WHERE id = :id AND tenant_id = :tenant_id
FOR NO KEY UPDATE;

-- replace_key --
-- Notes which key takes a key's place, and that it ends then at the latest; no row when it was replaced.
UPDATE auth.api_keys
SET replaced_by_id = :replaced_by_id, expires_at = greatest(created_at, least(expires_at, :ends_at))
WHERE id = :id AND tenant_id = :tenant_id AND replaced_by_id IS NULL AND revoked_at IS NULL
RETURNING
  id, tenant_id, name, prefix, mode, last_four, scopes, created_at, expires_at, revoked_at,
  user_number, allowed_agent_ids, allowed_task_ids, last_used_at, replaced_by_id;

-- revoke_key --
-- Revokes a key that is not revoked yet; no row when it is.
UPDATE auth.api_keys SET revoked_at = :now
WHERE id = :id AND tenant_id = :tenant_id AND revoked_at IS NULL
RETURNING
  id, tenant_id, name, prefix, mode, last_four, scopes, created_at, expires_at, revoked_at,
  user_number, allowed_agent_ids, allowed_task_ids, last_used_at, replaced_by_id;

-- insert_audit --
-- What was changed by which key and whose it is; no key when the command line of the installation did it.
INSERT INTO auth.audit_log (tenant_id, actor_key_id, actor_user_number, action, subject, details, at)
VALUES (:tenant_id, CAST(:actor_key_id AS uuid),
  (SELECT k.user_number FROM auth.api_keys AS k WHERE k.id = CAST(:actor_key_id AS uuid)),
  :action, :subject, :details, :now);

-- list_audit --
-- Lines about a tenant, newest first, from before a line.
SELECT id, tenant_id, actor_key_id, actor_user_number, action, subject, details, at
FROM auth.audit_log
WHERE tenant_id = :tenant_id AND id < :before
ORDER BY id DESC
LIMIT :count;

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
