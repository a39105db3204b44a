-- The schema. Instants are integer microseconds UTC, durations integer
-- microseconds; argv, environment and paths are BLOBs of NUL-terminated items.
-- A partial index holds only rows that are waited for, so that a million
-- finished jobs cost the busy ones nothing. Where a row is written often, its
-- check is a chain of comparisons: for a list, SQLite fills a table each time.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;

-- What many jobs share, stored once: found again by the digest of its content.
CREATE TABLE contexts (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,   -- never reused: workers know it by this number
    digest BLOB NOT NULL UNIQUE,
    cwd    BLOB NOT NULL,
    env    BLOB NOT NULL,              -- KEY=VALUE items
    umask  INTEGER NOT NULL,
    python BLOB,                       -- interpreter of scripts and functions
    path   BLOB                        -- import path items of the submitter
);

CREATE TABLE tasks (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,   -- never reused: workers know it by this number
    digest      BLOB NOT NULL UNIQUE,
    kind        TEXT NOT NULL CHECK (kind IN ('command', 'function')),
    argv        BLOB,                  -- of a command
    function    TEXT,                  -- of a function: module:qualname, or a label when pickled
    code        BLOB,                  -- of a pickled function: the signed pickle
    label       TEXT NOT NULL,         -- what a person calls it: the line typed
    timeout     INTEGER,
    retries     INTEGER NOT NULL DEFAULT 0,
    backoff     INTEGER NOT NULL,
    backoff_max INTEGER NOT NULL,
    jitter      REAL NOT NULL,
    grace       INTEGER NOT NULL,
    fresh       INTEGER NOT NULL DEFAULT 0,
    on_lost     TEXT NOT NULL DEFAULT 'fail' CHECK (on_lost IN ('fail', 'rerun')),
    max_output  INTEGER NOT NULL
);

CREATE TABLE queues (
    name   TEXT PRIMARY KEY,
    slots  INTEGER,                    -- NULL: the default of that queue
    rate   REAL,                       -- starts a second; NULL: no limit
    paused INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE jobs (
    id         INTEGER PRIMARY KEY,    -- never reused: see jobs_removed
    name       TEXT,
    task       INTEGER NOT NULL REFERENCES tasks,
    context    INTEGER NOT NULL REFERENCES contexts,
    args       BLOB,                   -- of a function: its encoded arguments
    encoding   TEXT,                   -- of args: json or pickle
    state      TEXT NOT NULL CHECK (
                   state = 'queued' OR state = 'completed' OR state = 'assigned' OR state = 'running'
                   OR state = 'blocked' OR state = 'failed' OR state = 'suspended'
                   OR state = 'stopped' OR state = 'lost'),
    reason     TEXT,                   -- of failed
    blocked_by TEXT,                   -- of blocked: dependency, time or condition
    ending     TEXT,                   -- running, but told to end: stop or timeout
    queue      TEXT NOT NULL,
    priority   INTEGER NOT NULL DEFAULT 0,
    now        INTEGER NOT NULL DEFAULT 0,
    keyed      INTEGER NOT NULL DEFAULT 0,   -- has rows in job_keys
    created    INTEGER NOT NULL,
    due        INTEGER,                -- not before this instant
    relative   INTEGER,                -- 1: due was given as a delay, and moves when the clock is set
    started    INTEGER,                -- of the newest attempt
    finished   INTEGER,
    attempt    INTEGER NOT NULL DEFAULT 0,   -- number of the newest attempt
    tries_from INTEGER NOT NULL DEFAULT 0,   -- attempts before the last "retry" by hand
    epoch      INTEGER NOT NULL DEFAULT 0,   -- the fence: +1 at every change of state
    exit_code  INTEGER,
    signal     INTEGER,
    message    TEXT,                   -- why it failed, for people
    duration   INTEGER,                -- of the newest attempt, by the monotonic clock
    result     BLOB,
    result_encoding TEXT,              -- json, pickle, or file (jobs/…/result)
    error      BLOB,                   -- of an exception: JSON {type, message, traceback}
    records    BLOB,                   -- a function's records, while they are small
    stdin      TEXT,                   -- name of the file in tmp/ that becomes jobs/…/in
    peak_rss   INTEGER,                -- bytes
    cpu        INTEGER,
    key        TEXT,
    parent     INTEGER,
    schedule   TEXT,
    service    TEXT
);
CREATE INDEX jobs_ready ON jobs (queue, priority DESC, id) WHERE state = 'queued';
CREATE INDEX jobs_now ON jobs (queue) WHERE state = 'queued' AND now = 1;
CREATE INDEX jobs_due ON jobs (due) WHERE state = 'blocked' AND blocked_by = 'time';
CREATE INDEX jobs_open ON jobs (state, id) WHERE finished IS NULL AND state <> 'queued';  -- those are in jobs_ready
CREATE INDEX jobs_bad ON jobs (finished) WHERE state IN ('failed', 'lost');
CREATE INDEX jobs_named ON jobs (name, id) WHERE name IS NOT NULL;
CREATE UNIQUE INDEX jobs_key ON jobs (key) WHERE key IS NOT NULL;
CREATE INDEX jobs_service ON jobs (service, id) WHERE service IS NOT NULL;

-- The highest id ever given is remembered when its job goes: to do so with each job costs a page a commit.
CREATE TRIGGER jobs_removed AFTER DELETE ON jobs WHEN OLD.id > coalesce((SELECT max(id) FROM jobs), 0)
BEGIN
    INSERT INTO meta (key, value) VALUES ('last_id', OLD.id)
    ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value);
END;

-- Jobs of one request that have no row in "jobs" yet: tiny functions that differ in nothing but
-- their arguments. The row of each is written when it has ended; should anything else become of
-- one, all of them get theirs at once (packs.py).
CREATE TABLE packs (
    first    INTEGER PRIMARY KEY,      -- the ids from here on …
    last     INTEGER NOT NULL,
    next     INTEGER NOT NULL,         -- … are handed out up to here
    name     TEXT,
    task     INTEGER NOT NULL REFERENCES tasks,
    context  INTEGER NOT NULL REFERENCES contexts,
    queue    TEXT NOT NULL,
    priority INTEGER NOT NULL,
    created  INTEGER NOT NULL
);
CREATE TABLE pack_args (
    pack INTEGER PRIMARY KEY REFERENCES packs ON DELETE CASCADE,
    args TEXT NOT NULL                 -- a JSON array of [args, kwargs], one for each job
);
CREATE TABLE lots (                     -- attempts of such jobs that were handed out together: each the first
    pack    INTEGER NOT NULL REFERENCES packs ON DELETE CASCADE,
    first   INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    owner   INTEGER NOT NULL REFERENCES owners,
    worker  INTEGER NOT NULL,
    seq     INTEGER NOT NULL,          -- of the first
    created INTEGER NOT NULL,
    PRIMARY KEY (pack, first)
) WITHOUT ROWID;

-- Who ran attempts: one agent, from its start to its end.
CREATE TABLE owners (
    id    INTEGER PRIMARY KEY,
    host  TEXT NOT NULL,
    agent TEXT NOT NULL,               -- its id
    boot  TEXT NOT NULL,
    UNIQUE (host, agent, boot)
);

CREATE TABLE attempts (
    job         INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    n           INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (
                   state = 'assigned' OR state = 'ended' OR state = 'running'
                   OR state = 'lost' OR state = 'withdrawn'),
    owner       INTEGER NOT NULL REFERENCES owners,
    epoch       INTEGER NOT NULL,      -- of the job when it was claimed
    lease_until INTEGER,               -- NULL on one machine, where evidence decides
    worker      INTEGER,               -- of a function: the worker, and the
    seq         INTEGER,               -- sequence number in the worker's page
    pid         INTEGER,
    start_ticks INTEGER,               -- field 22 of /proc/PID/stat: with the boot, the identity
    created     INTEGER NOT NULL,
    started     INTEGER,
    started_mono INTEGER,              -- CLOCK_MONOTONIC, for timeouts across agents
    suspended   INTEGER NOT NULL DEFAULT 0,  -- µs spent suspended
    frozen_mono INTEGER,               -- suspended since, CLOCK_MONOTONIC
    finished    INTEGER,
    exit_code   INTEGER,
    signal      INTEGER,
    reason      TEXT,
    message     TEXT,
    cpu         INTEGER,
    peak_rss    INTEGER,
    PRIMARY KEY (job, n)
) WITHOUT ROWID;

CREATE TABLE dependencies (
    job   INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    needs INTEGER NOT NULL,
    mode  TEXT NOT NULL CHECK (mode IN ('completed', 'any', 'result')),
    paths TEXT,                        -- of a result: JSON, where in the arguments it goes
    PRIMARY KEY (job, needs)
) WITHOUT ROWID;
CREATE INDEX dependencies_needs ON dependencies (needs);

CREATE TABLE job_keys (                 -- concurrency keys: at most "most" at once hold it
    job  INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    key  TEXT NOT NULL,
    most INTEGER NOT NULL,
    held INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, key)
) WITHOUT ROWID;
CREATE INDEX job_keys_held ON job_keys (key) WHERE held = 1;
CREATE INDEX job_keys_key ON job_keys (key, job);

CREATE TABLE tags (
    tag TEXT NOT NULL,
    job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    PRIMARY KEY (tag, job)
) WITHOUT ROWID;
CREATE INDEX tags_job ON tags (job);

-- When to run what. An instant up to "planned" has its row in "firings"; "next" has none yet.
CREATE TABLE schedules (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    name     TEXT NOT NULL UNIQUE,
    owner    TEXT,                     -- the file that declares it; NULL: made by hand
    spec     TEXT NOT NULL,            -- JSON: what was typed, for people and for the next edit
    triggers TEXT NOT NULL,            -- JSON of triggers/when.py
    policy   TEXT NOT NULL,            -- JSON of policies.py: what differs from the defaults
    task     INTEGER NOT NULL REFERENCES tasks,
    context  INTEGER NOT NULL REFERENCES contexts,
    args     BLOB,                     -- of a function
    encoding TEXT,
    job      TEXT NOT NULL DEFAULT '{}',   -- JSON: queue, priority, tags, concurrency of its jobs
    state    TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'done')),
    until    INTEGER,                  -- of a paused one: resumes by itself
    zones    TEXT NOT NULL,            -- on whose rules its instants depend, a space between two
    relative INTEGER NOT NULL DEFAULT 0,   -- 1: intervals alone, which follow a clock that nobody sets …
    shift    INTEGER NOT NULL DEFAULT 0,   -- … and by how much they have moved with the wall clock since
    again    INTEGER NOT NULL DEFAULT 0,   -- 1: counts from the start or the end of its last run
    occasions INTEGER NOT NULL DEFAULT 0,  -- 1: waits for something that happens
    created  INTEGER NOT NULL,
    changed  INTEGER NOT NULL,
    planned  INTEGER NOT NULL,
    next     INTEGER,                  -- NULL: nothing comes, as far as is known
    due      INTEGER,                  -- "next" with its jitter
    started  INTEGER,                  -- its last run
    ended    INTEGER,
    runs     INTEGER NOT NULL DEFAULT 0,   -- all of them …
    by_hand  INTEGER NOT NULL DEFAULT 0    -- … and how many of them somebody asked for
);
CREATE INDEX schedules_due ON schedules (due) WHERE due IS NOT NULL;
CREATE INDEX schedules_until ON schedules (until) WHERE until IS NOT NULL;
CREATE INDEX schedules_occasions ON schedules (id) WHERE occasions = 1;
CREATE INDEX schedules_again ON schedules (name) WHERE again = 1;
CREATE INDEX schedules_owner ON schedules (owner, name) WHERE owner IS NOT NULL;
CREATE INDEX schedules_relative ON schedules (id) WHERE relative = 1;

-- What became of each planned instant; "outcome" NULL: it is still to come, or waits for a condition.
CREATE TABLE firings (
    schedule INTEGER NOT NULL REFERENCES schedules ON DELETE CASCADE,
    instant  INTEGER NOT NULL,
    due      INTEGER NOT NULL,
    last     INTEGER,                  -- of several skipped together: the last of them …
    count    INTEGER NOT NULL DEFAULT 1,   -- … and how many
    missed   INTEGER NOT NULL DEFAULT 0,   -- 1: nobody was there at its time, and it is caught up
    outcome  TEXT CHECK (outcome IN ('ran', 'late', 'caught-up', 'skipped')),
    reason   TEXT,                     -- of skipped: overlap condition blackout too-late asleep down paused limit
    detail   TEXT,                     -- a sentence
    cause    TEXT,                     -- what happened, where it was no clock: file:/srv/in/a.csv
    job      INTEGER,
    at       INTEGER,                  -- when that was decided
    PRIMARY KEY (schedule, instant)
) WITHOUT ROWID;
CREATE INDEX firings_open ON firings (due) WHERE outcome IS NULL;
CREATE INDEX firings_job ON firings (job) WHERE job IS NOT NULL;

-- What the files of zones said when instants were computed from them.
CREATE TABLE zones (
    name        TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL
) WITHOUT ROWID;

-- Files that a schedule has seen, so that what changes while no agent looks is found.
CREATE TABLE seen_files (
    schedule INTEGER NOT NULL REFERENCES schedules ON DELETE CASCADE,
    path     BLOB NOT NULL,
    size     INTEGER NOT NULL,
    mtime    INTEGER NOT NULL,         -- ns
    PRIMARY KEY (schedule, path)
) WITHOUT ROWID;

-- What files declare besides schedules: tasks and queues, each owned by its file.
CREATE TABLE declared (
    kind  TEXT NOT NULL CHECK (kind IN ('task', 'queue', 'project')),
    name  TEXT NOT NULL,
    owner TEXT NOT NULL,
    spec  TEXT NOT NULL,               -- JSON
    at    INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;

-- What is kept up, as it was declared.
CREATE TABLE services (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    name      TEXT NOT NULL UNIQUE,
    owner     TEXT,                    -- the file that declares it; NULL: made by hand
    spec      TEXT NOT NULL,           -- JSON: what was typed, for people and for the next edit
    plan      TEXT NOT NULL,           -- JSON of supervision/plan.py: what differs from the defaults
    mode      TEXT NOT NULL CHECK (mode IN ('automatic', 'manual', 'disabled')),
    task      INTEGER NOT NULL REFERENCES tasks,
    context   INTEGER NOT NULL REFERENCES contexts,
    args      BLOB,
    encoding  TEXT,
    job       TEXT NOT NULL DEFAULT '{}',  -- JSON: priority, tags of its lives
    removing  INTEGER NOT NULL DEFAULT 0,  -- 1: goes once its instances are down
    created   INTEGER NOT NULL,
    changed   INTEGER NOT NULL
);
CREATE INDEX services_owner ON services (owner, name) WHERE owner IS NOT NULL;

-- Each instance of a service: web, or web@1, web@2 …
CREATE TABLE instances (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    service  INTEGER NOT NULL REFERENCES services ON DELETE CASCADE,
    name     TEXT NOT NULL UNIQUE,
    desired  TEXT NOT NULL CHECK (desired IN ('up', 'down', 'paused')),
    state    TEXT NOT NULL CHECK (state IN (
                 'inactive', 'starting', 'ready', 'degraded', 'reloading', 'paused', 'stopping', 'backoff', 'failed')),
    cause    TEXT NOT NULL,            -- why it is in that state, for people
    since    INTEGER NOT NULL,
    job      INTEGER,                  -- the life under way, or the last one
    ready_since INTEGER,
    due      INTEGER,                  -- of backoff: the next try
    restarts INTEGER NOT NULL DEFAULT 0,   -- lives after the first that began of themselves, since a person's start
    failures INTEGER NOT NULL DEFAULT 0,   -- in a row
    status   TEXT,                     -- what it says of itself (STATUS=)
    detail   TEXT NOT NULL DEFAULT '{}'    -- JSON: what else supervision/life.py has to know
);
CREATE INDEX instances_service ON instances (service, id);

CREATE TABLE events (
    id       INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    verb     TEXT NOT NULL,            -- submitted claimed started ended stop … agent-started queue-set
    job      INTEGER,
    last     INTEGER,                  -- of many jobs at once: the last one; all from "job" on are meant
    object   TEXT,                     -- what else it is about: queue:imports
    before   TEXT,
    after    TEXT,
    uid      INTEGER,                  -- who, when a person did it
    pid      INTEGER,
    program  TEXT,
    terminal TEXT,
    detail   TEXT                      -- JSON, or a sentence
);
CREATE INDEX events_job ON events (job, id) WHERE job IS NOT NULL;
CREATE INDEX events_object ON events (object, id) WHERE object IS NOT NULL;
CREATE INDEX events_many ON events (job, last) WHERE last IS NOT NULL;

CREATE TABLE requests (                 -- answers kept for a day, for repeats
    rid    BLOB PRIMARY KEY,           -- begins with its time (rid.py): new ones are added at the end
    at     INTEGER NOT NULL,
    answer TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE cursors (                  -- where a reader of "receive" stands
    job      INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    reader   TEXT NOT NULL,
    position TEXT NOT NULL,            -- JSON: {"attempt": n, "out": bytes, "err": …, "records": …}
    at       INTEGER NOT NULL,
    PRIMARY KEY (job, reader)
) WITHOUT ROWID;

CREATE TABLE workers (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    digest  BLOB NOT NULL,             -- of interpreter and import path
    python  BLOB NOT NULL,
    env     BLOB NOT NULL,             -- what counts when the interpreter starts (LD_…, PYTHON…)
    fresh   INTEGER NOT NULL DEFAULT 0,
    state   TEXT NOT NULL CHECK (state IN ('starting', 'ready', 'gone')),
    boot    TEXT NOT NULL,
    pid     INTEGER,
    start_ticks INTEGER,
    created INTEGER NOT NULL
);
CREATE INDEX workers_live ON workers (id) WHERE state <> 'gone';
