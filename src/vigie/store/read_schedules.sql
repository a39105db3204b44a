-- What people's programs read of schedules; the agent need not run.

-- name: schedules
-- All of them, or some by name (JSON list), with the last decided firing and its job.
SELECT s.id, s.name, s.owner, s.spec, s.triggers, s.policy, s.job AS options, s.state, s.until, s.shift, s.relative,
    s.again, s.created, s.changed, s.planned, s.next, s.due, s.started, s.ended, s.runs, t.kind, t.label, t.argv,
    t.function, c.cwd, c.python,
    f.instant AS last_instant, f.outcome AS last_outcome, f.reason AS last_reason, f.detail AS last_detail,
    f.at AS last_at, j.id AS last_job, j.state AS last_state, j.reason AS last_failed, j.exit_code AS last_exit_code,
    j.signal AS last_signal, j.duration AS last_duration,
    (SELECT min(o.instant) FROM firings o WHERE o.schedule = s.id AND o.outcome IS NULL) AS waiting
FROM schedules s JOIN tasks t ON t.id = s.task JOIN contexts c ON c.id = s.context
LEFT JOIN firings f ON f.schedule = s.id AND f.instant = (
    SELECT instant FROM firings d WHERE d.schedule = s.id AND d.outcome IS NOT NULL ORDER BY instant DESC LIMIT 1)
LEFT JOIN jobs j ON j.id = f.job
WHERE (:names IS NULL OR s.name IN (SELECT value FROM json_each(:names))) AND s.name > :after
ORDER BY s.name LIMIT :limit;

-- name: names
-- All names.
SELECT name FROM schedules ORDER BY name;

-- name: history
-- The firings of one, newest first.
SELECT f.instant, f.due, f.last, f.count, f.missed, f.outcome, f.reason, f.detail, f.cause, f.job, f.at,
    j.state, j.reason AS failed, j.exit_code, j.signal, j.started, j.finished, j.duration
FROM firings f LEFT JOIN jobs j ON j.id = f.job
WHERE f.schedule = :schedule AND f.instant < :before AND (f.outcome IS NOT NULL OR f.due <= :now) ORDER BY f.instant DESC LIMIT :limit;

-- name: at
-- The record that speaks of an instant: its own, or that of several among which it is.
SELECT f.instant, f.due, f.last, f.count, f.missed, f.outcome, f.reason, f.detail, f.cause, f.job, f.at,
    j.state, j.reason AS failed, j.exit_code, j.signal, j.started, j.finished, j.duration
FROM firings f LEFT JOIN jobs j ON j.id = f.job
WHERE f.schedule = :schedule AND f.instant <= :at ORDER BY f.instant DESC LIMIT 1;

-- name: ended
-- How its newest jobs ended, and how long those took that completed.
SELECT state, duration FROM jobs WHERE name = :name AND schedule = :name AND finished IS NOT NULL ORDER BY id DESC LIMIT :limit;

-- name: coming
-- Who comes next.
SELECT name, next, due FROM schedules WHERE due IS NOT NULL ORDER BY due, id LIMIT :limit;

-- name: firing_of
-- The firing of a job.
SELECT f.instant, f.due, f.outcome, f.cause, s.name FROM firings f JOIN schedules s ON s.id = f.schedule WHERE f.job = :job;

-- name: declared
-- What files declare besides schedules.
SELECT kind, name, owner, spec FROM declared WHERE :kind IS NULL OR kind = :kind ORDER BY kind, name;
