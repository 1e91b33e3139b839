-- put_artifact --
-- Store an artifact of a running task as staged; no row when its place is taken or the task not running.
INSERT INTO artifact.artifacts
  (id, tenant_id, task_id, step_index, ordinal, type, data, blob_key, sha256, size_bytes, state)
SELECT CAST(:id AS uuid), CAST(:tenant_id AS uuid), CAST(:task_id AS uuid), CAST(:step_index AS integer),
  CAST(:ordinal AS integer), :type, CAST(:data AS text), CAST(:blob_key AS text), :sha256,
  CAST(:size_bytes AS integer), 'staged'
WHERE bus.task_state(:task_id) = 'running'
ON CONFLICT (task_id, step_index, ordinal) DO NOTHING
RETURNING *

-- read_place --
-- The artifact at a place, whatever its state.
SELECT * FROM artifact.artifacts
WHERE tenant_id = :tenant_id AND task_id = :task_id
  AND step_index = CAST(:step_index AS integer) AND ordinal = CAST(:ordinal AS integer)

-- is_taken --
-- Whether anything stands at a place, of whichever tenant.
-- system
SELECT EXISTS (SELECT FROM artifact.artifacts WHERE task_id = :task_id
  AND step_index = CAST(:step_index AS integer) AND ordinal = CAST(:ordinal AS integer)) AS is_taken

-- read_artifact --
-- One artifact of a tenant, whatever its state.
SELECT * FROM artifact.artifacts WHERE id = :id AND tenant_id = :tenant_id

-- list_available --
-- The available artifacts of a task after a place, in order, without their data.
SELECT id, tenant_id, task_id, step_index, ordinal, type, sha256, size_bytes, state, created_at
FROM artifact.artifacts
WHERE tenant_id = :tenant_id AND task_id = :task_id AND state = 'available'
  AND (step_index, ordinal) > (CAST(:step_index AS integer), CAST(:ordinal AS integer))
ORDER BY step_index, ordinal LIMIT :count

-- state_if_staged --
-- The state of the task in its newest committed event, asked only when it has staged artifacts; else null.
SELECT CASE WHEN EXISTS (
  SELECT FROM artifact.artifacts a
  WHERE a.tenant_id = :tenant_id AND a.task_id = :task_id AND a.state = 'staged')
THEN bus.task_state(:task_id) END AS state

-- settle --
-- Make the staged artifacts of tasks available or discarded; a second time changes nothing.
-- system
UPDATE artifact.artifacts a SET state = e.state, settled_at = now()
FROM unnest(CAST(:task_ids AS uuid[]), CAST(:tenant_ids AS uuid[]), CAST(:states AS text[]))
  AS e(task_id, tenant_id, state)
WHERE a.task_id = e.task_id AND a.tenant_id = e.tenant_id AND a.state = 'staged'
  -- So that the index on tasks is used, whatever the statistics say.
  AND a.task_id = ANY(CAST(:task_ids AS uuid[]))
