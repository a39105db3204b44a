-- What a reader needs to see jobs and attempts that have no row of their own (packs.py, unfolded.py).
-- The ids stand in a temporary table, so that a page of them is found as a page of rows is.

-- name: ids
-- Which jobs there are in packs.
CREATE TEMP TABLE folded_ids (id INTEGER PRIMARY KEY, pack INTEGER NOT NULL);

-- name: by_pack
-- To drop those of a pack that is gone.
CREATE INDEX temp.folded_pack ON folded_ids (pack);

-- name: jobs
-- Those without a row wait, or are handed out and have not ended.
CREATE TEMP VIEW folded_jobs AS
SELECT f.id AS id, p.name AS name, p.task AS task, p.context AS context,
    (SELECT CAST(json_extract(a.args, '$[' || (f.id - p.first) || ']') AS BLOB)
     FROM main.pack_args a WHERE a.pack = p.first) AS args,
    'json' AS encoding, CASE WHEN f.id < p.next THEN 'assigned' ELSE 'queued' END AS state, NULL AS reason,
    NULL AS blocked_by, NULL AS ending, p.queue AS queue, p.priority AS priority, 0 AS now, 0 AS keyed,
    p.created AS created, NULL AS due, NULL AS relative, NULL AS started, NULL AS finished,
    f.id < p.next AS attempt, 0 AS tries_from, f.id < p.next AS epoch, NULL AS exit_code, NULL AS signal,
    NULL AS message, NULL AS duration, NULL AS result, NULL AS result_encoding, NULL AS error, NULL AS records,
    NULL AS stdin, NULL AS peak_rss, NULL AS cpu, NULL AS "key", NULL AS parent, NULL AS schedule, NULL AS service
FROM temp.folded_ids f CROSS JOIN main.packs p ON p.first = f.pack
WHERE NOT EXISTS (SELECT 1 FROM main.jobs j WHERE j.id = f.id);

-- name: attempts
-- Those without a row were handed out and have not ended.
CREATE TEMP VIEW folded_attempts AS
SELECT f.id AS job, 1 AS n, 'assigned' AS state, l.owner AS owner, 1 AS epoch, NULL AS lease_until,
    l.worker AS worker, l.seq + f.id - l.first AS seq, NULL AS pid, NULL AS start_ticks, l.created AS created,
    NULL AS started, NULL AS started_mono, 0 AS suspended, NULL AS frozen_mono, NULL AS finished,
    NULL AS exit_code, NULL AS signal, NULL AS reason, NULL AS message, NULL AS cpu, NULL AS peak_rss
FROM temp.folded_ids f CROSS JOIN main.lots l ON l.pack = f.pack AND f.id BETWEEN l.first AND l.last
WHERE NOT EXISTS (SELECT 1 FROM main.jobs j WHERE j.id = f.id);
