-- What the agent reads and writes of services. "name:" names a query, the line below says why.

-- name: all
-- Every service.
SELECT id, name, owner, spec, plan, mode, task, context, args, encoding, job, removing, created, changed FROM services
ORDER BY id;

-- name: one
-- A service by its name.
SELECT id, name, owner, spec, plan, mode, task, context, args, encoding, job, removing, created, changed FROM services
WHERE name = ?;

-- name: add
-- A new service.
INSERT INTO services (name, owner, spec, plan, mode, task, context, args, encoding, job, created, changed)
VALUES (:name, :owner, :spec, :plan, :mode, :task, :context, :args, :encoding, :job, :changed, :changed);

-- name: change
-- What somebody makes of it.
UPDATE services SET owner = :owner, spec = :spec, plan = :plan, mode = :mode, task = :task, context = :context,
    args = :args, encoding = :encoding, job = :job, removing = 0, changed = :changed WHERE id = :id;

-- name: set_mode
-- When it starts.
UPDATE services SET mode = ?, changed = ? WHERE id = ?;

-- name: set_removing
-- It goes once it is down.
UPDATE services SET removing = 1 WHERE id = ?;

-- name: remove
-- A service with its instances; its jobs stay.
DELETE FROM services WHERE id = ?;

-- name: instances
-- Every instance.
SELECT id, service, name, desired, state, cause, since, job, ready_since, due, restarts, failures, status, detail
FROM instances ORDER BY id;

-- name: add_instance
-- A new instance, at rest.
INSERT INTO instances (service, name, desired, state, cause, since) VALUES (?, ?, 'down', 'inactive', 'not started', ?);

-- name: remove_instance
-- One that there is no more.
DELETE FROM instances WHERE id = ?;

-- name: stand
-- How an instance stands now.
UPDATE instances SET desired = ?, state = ?, cause = ?, since = ?, job = ?, ready_since = ?, due = ?, restarts = ?,
    failures = ?, detail = ? WHERE id = ?;

-- name: set_status
-- What it says of itself.
UPDATE instances SET status = ? WHERE id = ?;

-- name: insert_life
-- A life, or a command beside it: it takes no slot.
INSERT INTO jobs (id, name, task, context, args, encoding, state, queue, priority, now, keyed, created, service)
VALUES (?, ?, ?, ?, ?, ?, 'queued', 'services', ?, 1, 0, ?, ?);

-- name: begun
-- The attempt of a life, if its process has begun: number, pid.
SELECT a.n, a.pid FROM jobs j JOIN attempts a ON a.job = j.id AND a.n = j.attempt WHERE j.id = ? AND a.started IS NOT NULL;

-- name: end_of
-- How a job has ended, if it has.
SELECT state, reason, exit_code, signal, message FROM jobs WHERE id = ? AND finished IS NOT NULL;

-- name: old_lives
-- What has ended of a service, beyond so many of the newest.
SELECT id FROM jobs INDEXED BY jobs_service WHERE service = ? AND finished IS NOT NULL ORDER BY id DESC LIMIT 8 OFFSET ?;

-- name: lives
-- Jobs of a service that are in the store, oldest first: id, attempts.
SELECT id, attempt FROM jobs INDEXED BY jobs_service WHERE service = ? ORDER BY id;

-- name: service_of
-- Whose life a job is.
SELECT service FROM jobs WHERE id = ?;

-- name: set_tag
-- A word to filter lives by.
INSERT OR IGNORE INTO tags (tag, job) VALUES (?, ?);
