-- What the agent reads and writes of schedules. "name:" names a query, the line below says why.

-- name: add
-- A new schedule.
INSERT INTO schedules (name, owner, spec, triggers, policy, task, context, args, encoding, job, zones,
    relative, again, occasions, created, changed, planned, next, due)
VALUES (:name, :owner, :spec, :triggers, :policy, :task, :context, :args, :encoding, :job,
    :zones, :relative, :again, :occasions, :created, :changed, :planned, :next, :due);

-- name: change
-- What it says is another now; what it has done stays.
UPDATE schedules SET owner = :owner, spec = :spec, triggers = :triggers, policy = :policy, task = :task,
    context = :context, args = :args, encoding = :encoding, job = :job, zones = :zones, relative = :relative, shift = 0,
    again = :again, occasions = :occasions, changed = :changed, planned = :planned, next = :next, due = :due,
    until = CASE state WHEN 'done' THEN NULL ELSE until END,
    state = CASE state WHEN 'done' THEN 'active' ELSE state END
WHERE id = :id;

-- name: one
-- A schedule by its name.
SELECT * FROM schedules WHERE name = ?;

-- name: by_id
-- A schedule by its number.
SELECT * FROM schedules WHERE id = ?;

-- name: waits
-- An instant of it that clocks decide, and that is planned and not decided.
SELECT 1 FROM firings WHERE schedule = ? AND outcome IS NULL AND cause IS NULL LIMIT 1;

-- name: over
-- A schedule of which nothing more can come, and nothing is undecided.
SELECT * FROM schedules WHERE id = ? AND state = 'active' AND next IS NULL AND again = 0 AND occasions = 0
    AND NOT EXISTS (SELECT 1 FROM firings WHERE schedule = schedules.id AND outcome IS NULL);

-- name: names
-- All names.
SELECT name FROM schedules ORDER BY name;

-- name: remove
-- A schedule with its firings; its jobs stay.
DELETE FROM schedules WHERE id = ?;

-- name: due
-- Whose next instant comes before one, soonest first.
SELECT * FROM schedules WHERE due <= ? ORDER BY due, id LIMIT ?;

-- name: next_due
-- When the next one that is not planned yet comes.
SELECT min(due) FROM schedules WHERE due IS NOT NULL;

-- name: advance
-- Its instants up to "planned" have a row now.
UPDATE schedules SET planned = ?, next = ?, due = ? WHERE id = ?;

-- name: state
-- Paused, active or done; until when; and what comes then.
UPDATE schedules SET state = ?, until = ?, next = ?, due = ?, planned = ? WHERE id = ?;

-- name: resuming
-- Paused ones whose pause is over.
SELECT * FROM schedules WHERE until <= ? ORDER BY until, id LIMIT 500;

-- name: next_until
-- When the next pause ends.
SELECT min(until) FROM schedules WHERE until IS NOT NULL;

-- name: ran
-- A run began (1 if by hand, when, id).
UPDATE schedules SET runs = runs + 1, by_hand = by_hand + ?, started = ? WHERE id = ?;

-- name: ran_many
-- Runs of different schedules began, as jobs from one id to another.
UPDATE schedules SET runs = runs + 1, started = ?3 WHERE id IN (SELECT schedule FROM firings WHERE job BETWEEN ?1 AND ?2);

-- name: ended
-- A run of one that counts from its ends is over.
UPDATE schedules SET ended = ?, started = ?, next = ?, due = ? WHERE id = ?;

-- name: again
-- Those that count from the start or the end of a run.
SELECT name FROM schedules WHERE again = 1;

-- name: occasions
-- Those that wait for something that happens.
SELECT * FROM schedules WHERE occasions = 1 ORDER BY id;

-- name: shift
-- The wall clock was set by so much: intervals go on as if it had not been.
UPDATE schedules SET shift = shift + ?1, planned = planned + ?1, next = next + ?1, due = due + ?1,
    started = started + ?1, ended = ended + ?1 WHERE relative = 1;

-- name: limited
-- Those of them that come from one moment on, up to one, or not on some days.
SELECT * FROM schedules WHERE relative = 1 AND state = 'active' AND next IS NOT NULL
    AND (instr(triggers, '"from"') OR instr(triggers, '"until"') OR instr(triggers, '"except"'));

-- name: shift_firings
-- The same for what is planned of them.
UPDATE OR IGNORE firings SET instant = instant + ?1, due = due + ?1
WHERE outcome IS NULL AND schedule IN (SELECT id FROM schedules WHERE relative = 1);

-- name: shift_waits
-- And since when a condition has been waited for.
UPDATE firings SET at = at + ?1 WHERE outcome IS NULL AND at IS NOT NULL;

-- name: plan
-- An instant to come; 0 rows if it has its record.
INSERT INTO firings (schedule, instant, due, missed, cause) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING;

-- name: skip_many
-- Instants that passed without a run: a record for all of them.
INSERT INTO firings (schedule, instant, due, last, count, outcome, reason, detail, at)
VALUES (?, ?, ?, ?, ?, 'skipped', ?, ?, ?) ON CONFLICT DO NOTHING;

-- name: open
-- What is planned and not decided (at most so many, soonest first).
SELECT due, schedule, instant FROM firings WHERE outcome IS NULL ORDER BY due LIMIT ?;

-- name: open_before
-- The same, due up to an instant.
SELECT due, schedule, instant FROM firings WHERE outcome IS NULL AND due <= ? ORDER BY due LIMIT ?;

-- name: last_end
-- When the last run of a schedule ended.
SELECT j.finished FROM firings f JOIN jobs j ON j.id = f.job WHERE f.schedule = ? AND f.job IS NOT NULL
ORDER BY f.instant DESC LIMIT 1;

-- name: deciding
-- Firings about to be decided, with what their schedules say. They are a JSON list of [schedule, instant]; or of
-- schedules, and all have one instant.
SELECT f.schedule, f.instant, f.due, f.missed, f.cause, f.reason AS waits, f.at AS since, s.name, s.policy, s.task,
    s.context, s.args, s.encoding, s.job, s.state, s.runs - s.by_hand, s.again, s.triggers, s.next
FROM json_each(?1) e
CROSS JOIN firings f ON f.schedule = iif(?2 IS NULL, e.value ->> 0, e.value) AND f.instant = coalesce(?2, e.value ->> 1)
CROSS JOIN schedules s ON s.id = f.schedule
WHERE f.outcome IS NULL;

-- name: decide
-- What became of an instant.
UPDATE firings SET outcome = ?, reason = ?, detail = ?, job = ?, at = ? WHERE schedule = ? AND instant = ? AND outcome IS NULL;

-- name: decide_many
-- What became of many instants (?4 and ?5 as above), whose jobs have ids from ?2 on. The plus keeps the index of all that
-- is open out of it: each is looked for by its key.
UPDATE firings SET outcome = ?1, reason = NULL, detail = NULL, job = ?2 + e.key, at = ?3 FROM json_each(?4) e
WHERE schedule = iif(?5 IS NULL, e.value ->> 0, e.value) AND instant = coalesce(?5, e.value ->> 1) AND +outcome IS NULL;

-- name: wait
-- It waits for a condition (which, since when).
UPDATE firings SET reason = ?, at = coalesce(at, ?) WHERE schedule = ? AND instant = ? AND outcome IS NULL;

-- name: unplan
-- What was planned and passed while nobody was there is planned anew, by the rules of catch-up …
UPDATE schedules SET planned = f.first - 1, next = f.first, due = f.due FROM (
    SELECT o.schedule, min(o.instant) AS first, min(o.due) AS due FROM firings o JOIN schedules s ON s.id = o.schedule
    WHERE o.outcome IS NULL AND o.missed = 0 AND o.reason IS NULL AND o.cause IS NULL AND o.due <= ?
        AND o.instant > s.changed + s.shift GROUP BY o.schedule) f
WHERE f.schedule = schedules.id AND schedules.state = 'active' AND NOT EXISTS (
    SELECT 1 FROM firings d WHERE d.schedule = f.schedule AND d.instant > f.first AND d.outcome IS NOT NULL
        AND d.cause IS NULL);

-- name: unplanned
-- … and this goes for it.
DELETE FROM firings WHERE outcome IS NULL AND missed = 0 AND reason IS NULL AND cause IS NULL
    AND instant > (SELECT planned FROM schedules WHERE id = schedule);

-- name: withdraw_all
-- What is planned and still to come is part of a pause: which that is.
DELETE FROM firings WHERE schedule = ? AND outcome IS NULL AND cause IS NULL AND instant > ? RETURNING instant;

-- name: withdraw
-- What is planned of a schedule and still to come is not, after it was changed; what has come and was put off, stays.
DELETE FROM firings WHERE schedule = ? AND outcome IS NULL AND cause IS NULL AND instant > ?;

-- name: insert_job
-- The job of a firing.
INSERT INTO jobs (id, name, task, context, args, encoding, state, blocked_by, queue, priority, now, keyed, created, due,
    schedule)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?);

-- name: insert_jobs
-- The jobs of firings that are decided, by their ids (from one to another): they wait for nothing.
INSERT INTO jobs (id, name, task, context, args, encoding, state, queue, priority, now, keyed, created, due, schedule)
SELECT f.job, s.name, s.task, s.context, s.args, s.encoding, 'queued',
    coalesce(s.job ->> 'queue', ?3), CAST(coalesce(s.job ->> 'priority', 0) AS INTEGER), 0, 0, ?4, f.instant, s.name
FROM firings f CROSS JOIN schedules s ON s.id = f.schedule WHERE f.job BETWEEN ?1 AND ?2 ORDER BY f.job;

-- name: open_jobs
-- Jobs of schedules that have not ended, oldest first.
SELECT id, schedule FROM jobs WHERE finished IS NULL AND state <> 'queued' AND schedule IS NOT NULL
UNION ALL SELECT id, schedule FROM jobs WHERE state = 'queued' AND schedule IS NOT NULL ORDER BY 1;

-- name: trim
-- Of each record of a schedule the newest so many are kept.
DELETE FROM firings WHERE schedule = ?1 AND outcome IS NOT NULL AND instant < (
    SELECT instant FROM firings WHERE schedule = ?1 ORDER BY instant DESC LIMIT 1 OFFSET ?2);

-- name: seen
-- The files that a schedule knows.
SELECT path, size, mtime FROM seen_files WHERE schedule = ?;

-- name: see
-- A file as it is now.
INSERT OR REPLACE INTO seen_files (schedule, path, size, mtime) VALUES (?, ?, ?, ?);

-- name: unsee
-- A file that has gone.
DELETE FROM seen_files WHERE schedule = ? AND path = ?;

-- name: task
-- A task whole, to make another from it.
SELECT kind, argv, function, code, label, timeout, retries, backoff, backoff_max, jitter, grace, fresh, on_lost, max_output
FROM tasks WHERE id = ?;

-- name: ended_job
-- What triggers want to know of a job that ended; its tags a line each.
SELECT name, state, schedule, (SELECT coalesce(group_concat(tag, char(10)), '') FROM tags WHERE job = jobs.id)
FROM jobs WHERE id = ?;

-- name: ended_last
-- Jobs that ended in the last moments of the agent before, whose last words nobody may have heard.
SELECT id FROM (SELECT id, finished FROM jobs ORDER BY id DESC LIMIT 5000)
WHERE finished >= (SELECT max(at) FROM events WHERE verb NOT IN ('agent-started', 'agent-stopped')) - ?;

-- name: writing
-- Jobs that may have written something: those under way, and some that have ended (a JSON list).
SELECT id, name, schedule, (SELECT coalesce(group_concat(tag, char(10)), '') FROM tags WHERE job = jobs.id), started
FROM jobs WHERE finished IS NULL AND state <> 'queued' AND state IN ('running', 'suspended')
UNION ALL SELECT id, name, schedule, (SELECT coalesce(group_concat(tag, char(10)), '') FROM tags WHERE job = jobs.id), started
FROM jobs WHERE id IN (SELECT value FROM json_each(?));

-- name: zones
-- The zones in which schedules are planned, and what their files said.
SELECT name, fingerprint FROM zones ORDER BY name;

-- name: know_zone
-- A zone is used from now on.
INSERT INTO zones (name, fingerprint) VALUES (?, ?) ON CONFLICT DO NOTHING;

-- name: zone_changed
-- Its file says something else now.
UPDATE zones SET fingerprint = ? WHERE name = ?;

-- name: in_zone
-- The active schedules of a zone, a page at a time.
SELECT * FROM schedules WHERE id > ?2 AND state = 'active' AND instr(' ' || zones || ' ', ' ' || ?1 || ' ') ORDER BY id LIMIT 500;

-- name: declared
-- Things that files declare.
SELECT kind, name, owner, spec FROM declared ORDER BY kind, name;

-- name: declare
-- A file declares it so now.
INSERT INTO declared (kind, name, owner, spec, at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (kind, name) DO UPDATE SET owner = excluded.owner, spec = excluded.spec, at = excluded.at;

-- name: undeclare
-- It has left its file.
DELETE FROM declared WHERE kind = ? AND name = ?;
