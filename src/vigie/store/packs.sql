-- Packs: jobs of one request that have no row of their own before they end (packs.py).

-- name: packs
-- Every pack, in the order of ids.
SELECT first, last, next, name, task, context, queue, priority, created FROM packs ORDER BY first;

-- name: lots
-- What was handed out of a pack.
SELECT first, last, owner, worker, seq, created FROM lots WHERE pack = ? ORDER BY first;

-- name: ended
-- Which of a pack have a row: they have ended (first, last).
SELECT id FROM jobs WHERE id BETWEEN ? AND ?;

-- name: length
-- How many jobs' arguments a JSON array holds.
SELECT json_array_length(?);

-- name: add
-- A new pack.
INSERT INTO packs (first, last, next, name, task, context, queue, priority, created)
VALUES (?1, ?2, ?1, ?3, ?4, ?5, ?6, ?7, ?8);

-- name: add_args
-- Its arguments, apart from what is written often.
INSERT INTO pack_args (pack, args) VALUES (?, ?);

-- name: args
-- The arguments of each job of a pack.
SELECT CAST(value AS BLOB) FROM pack_args, json_each(pack_args.args) WHERE pack = ? ORDER BY key;

-- name: advance
-- The next ones are handed out, if nobody else has them (new next, pack, old next).
UPDATE packs SET next = ? WHERE first = ? AND next = ?;

-- name: add_lot
-- The record of their attempts, before they start.
INSERT INTO lots (pack, first, last, owner, worker, seq, created) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: end_job
-- A job that has ended well gets its row: what its pack says, and what its worker said of it.
INSERT INTO jobs (id, name, task, context, args, encoding, state, queue, priority, created, attempt, epoch,
    started, finished, duration, cpu, peak_rss, result, records, result_encoding)
VALUES (?, ?, ?, ?, ?, 'json', 'completed', ?, ?, ?, 1, 2, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: end_attempt
-- And its attempt.
INSERT INTO attempts (job, n, state, epoch, owner, worker, seq, created, started, finished, cpu, peak_rss)
VALUES (?, 1, 'ended', 1, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: unfold_jobs
-- All that have no row yet get theirs, as it stands.
INSERT INTO jobs (id, name, task, context, args, encoding, state, queue, priority, created, attempt, epoch)
SELECT p.first + a.key, p.name, p.task, p.context, CAST(a.value AS BLOB), 'json',
    CASE WHEN p.first + a.key < p.next THEN 'assigned' ELSE 'queued' END, p.queue, p.priority, p.created,
    p.first + a.key < p.next, p.first + a.key < p.next
FROM packs p JOIN pack_args ON pack = p.first JOIN json_each(pack_args.args) a
WHERE p.first = ?1 AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = p.first + a.key);

-- name: unfold_attempts
-- And those that were handed out their attempts.
INSERT INTO attempts (job, n, state, owner, epoch, worker, seq, created)
SELECT j.id, 1, 'assigned', l.owner, 1, l.worker, l.seq + j.id - l.first, l.created
FROM lots l JOIN jobs j ON j.id BETWEEN l.first AND l.last
WHERE l.pack = ?1 AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.job = j.id AND a.n = 1);

-- name: drop
-- A pack none of whose jobs lacks its row.
DELETE FROM packs WHERE first = ?;

-- name: open_lots
-- Attempts that have no row: what is common to those of a lot.
SELECT l.first, l.last, l.seq, l.worker, o.boot, p.queue, p.task, t.timeout, t.max_output, t.kind, t.grace
FROM lots l JOIN packs p ON p.first = l.pack JOIN owners o ON o.id = l.owner JOIN tasks t ON t.id = p.task
ORDER BY l.worker, l.seq;

-- name: ranges
-- The ids of every pack.
SELECT first, last FROM packs;
