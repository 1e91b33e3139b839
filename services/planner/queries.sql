-- read_catalog --
-- Every tool ever registered, and for how many seconds it is still on offer (null: it is not).
-- system
SELECT
  t.digest,
  CAST(EXTRACT(EPOCH FROM (max(r.expires_at) - clock_timestamp())) AS double precision)
    AS seconds_left
FROM planner.tools AS t
LEFT JOIN planner.registrations AS r ON r.digest = t.digest
GROUP BY t.digest;

-- read_tools --
-- The tools with these digests.
-- system
SELECT
  digest, name, version, description, input_schema, output_schema, effects, examples, registered_at
FROM planner.tools
WHERE digest = ANY(:digests);

-- add_tools --
-- Tools that are not known yet; a known one stays as it is.
-- system
INSERT INTO planner.tools
  (digest, name, version, description, input_schema, output_schema, effects, examples,
  registered_at)
SELECT
  n.digest, n.name, n.version, n.description, n.input_schema, n.output_schema,
  string_to_array(n.effects, ','), n.examples, clock_timestamp()
FROM unnest(
  CAST(:digests AS text[]), CAST(:names AS text[]), CAST(:versions AS text[]),
  CAST(:descriptions AS text[]), CAST(:input_schemas AS text[]), CAST(:output_schemas AS text[]),
  CAST(:effects AS text[]), CAST(:examples AS text[])
) AS n (digest, name, version, description, input_schema, output_schema, effects, examples)
ON CONFLICT (digest) DO NOTHING;

-- add_examples --
-- Examples of tools that have none yet, such as those stored before tools had examples.
-- system
WITH without AS (
  SELECT t.digest
  FROM planner.tools AS t
  WHERE t.digest = ANY(CAST(:digests AS text[])) AND t.examples = '[]'
  ORDER BY t.digest
  FOR UPDATE
)
UPDATE planner.tools AS t
SET examples = n.examples
FROM without AS w
JOIN unnest(CAST(:digests AS text[]), CAST(:examples AS text[])) AS n (digest, examples)
  ON n.digest = w.digest AND n.examples <> '[]'
WHERE t.digest = w.digest;

-- drop_replaced --
-- What this executor offered otherwise or in an earlier boot, and offers that lapsed a while ago.
-- system
DELETE FROM planner.registrations
WHERE (executor_id = :executor_id
    AND (boot_id <> :boot_id OR digest <> ALL(CAST(:digests AS text[]))))
  OR expires_at < clock_timestamp() - make_interval(mins => 10);

-- renew_registrations --
-- The offers of one boot of an executor, good for another period; says when they lapse.
-- system
INSERT INTO planner.registrations (executor_id, boot_id, digest, expires_at)
SELECT :executor_id, :boot_id, d.digest, clock_timestamp() + make_interval(secs => :seconds)
FROM unnest(CAST(:digests AS text[])) AS d (digest)
ON CONFLICT (executor_id, boot_id, digest) DO UPDATE SET expires_at = EXCLUDED.expires_at
RETURNING expires_at;

-- withdraw --
-- The offers of one boot of an executor end.
-- system
DELETE FROM planner.registrations
WHERE executor_id = :executor_id AND boot_id = :boot_id;
