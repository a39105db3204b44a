-- What is read of services to be shown.

-- name: services
-- All of them, or those of some names (a JSON list), by name.
SELECT s.id, s.name, s.owner, s.spec, s.plan, s.mode, s.removing, s.created, s.changed, t.kind, t.argv, t.function,
    t.label, c.cwd
FROM services s JOIN tasks t ON t.id = s.task JOIN contexts c ON c.id = s.context
WHERE :names IS NULL OR s.name IN (SELECT value FROM json_each(:names)) ORDER BY s.name;

-- name: instances
-- The instances of all services, or of one, with the process of the life under way.
SELECT i.id, s.name AS service, i.name, i.desired, i.state, i.cause, i.since, i.job, i.ready_since, i.due, i.restarts,
    i.failures, i.status, i.detail, j.state AS job_state, j.exit_code, j.signal,
    CASE WHEN j.finished IS NULL THEN a.pid END AS pid, a.start_ticks, a.started, a.n AS attempt
FROM instances i JOIN services s ON s.id = i.service
LEFT JOIN jobs j ON j.id = i.job LEFT JOIN attempts a ON a.job = j.id AND a.n = j.attempt
WHERE :service IS NULL OR s.name = :service ORDER BY s.name, i.id;

-- name: names
-- The names of all services.
SELECT name FROM services ORDER BY name;

-- name: service_of
-- The service of an instance.
SELECT s.name FROM instances i JOIN services s ON s.id = i.service WHERE i.name = :name;

-- name: transitions
-- The newest transitions of an instance.
SELECT at, before, after, detail, job FROM events INDEXED BY events_object
WHERE object = :object AND verb = 'service-state' ORDER BY id DESC LIMIT :limit;

-- name: lives
-- The newest lives of an instance.
SELECT id FROM jobs INDEXED BY jobs_named WHERE name = :name AND service IS NOT NULL ORDER BY id DESC LIMIT :limit;
