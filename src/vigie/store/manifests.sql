-- What applying a file reads and writes. "name:" names a query, the line below says why.

-- name: prepare
-- Where the rows of a file wait until all of them are there; gone with the connection.
CREATE TEMP TABLE IF NOT EXISTS staging (id, parts);
CREATE TEMP TABLE IF NOT EXISTS new_tasks (
    digest BLOB PRIMARY KEY, kind, argv, function, code, label, timeout, retries, backoff, backoff_max, jitter, grace,
    fresh, on_lost, max_output) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS new_contexts (digest BLOB PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS new_schedules (
    name TEXT PRIMARY KEY, how, spec, policy, task, context, args, encoding, job, queue, delay, triggers, zones, relative,
    again, occasions, planned, next, told) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS new_declared (kind, name, spec, told, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS new_services (name TEXT PRIMARY KEY, request) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS gone (kind, name, PRIMARY KEY (kind, name)) WITHOUT ROWID;

-- name: staged
-- Whose rows wait, and how many parts of them have come.
SELECT id, parts FROM temp.staging;

-- name: stage
-- The same, now.
INSERT INTO temp.staging VALUES (?, ?);

-- name: clear_count
-- The count is written anew.
DELETE FROM temp.staging;

-- name: clear
-- Nothing waits any more.
DELETE FROM temp.staging; DELETE FROM temp.new_tasks; DELETE FROM temp.new_contexts; DELETE FROM temp.new_schedules;
DELETE FROM temp.new_declared; DELETE FROM temp.new_services; DELETE FROM temp.gone;

-- name: stage_task
-- A task of the file.
INSERT OR IGNORE INTO temp.new_tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: stage_context
-- Surroundings of the file's tasks, and their number in the store.
INSERT OR REPLACE INTO temp.new_contexts VALUES (?, ?);

-- name: stage_schedule
-- A schedule that is new ("add"), has other triggers ("move"), or is another in something else ("keep").
INSERT INTO temp.new_schedules VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: stage_declared
-- A task or queue that is new or another.
INSERT INTO temp.new_declared VALUES (?, ?, ?, ?);

-- name: stage_served
-- A service that is new or another.
INSERT INTO temp.new_services VALUES (?, ?);

-- name: new_services
-- Those: the request of each.
SELECT request FROM temp.new_services ORDER BY name;

-- name: take_over_services
-- The same for services.
UPDATE services SET owner = ?2 WHERE owner = ?1;

-- name: stage_gone
-- What has left the file.
INSERT INTO temp.gone VALUES (?, ?);

-- name: project
-- The files that own things.
SELECT name, owner, spec FROM declared WHERE kind = 'project' AND (owner = ?1 OR name = ?2);

-- name: taken
-- A name that is to be added and is there.
SELECT s.name, s.owner FROM temp.new_schedules n JOIN schedules s ON s.name = n.name WHERE n.how = 'add' LIMIT 1;

-- name: strayed
-- A name that is to be changed and is not the file's any more.
SELECT n.name FROM temp.new_schedules n LEFT JOIN schedules s ON s.name = n.name AND s.owner = ?1
WHERE n.how <> 'add' AND s.id IS NULL
UNION ALL SELECT g.name FROM temp.gone g LEFT JOIN schedules s ON s.name = g.name AND s.owner = ?1
WHERE g.kind = 'schedule' AND s.id IS NULL LIMIT 1;

-- name: others
-- A task or queue that another file declares.
SELECT d.kind, d.name, d.owner FROM temp.new_declared n JOIN declared d ON d.kind = n.kind AND d.name = n.name
WHERE d.owner <> ?1 LIMIT 1;

-- name: no_queue
-- A queue that a schedule needs and that is nowhere.
SELECT n.queue, n.name FROM temp.new_schedules n
WHERE n.queue IS NOT NULL AND n.queue NOT IN ('default', 'schedules') AND n.queue NOT IN (SELECT name FROM queues)
    AND n.queue NOT IN (SELECT name FROM temp.new_declared WHERE kind = 'queue') LIMIT 1;

-- name: take_over_schedules
-- What a file that was moved declared is its own under its new name.
UPDATE schedules SET owner = ?2 WHERE owner = ?1;

-- name: take_over_declared
-- The same for tasks, queues and the project.
UPDATE declared SET owner = ?2 WHERE owner = ?1;

-- name: tell_changes
-- Lines of the timeline for schedules: what they say is another …
INSERT INTO events (at, verb, object, before, after, uid, pid, program, terminal)
SELECT ?1, CASE n.how WHEN 'add' THEN 'schedule-added' ELSE 'schedule-changed' END, 'schedule:' || n.name,
    CASE WHEN s.spec NOT LIKE '%"env":%' THEN s.spec END, coalesce(n.told, n.spec), ?2, ?3, ?4, ?5
FROM temp.new_schedules n LEFT JOIN schedules s ON s.name = n.name ORDER BY n.name;

-- name: tell_gone
-- … or they are gone.
INSERT INTO events (at, verb, object, before, uid, pid, program, terminal)
SELECT ?1, g.kind || '-removed', g.kind || ':' || g.name, CASE WHEN s.spec NOT LIKE '%"env":%' THEN s.spec END,
    ?2, ?3, ?4, ?5
FROM temp.gone g LEFT JOIN schedules s ON g.kind = 'schedule' AND s.name = g.name WHERE g.kind <> 'service'
ORDER BY g.kind, g.name;

-- name: tell_declared
-- The same for tasks.
INSERT INTO events (at, verb, object, after, uid, pid, program, terminal)
SELECT ?1, 'task-declared', 'task:' || n.name, coalesce(n.told, n.spec), ?2, ?3, ?4, ?5
FROM temp.new_declared n WHERE n.kind = 'task' ORDER BY n.name;

-- name: tasks
-- What runs, unless it is there.
INSERT INTO tasks (digest, kind, argv, function, code, label, timeout, retries, backoff, backoff_max, jitter, grace,
    fresh, on_lost, max_output)
SELECT * FROM temp.new_tasks WHERE true ON CONFLICT (digest) DO NOTHING;

-- name: add
-- New schedules.
INSERT INTO schedules (name, owner, spec, triggers, policy, task, context, args, encoding, job, zones, relative, again,
    occasions, created, changed, planned, next, due)
SELECT n.name, ?1, n.spec, n.triggers, n.policy, t.id, c.id, CAST(n.args AS BLOB), n.encoding, n.job, n.zones, n.relative,
    n.again, n.occasions, ?2, ?2, n.planned, n.next, n.next + n.delay
FROM temp.new_schedules n JOIN tasks t ON t.digest = n.task JOIN temp.new_contexts c ON c.digest = n.context
WHERE n.how = 'add' ORDER BY n.name;

-- name: come
-- Those that are to come at other times, of which something has come or is skipped by a pause.
SELECT s.* FROM temp.new_schedules n JOIN schedules s ON s.name = n.name
WHERE n.how = 'move' AND (s.next <= ? OR s.state = 'paused') ORDER BY s.id;

-- name: withdraw
-- What is planned of those that have other triggers, and still to come, is not.
DELETE FROM firings WHERE outcome IS NULL AND cause IS NULL AND instant > ?1 AND schedule IN (
    SELECT s.id FROM temp.new_schedules n JOIN schedules s ON s.name = n.name WHERE n.how = 'move');

-- name: move
-- They come at other times from now on; what they have done stays.
UPDATE schedules SET triggers = n.triggers, zones = n.zones, relative = n.relative, shift = 0, again = n.again,
    occasions = n.occasions, planned = n.planned, next = CASE schedules.state WHEN 'paused' THEN NULL ELSE n.next END,
    until = CASE schedules.state WHEN 'done' THEN NULL ELSE schedules.until END,
    state = CASE schedules.state WHEN 'done' THEN 'active' ELSE schedules.state END
FROM temp.new_schedules n WHERE n.name = schedules.name AND n.how = 'move';

-- name: change
-- What else is another.
UPDATE schedules SET spec = n.spec, policy = n.policy, task = t.id, context = c.id, args = CAST(n.args AS BLOB),
    encoding = n.encoding, job = n.job, changed = ?1,
    due = CASE schedules.state WHEN 'paused' THEN NULL ELSE schedules.next + n.delay END
FROM temp.new_schedules n JOIN tasks t ON t.digest = n.task JOIN temp.new_contexts c ON c.digest = n.context
WHERE n.name = schedules.name AND n.how <> 'add';

-- name: remove
-- Schedules that have left the file; their jobs stay.
DELETE FROM schedules WHERE name IN (SELECT name FROM temp.gone WHERE kind = 'schedule') AND owner = ?;

-- name: declare
-- Tasks and queues as the file has them.
INSERT INTO declared (kind, name, owner, spec, at) SELECT kind, name, ?1, spec, ?2 FROM temp.new_declared WHERE true
ON CONFLICT (kind, name) DO UPDATE SET owner = excluded.owner, spec = excluded.spec, at = excluded.at;

-- name: undeclare
-- Those that have left it.
DELETE FROM declared WHERE owner = ? AND (kind, name) IN (SELECT kind, name FROM temp.gone);

-- name: drop_projects
-- What a file said of itself goes before it says it anew.
DELETE FROM declared WHERE kind = 'project' AND owner = ?;

-- name: declare_project
-- A file that owns things, and how often it was applied.
INSERT INTO declared (kind, name, owner, spec, at) VALUES ('project', ?, ?, ?, ?);

-- name: new_queues
-- Queues that are new or another: name, spec.
SELECT name, spec FROM temp.new_declared WHERE kind = 'queue' ORDER BY name;

-- name: gone_names
-- What has left, of one kind.
SELECT name FROM temp.gone WHERE kind = ? ORDER BY name;

-- name: queue_needed
-- 1 if a job that has not ended, or a schedule, names a queue.
SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'queued' AND queue = ?1)
    OR EXISTS (SELECT 1 FROM jobs WHERE finished IS NULL AND state <> 'queued' AND +queue = ?1)
    OR EXISTS (SELECT 1 FROM packs WHERE queue = ?1)
    OR EXISTS (SELECT 1 FROM schedules WHERE job LIKE '%"queue"%' AND job ->> 'queue' = ?1)
    OR EXISTS (SELECT 1 FROM declared WHERE kind = 'task' AND spec ->> 'queue' = ?1);

-- name: drop_queue
-- A queue that nobody needs.
DELETE FROM queues WHERE name = ?;

-- name: eventful
-- New ones, and those with other triggers, that count from their runs or wait for something.
SELECT s.* FROM temp.new_schedules n JOIN schedules s ON s.name = n.name
WHERE n.how <> 'keep' AND (n.again = 1 OR n.occasions = 1);

-- name: not_again
-- Those that do not count from their runs, or not any more.
SELECT name FROM temp.new_schedules WHERE how = 'move' AND again = 0
UNION ALL SELECT name FROM temp.gone WHERE kind = 'schedule';

-- name: zones
-- Every zone on which the new instants depend, as they stand in one text each.
SELECT DISTINCT zones FROM temp.new_schedules WHERE zones IS NOT NULL;

-- name: known_files
-- For the index of names: the files that own things, and their projects.
SELECT owner, spec ->> 'project' FROM declared WHERE kind = 'project' ORDER BY owner;

-- name: known_tasks
-- For the index of names: declared tasks.
SELECT name FROM declared WHERE kind = 'task' ORDER BY name;
