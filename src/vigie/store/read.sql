-- What is read to be shown. Lists go from the newest backwards along a key, a
-- page at a time: the reader's `ids_*` queries choose the ids of a page by one
-- index each, and `jobs` fetches the rows of that page.

-- name: meta
-- The store's own numbers.
SELECT key, value FROM meta WHERE key IN ('schema', 'min_reader');

-- name: filter
-- A fragment, put where another query says {filter}: selection.Filter.
(:by_hand = 0 OR (jobs.schedule IS NULL AND jobs.service IS NULL AND jobs.parent IS NULL))
  AND (:states IS NULL OR +jobs.state IN (SELECT value FROM json_each(:states)))
  AND (:name IS NULL OR jobs.name GLOB :name)
  AND (:queue IS NULL OR +jobs.queue = :queue)
  AND (:since IS NULL OR jobs.created >= :since)
  AND (:schedule IS NULL OR jobs.schedule = :schedule)
  AND (:service IS NULL OR jobs.service = :service)
  AND (:parent IS NULL OR jobs.parent = :parent)
  AND (:tags IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(:tags) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM tags WHERE tags.tag = wanted.value AND tags.job = jobs.id)));

-- name: ids_newest
-- A page of ids, newest first, along the primary key.
SELECT id, finished FROM jobs WHERE id < :before AND {filter} ORDER BY id DESC LIMIT :limit;

-- name: ids_named
-- The same for one exact name, along jobs_named.
SELECT id, finished FROM jobs INDEXED BY jobs_named
WHERE jobs.name = :exact AND id < :before AND {filter} ORDER BY id DESC LIMIT :limit;

-- name: ids_served
-- The same for the lives of one service, along jobs_service.
SELECT id, finished FROM jobs INDEXED BY jobs_service
WHERE jobs.service = :service AND id < :before AND {filter} ORDER BY id DESC LIMIT :limit;

-- name: ids_tagged
-- The same for one tag, along the key of tags.
SELECT jobs.id AS id, jobs.finished AS finished
FROM tags AS hung CROSS JOIN jobs ON jobs.id = hung.job
WHERE hung.tag = :tag AND hung.job < :before AND {filter} ORDER BY hung.job DESC LIMIT :limit;

-- name: ids_open
-- The same for one state that has not ended, along jobs_open.
SELECT id, finished FROM jobs INDEXED BY jobs_open
WHERE finished IS NULL AND jobs.state <> 'queued' AND jobs.state = :state AND id < :before AND {filter}
ORDER BY id DESC LIMIT :limit;

-- name: ids_queued
-- The same for those that wait for a slot, along jobs_ready.
SELECT id, finished FROM jobs INDEXED BY jobs_ready
WHERE jobs.state = 'queued' AND id < :before AND {filter} ORDER BY id DESC LIMIT :limit;

-- name: ids_bad
-- Failed and lost ones, those that ended last first, along jobs_bad.
SELECT id, finished FROM jobs INDEXED BY jobs_bad
WHERE jobs.state IN ('failed', 'lost') AND (finished, id) < (:ended, :before) AND {filter}
ORDER BY finished DESC, id DESC LIMIT :limit;

-- name: jobs
-- The rows of chosen ids, without the large columns.
SELECT j.id, j.name, j.state, j.reason, j.blocked_by, j.ending, j.queue, j.priority, j.now, j.keyed,
    j.created, j.due, j.started, j.finished, j.attempt, j.tries_from, j.exit_code, j.signal, j.message,
    j.duration, j.result_encoding, j.peak_rss, j.cpu, j.key, j.parent, j.schedule, j.service, j.context,
    t.kind, t.argv, t.function, t.label, t.timeout, t.retries, t.backoff, t.backoff_max, t.jitter, t.grace,
    t.fresh, t.on_lost, t.max_output, c.cwd, c.python, o.host, a.pid, a.suspended, a.worker,
    (SELECT json_group_array(tag) FROM tags WHERE tags.job = j.id) AS tags
FROM json_each(:ids) AS chosen CROSS JOIN jobs AS j ON j.id = chosen.value
JOIN tasks AS t ON t.id = j.task JOIN contexts AS c ON c.id = j.context
LEFT JOIN attempts AS a ON a.job = j.id AND a.n = j.attempt LEFT JOIN owners AS o ON o.id = a.owner;

-- name: known
-- Which of these ids exist, and their states.
SELECT j.id, j.state FROM json_each(:ids) AS chosen CROSS JOIN jobs AS j ON j.id = chosen.value;

-- name: named
-- The newest job of a name.
SELECT id FROM jobs INDEXED BY jobs_named WHERE name = :name ORDER BY id DESC LIMIT 1;

-- name: newest
-- The newest job started by hand.
SELECT id FROM jobs WHERE schedule IS NULL AND service IS NULL AND parent IS NULL ORDER BY id DESC LIMIT 1;

-- name: names
-- Names lately used, to guess what was meant.
SELECT DISTINCT name FROM (SELECT name FROM jobs WHERE name IS NOT NULL ORDER BY id DESC LIMIT 500);

-- name: content
-- The large columns of one job.
SELECT args, encoding, result, result_encoding, error, records FROM jobs WHERE id = :job;

-- name: context
-- The context of a job.
SELECT c.cwd, c.env, c.umask, c.python, c.path
FROM jobs AS j JOIN contexts AS c ON c.id = j.context WHERE j.id = :job;

-- name: attempts
-- The attempts of a job, first first.
SELECT a.*, o.host, o.agent, o.boot FROM attempts AS a JOIN owners AS o ON o.id = a.owner
WHERE a.job = :job ORDER BY a.n;

-- name: dependencies
-- What a job waits for.
SELECT d.needs, d.mode, j.state, j.name, j.reason
FROM dependencies AS d LEFT JOIN jobs AS j ON j.id = d.needs WHERE d.job = :job ORDER BY d.needs;

-- name: dependents
-- Who waits for a job.
SELECT d.job, d.mode, j.state, j.name
FROM dependencies AS d JOIN jobs AS j ON j.id = d.job WHERE d.needs = :job ORDER BY d.job LIMIT 100;

-- name: keys
-- The concurrency keys of a job, and who holds each.
SELECT k.key, k.most, k.held,
    (SELECT json_group_array(h.job) FROM job_keys AS h WHERE h.key = k.key AND h.held = 1) AS holders
FROM job_keys AS k WHERE k.job = :job ORDER BY k.key;

-- name: counts
-- How many jobs have not ended, by state.
SELECT state, count(*) AS n FROM jobs WHERE finished IS NULL AND state <> 'queued' GROUP BY state
UNION ALL SELECT state, count(*) AS n FROM jobs WHERE state = 'queued' GROUP BY state;

-- name: bad_since
-- How many failed or were lost since an instant.
SELECT count(*) FROM jobs INDEXED BY jobs_bad WHERE state IN ('failed', 'lost') AND finished >= :since AND service IS NULL;

-- name: queues
-- The queues that were set up.
SELECT name, slots, rate, paused FROM queues ORDER BY name;

-- name: queue_waiting
-- How many wait in each queue, along jobs_ready.
SELECT queue, count(*) AS n FROM jobs WHERE state = 'queued' GROUP BY queue;

-- name: queue_busy
-- Who has a slot, or passed the slots.
SELECT j.queue, j.id, j.state, j.now, a.worker FROM jobs AS j INDEXED BY jobs_open
LEFT JOIN attempts AS a ON a.job = j.id AND a.n = j.attempt
WHERE j.finished IS NULL AND j.state <> 'queued' AND j.state IN ('running', 'suspended', 'assigned') ORDER BY j.id;

-- name: ahead
-- How many of its queue come before a queued job, and have not been handed out.
SELECT count(*) FROM jobs INDEXED BY jobs_ready
WHERE state = 'queued' AND queue = :queue AND :assigned = 0
    AND (priority > :priority OR (priority = :priority AND id < :job));

-- name: assigned_ahead
-- How many of its queue come before it, and were handed out and have not begun.
SELECT count(*) FROM jobs INDEXED BY jobs_open
WHERE finished IS NULL AND state <> 'queued' AND state = 'assigned' AND queue = :queue
    AND (:assigned = 0 OR priority > :priority OR (priority = :priority AND id < :job));

-- name: events_back
-- A page of events, newest first.
SELECT * FROM events
WHERE id < :before AND (:since_event IS NULL OR at >= :since_event) AND (:about = 0 OR EXISTS (
    SELECT 1 FROM jobs WHERE jobs.id BETWEEN events.job AND coalesce(events.last, events.job) AND {filter}))
ORDER BY id DESC LIMIT :limit;

-- name: events_on
-- A page of events after one, oldest first.
SELECT * FROM events
WHERE id > :after AND (:since_event IS NULL OR at >= :since_event) AND (:about = 0 OR EXISTS (
    SELECT 1 FROM jobs WHERE jobs.id BETWEEN events.job AND coalesce(events.last, events.job) AND {filter}))
ORDER BY id LIMIT :limit;

-- name: events_job
-- The events of one job after one of them, oldest first, along events_job; and those it shares with others.
SELECT * FROM events WHERE job = :job AND id > :after
UNION ALL
SELECT * FROM events INDEXED BY events_many WHERE last IS NOT NULL AND job < :job AND last >= :job AND id > :after
ORDER BY id LIMIT :limit;

-- name: newest_event
-- The id of the last event.
SELECT max(id) FROM events;

-- name: cursor
-- Where a reader of "receive" stands.
SELECT position, at FROM cursors WHERE job = :job AND reader = :reader;

-- name: lengths
-- A page of the index of a command's streams, in order. (samples.db)
SELECT at, out, err FROM lengths WHERE job = :job AND attempt = :attempt AND at > :after ORDER BY at LIMIT :limit;

-- name: lengths_back
-- The same from the end backwards. (samples.db)
SELECT at, out, err FROM lengths WHERE job = :job AND attempt = :attempt AND at < :before ORDER BY at DESC LIMIT :limit;

-- name: length_before
-- The last entry before an instant. (samples.db)
SELECT at, out, err FROM lengths WHERE job = :job AND attempt = :attempt AND at < :at ORDER BY at DESC LIMIT 1;
