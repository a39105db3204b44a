-- What the agent reads and writes. "name:" names a query, the line below says why.

-- name: intern_context
-- Store a context unless it is there.
INSERT INTO contexts (digest, cwd, env, umask, python, path) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET umask = umask RETURNING id;

-- name: context_name
-- What names a context by its content.
SELECT lower(hex(digest)) FROM contexts WHERE id = ?;

-- name: named_context
-- The context of such a name.
SELECT id FROM contexts WHERE digest = unhex(?);

-- name: task_name
-- What names a task by its content, and what people call it.
SELECT lower(hex(digest)), label FROM tasks WHERE id = ?;

-- name: named_task
-- The task of such a name.
SELECT id, label FROM tasks WHERE digest = unhex(?);

-- name: intern_task
-- Store a task unless it is there.
INSERT INTO tasks (digest, kind, argv, function, code, label, timeout, retries, backoff,
    backoff_max, jitter, grace, fresh, on_lost, max_output)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET fresh = fresh RETURNING id;

-- name: insert_job_given_id
-- One job as submitted, whose id was set aside.
INSERT INTO jobs (id, name, task, context, args, encoding, state, blocked_by, queue, priority, now,
    keyed, created, due, key, stdin)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_jobs_together
-- Many whose arguments are one JSON array, with ids from the first on.
INSERT INTO jobs (id, name, task, context, args, encoding, state, blocked_by, queue, priority, now,
    keyed, created, due, key, stdin)
SELECT ?1 + key, ?2, ?3, ?4, CAST(value AS BLOB), 'json', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14
FROM json_each(?15);

-- name: apart
-- The arguments of each job out of one JSON array.
SELECT CAST(value AS BLOB) FROM json_each(?) ORDER BY key;

-- name: last_id
-- The highest id ever given.
SELECT max(coalesce((SELECT max(id) FROM jobs), 0), coalesce((SELECT last FROM packs ORDER BY first DESC LIMIT 1), 0),
    coalesce((SELECT value FROM meta WHERE key = 'last_id'), 0));

-- name: job
-- A job for a step of its life; what its task says comes from the cache of tasks.
SELECT id, state, reason, blocked_by, ending, exit_code, signal, message,
    attempt, tries_from, epoch, queue, keyed, due, started, context, stdin, task
FROM jobs WHERE id = ?;

-- name: job_by_key
-- The job that an idempotency key names.
SELECT id FROM jobs WHERE key = ?;

-- name: move_job
-- A change of state, if the job still is where we think (compare-and-set).
UPDATE jobs SET state = ?, reason = ?, blocked_by = ?, ending = ?, exit_code = ?, signal = ?,
    message = ?, due = ?, attempt = ?, tries_from = ?, started = ?, epoch = epoch + 1
WHERE id = ? AND epoch = ?;

-- name: finish_job
-- The end of an attempt: what it left behind, with the change of state.
UPDATE jobs SET state = ?, reason = ?, blocked_by = ?, ending = ?, exit_code = ?, signal = ?,
    message = ?, due = ?, started = coalesce(?, started), finished = ?, duration = ?,
    result = ?, result_encoding = ?, error = ?, records = ?, peak_rss = ?, cpu = ?,
    epoch = epoch + 1
WHERE id = ? AND epoch = ?;

-- name: succeed_job
-- A good end that concerns nobody else, if the attempt is under way still (compare-and-set).
UPDATE jobs SET state = 'completed', started = ?4, finished = ?5, duration = ?6, result = ?9,
    records = ?10, result_encoding = ?11, cpu = ?7, peak_rss = ?8, epoch = epoch + 1
WHERE id = ?2 AND attempt = ?3 AND (state = 'assigned' OR state = 'running') AND ending IS NULL AND keyed = 0;

-- name: reopen_job
-- A retry by hand clears what the last life left.
UPDATE jobs SET state = ?, blocked_by = ?, reason = NULL, ending = NULL, exit_code = NULL,
    signal = NULL, message = NULL, due = NULL, finished = NULL, duration = NULL, result = NULL,
    result_encoding = NULL, error = NULL, records = NULL, tries_from = attempt, epoch = epoch + 1
WHERE id = ? AND epoch = ?;

-- name: ready
-- The next jobs of a queue in order.
SELECT id, epoch, attempt, priority, context, keyed, now, task FROM jobs
WHERE state = 'queued' AND queue = ?1 ORDER BY priority DESC, id LIMIT ?2;

-- name: ready_keyed
-- The same without those that lack a key (a claim checks again).
SELECT j.id, j.epoch, j.attempt, j.priority, j.context, j.keyed, j.now, j.task FROM jobs j
WHERE j.state = 'queued' AND j.queue = ?1
  AND (j.keyed = 0 OR NOT EXISTS (
    SELECT 1 FROM job_keys k WHERE k.job = j.id
      AND (SELECT count(*) FROM job_keys h WHERE h.key = k.key AND h.held = 1) >= k.most))
ORDER BY j.priority DESC, j.id LIMIT ?2;

-- name: ready_now
-- The same, those alone that pass the slots.
SELECT j.id, j.epoch, j.attempt, j.priority, j.context, j.keyed, j.now, j.task FROM jobs j
WHERE j.state = 'queued' AND j.queue = ?1 AND j.now = 1
  AND (j.keyed = 0 OR NOT EXISTS (
    SELECT 1 FROM job_keys k WHERE k.job = j.id
      AND (SELECT count(*) FROM job_keys h WHERE h.key = k.key AND h.held = 1) >= k.most))
ORDER BY j.priority DESC, j.id LIMIT ?2;

-- name: keyed_queues
-- The queues in which a job with keys waits for a slot.
SELECT DISTINCT queue FROM jobs WHERE state = 'queued' AND keyed = 1;

-- name: queues_ready
-- The queues in which something waits for a slot.
SELECT DISTINCT queue FROM jobs WHERE state = 'queued';

-- name: now_waiting
-- How many jobs that may pass the slots still wait in a queue.
SELECT count(*) FROM jobs INDEXED BY jobs_now WHERE state = 'queued' AND queue = ? AND now = 1;

-- name: keys_free
-- 1 if every key of a job has room.
SELECT NOT EXISTS (SELECT 1 FROM job_keys k WHERE k.job = ?
    AND (SELECT count(*) FROM job_keys h WHERE h.key = k.key AND h.held = 1) >= k.most);

-- name: hold_keys
-- A claimed job takes its keys …
UPDATE job_keys SET held = 1 WHERE job = ?;

-- name: release_keys
-- … and gives them back.
UPDATE job_keys SET held = 0 WHERE job = ? AND held = 1;

-- name: key_queues
-- The queues in which a freed key may let something begin.
SELECT DISTINCT j.queue FROM job_keys mine
JOIN job_keys other ON other.key = mine.key AND other.held = 0
JOIN jobs j ON j.id = other.job AND j.state = 'queued'
WHERE mine.job = ?;

-- name: claim_job
-- The dispatcher takes a job, if nobody else has.
UPDATE jobs SET state = ?, attempt = ?, started = ?, epoch = epoch + 1
WHERE id = ? AND epoch = ? AND state = 'queued';

-- name: insert_attempt
-- Recorded before it starts: the promise that it never starts twice.
INSERT INTO attempts (job, n, state, owner, epoch, worker, seq, created)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: intern_owner
-- Name an agent, its host and its boot by a number.
INSERT INTO owners (host, agent, boot) VALUES (?, ?, ?)
ON CONFLICT (host, agent, boot) DO UPDATE SET host = host RETURNING id;

-- name: attempt_started
-- The keeper's or the worker's word that it runs.
UPDATE attempts SET state = 'running', pid = ?, start_ticks = ?, started = ?, started_mono = ?
WHERE job = ? AND n = ? AND state IN ('assigned', 'running');

-- name: job_started
-- When it really began, as the keeper saw it; until then the claim stands for it.
UPDATE jobs SET started = ? WHERE id = ? AND attempt = ?;

-- name: end_attempt
-- The end of an attempt; with it its beginning, if that was not written before.
UPDATE attempts SET state = ?, started = coalesce(?, started), finished = ?, exit_code = ?,
    signal = ?, reason = ?, message = ?, cpu = ?, peak_rss = ?,
    pid = coalesce(?, pid), start_ticks = coalesce(?, start_ticks), started_mono = coalesce(?, started_mono)
WHERE job = ? AND n = ? AND state IN ('assigned', 'running');

-- name: succeed_attempt
-- The good end of an attempt.
UPDATE attempts SET state = 'ended', started = ?4, finished = ?5, cpu = ?7, peak_rss = ?8 WHERE job = ?2 AND n = ?3;

-- name: freeze_attempt
-- From now on its time does not count towards a timeout …
UPDATE attempts SET frozen_mono = ? WHERE job = ? AND n = ? AND frozen_mono IS NULL;

-- name: thaw_attempt
-- … and now it does again.
UPDATE attempts SET suspended = suspended + ?1 - frozen_mono, frozen_mono = NULL
WHERE job = ?2 AND n = ?3 AND frozen_mono IS NOT NULL;

-- name: open_attempts
-- Every attempt without a known end: the newest one of each job that is under way.
SELECT a.job, a.n, a.state, o.boot, a.worker, a.seq, a.pid, a.start_ticks, a.started, a.started_mono,
    a.suspended, a.frozen_mono, j.queue, j.state, j.ending, j.now, j.task, t.timeout, t.max_output, t.kind, t.grace
FROM jobs j INDEXED BY jobs_open CROSS JOIN attempts a ON a.job = j.id AND a.n = j.attempt
JOIN owners o ON o.id = a.owner JOIN tasks t ON t.id = j.task
WHERE j.finished IS NULL AND j.state <> 'queued' AND j.state IN ('assigned', 'running', 'suspended')
    AND a.state IN ('assigned', 'running')
ORDER BY a.worker, a.seq, a.job;

-- name: attempt
-- One attempt's identity and clock.
SELECT state, worker, seq, pid, start_ticks, started, started_mono, suspended, frozen_mono, o.boot
FROM attempts JOIN owners o ON o.id = owner WHERE job = ? AND n = ?;

-- name: unclaim_job
-- A command that was claimed ahead and did not begin is as it was before …
UPDATE jobs SET attempt = attempt - 1 WHERE id = ? AND attempt = ?;

-- name: unclaim_attempt
-- … and its attempt, which nobody has seen, is none.
DELETE FROM attempts WHERE job = ? AND n = ? AND state = 'assigned';

-- name: earlier_attempts
-- The attempts of a job before one, and when their main processes began (job, attempt).
SELECT n, start_ticks FROM attempts WHERE job = ? AND n < ? AND state <> 'withdrawn';

-- name: ended_attempt
-- An attempt that is over: its main process, and what it was told (1 if to end, 1 if to stand still).
SELECT a.pid, a.start_ticks, t.grace, a.reason IS NOT NULL AND (a.reason = 'stop' OR a.reason = 'timeout'),
    a.suspended > 0
FROM attempts a JOIN jobs j ON j.id = a.job JOIN tasks t ON t.id = j.task
WHERE a.job = ? AND a.n = ? AND a.state NOT IN ('assigned', 'running');

-- name: spawn_facts
-- What the keeper needs to run a command.
SELECT t.argv, c.cwd, c.env, c.umask, j.stdin, t.timeout, t.max_output, t.grace
FROM jobs j JOIN tasks t ON t.id = j.task JOIN contexts c ON c.id = j.context WHERE j.id = ?;

-- name: function_facts
-- What a worker needs to run functions (a JSON list of ids).
SELECT id, args, encoding, task, context,
    EXISTS (SELECT 1 FROM dependencies WHERE job = id AND mode = 'result')
FROM jobs WHERE id IN (SELECT value FROM json_each(?));

-- name: lot_facts
-- The same of all from one id to another, if they can go together (first, last).
SELECT min(task), min(context), CAST('[' || group_concat(coalesce(args, '[[],{}]')) || ']' AS BLOB)
FROM (SELECT task, context, args, encoding FROM jobs WHERE id BETWEEN ?1 AND ?2 ORDER BY id)
HAVING count(*) = ?2 - ?1 + 1 AND min(task) = max(task) AND min(context) = max(context)
    AND coalesce(max(encoding <> 'json'), 0) = 0
    AND NOT EXISTS (SELECT 1 FROM dependencies WHERE job BETWEEN ?1 AND ?2 AND mode = 'result');

-- name: task_code
-- How a worker finds a function.
SELECT function, code FROM tasks WHERE id = ?;

-- name: task_says
-- What a task says of its attempts; it never changes.
SELECT kind, retries, backoff, backoff_max, jitter, on_lost, grace, timeout, fresh FROM tasks WHERE id = ?;

-- name: context
-- A context whole.
SELECT cwd, env, umask, python, path FROM contexts WHERE id = ?;

-- name: add_dependency
-- What must end first.
INSERT OR REPLACE INTO dependencies (job, needs, mode, paths) VALUES (?, ?, ?, ?);

-- name: dependents
-- Who waits for a job.
SELECT job, mode FROM dependencies WHERE needs = ? ORDER BY job;

-- name: needs_of
-- What a job waits for, with how that stands.
SELECT d.needs, d.mode, j.state FROM dependencies d LEFT JOIN jobs j ON j.id = d.needs
WHERE d.job = ? ORDER BY d.needs;

-- name: results_for
-- What a function's arguments take from other jobs.
SELECT d.needs, d.paths, j.result, j.result_encoding, j.attempt
FROM dependencies d JOIN jobs j ON j.id = d.needs WHERE d.job = ? AND d.mode = 'result';

-- name: needed
-- Every job that an unfinished one waits for.
SELECT DISTINCT d.needs FROM dependencies d JOIN jobs j ON j.id = d.job WHERE j.finished IS NULL;

-- name: wanted_by
-- An open job whose arguments take the result of this one.
SELECT d.job FROM dependencies d JOIN jobs w ON w.id = d.job
WHERE d.needs = ? AND d.mode = 'result' AND w.finished IS NULL LIMIT 1;

-- name: result
-- What a job gave back.
SELECT state, reason, exit_code, signal, message, result, result_encoding, error, attempt
FROM jobs WHERE id = ?;

-- name: records
-- The last attempt's records, while they are small.
SELECT records FROM jobs WHERE id = ?;

-- name: states
-- How a job stands.
SELECT state, finished FROM jobs WHERE id = ?;

-- name: states_of
-- How many jobs stand (a JSON list of ids).
SELECT id, state FROM jobs WHERE id IN (SELECT value FROM json_each(?));

-- name: due_before
-- Whose time has come.
SELECT id FROM jobs WHERE state = 'blocked' AND blocked_by = 'time' AND due <= ? ORDER BY due, id LIMIT 500;

-- name: next_due
-- When the next one's time comes.
SELECT min(due) FROM jobs WHERE state = 'blocked' AND blocked_by = 'time';

-- name: open_inputs
-- Names under tmp/ that open jobs were submitted with.
SELECT stdin FROM jobs WHERE finished IS NULL AND state <> 'queued' AND stdin IS NOT NULL
UNION ALL SELECT stdin FROM jobs WHERE state = 'queued' AND stdin IS NOT NULL;

-- name: mark_relative
-- Their instant is a delay from now on (first id, last id).
UPDATE jobs SET relative = 1 WHERE id BETWEEN ? AND ?;

-- name: shift_delays
-- The wall clock was set by so much: delays, and the back-off of retries, keep their length.
UPDATE jobs SET due = due + ? WHERE finished IS NULL AND state <> 'queued' AND state = 'blocked' AND due IS NOT NULL
    AND (relative = 1 OR attempt > 0);

-- name: add_key
-- A concurrency key of a job.
INSERT OR REPLACE INTO job_keys (job, key, most) VALUES (?, ?, ?);

-- name: add_tag
-- A tag of a job.
INSERT OR IGNORE INTO tags (tag, job) VALUES (?, ?);

-- name: event
-- A line of the timeline.
INSERT INTO events (at, verb, job, object, before, after, uid, pid, program, terminal, detail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: event_of_many
-- One line for jobs that went the same way together: those from "job" to "last".
INSERT INTO events (at, verb, job, last, before, after, uid, pid, program, terminal, detail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: remember
-- The answer to a request, for a repeat after a broken connection.
INSERT INTO requests (rid, at, answer) VALUES (?, ?, ?) ON CONFLICT (rid) DO NOTHING;

-- name: remembered
-- The answer given before.
SELECT answer FROM requests WHERE rid = ?;

-- name: forget_requests
-- A day later nobody repeats it (ids before and after which to look, by their own time; a day ago).
DELETE FROM requests WHERE rid IN (SELECT rid FROM requests WHERE (rid < ? OR rid > ?) AND at < ? LIMIT 5000);

-- name: queue
-- The settings of a queue.
SELECT slots, rate, paused FROM queues WHERE name = ?;

-- name: queues
-- Every queue with its settings.
SELECT name, slots, rate, paused FROM queues ORDER BY name;

-- name: set_queue
-- New settings of a queue.
INSERT INTO queues (name, slots, rate, paused) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET slots = excluded.slots, rate = excluded.rate, paused = excluded.paused;

-- name: cursor
-- Where a reader stands.
SELECT position FROM cursors WHERE job = ? AND reader = ?;

-- name: set_cursor
-- Where a reader stands now.
INSERT OR REPLACE INTO cursors (job, reader, position, at) VALUES (?, ?, ?, ?);

-- name: add_worker
-- A worker about to be spawned.
INSERT INTO workers (digest, python, env, fresh, state, boot, created)
VALUES (?, ?, ?, ?, 'starting', ?, ?);

-- name: worker
-- How to start a worker.
SELECT python, env FROM workers WHERE id = ?;

-- name: worker_state
-- What became of a worker.
UPDATE workers SET state = ?, pid = coalesce(?, pid), start_ticks = coalesce(?, start_ticks) WHERE id = ?;

-- name: worker_started
-- The keeper's word that a worker runs.
UPDATE workers SET pid = ?, start_ticks = ? WHERE id = ?;

-- name: live_workers
-- Workers that may still live, and what they hold.
SELECT id, digest, python, fresh, state, boot, pid, start_ticks FROM workers WHERE state <> 'gone' ORDER BY id;

-- name: drop_workers
-- Rows of workers that are gone.
DELETE FROM workers WHERE state = 'gone';

-- name: remove_job
-- A job with everything of it (attempts, tags, keys and cursors go along).
DELETE FROM jobs WHERE id = ?;

-- name: remove_job_events
-- A removed job keeps one line in the timeline, its removal.
DELETE FROM events WHERE job = ? AND verb IN ('claimed', 'started');

-- name: old_finished
-- Finished jobs older than an instant, oldest ids first; failed and lost ones, and each
-- schedule's last ten, are kept longer.
SELECT id FROM jobs WHERE id > ?1 AND finished < ?2
  AND (finished < ?3 OR (state NOT IN ('failed', 'lost') AND (schedule IS NULL OR 10 = (
    SELECT count(*) FROM (SELECT 1 FROM jobs n WHERE n.name = jobs.schedule AND n.schedule = jobs.schedule AND n.id > jobs.id LIMIT 10)))))
  AND NOT EXISTS (SELECT 1 FROM dependencies d JOIN jobs w ON w.id = d.job
    WHERE d.needs = jobs.id AND d.mode = 'result' AND w.finished IS NULL)
ORDER BY id LIMIT ?4;

-- name: orphan_contexts
-- Contexts hold secrets: deleted with their last job.
DELETE FROM contexts WHERE id NOT IN (SELECT context FROM jobs) AND id NOT IN (SELECT context FROM packs)
    AND id NOT IN (SELECT context FROM schedules);

-- name: orphan_owners
-- Agents of whose attempts none is left.
DELETE FROM owners WHERE id NOT IN (SELECT owner FROM attempts) AND id NOT IN (SELECT owner FROM lots);

-- name: orphan_tasks
-- Tasks that no job has any more.
DELETE FROM tasks WHERE id NOT IN (SELECT task FROM jobs) AND id NOT IN (SELECT task FROM packs)
    AND id NOT IN (SELECT task FROM schedules);

-- name: busy
-- Which open jobs take the slots of a queue (for people).
SELECT id FROM jobs WHERE finished IS NULL AND state <> 'queued' AND state IN ('running', 'suspended') AND queue = ? ORDER BY id LIMIT 20;

-- name: counts
-- How many jobs are open, by state.
SELECT state, count(*) FROM jobs WHERE finished IS NULL AND state <> 'queued' GROUP BY state
UNION ALL SELECT state, count(*) FROM jobs WHERE state = 'queued' GROUP BY state;

-- name: meta
-- One setting of the store.
SELECT value FROM meta WHERE key = ?;

-- name: set_meta
-- Write one setting of the store.
INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: timeline_before
-- Events older than their keeping time.
DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < ? ORDER BY id LIMIT 5000);
