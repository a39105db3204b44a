-- From schema 1 to 2: schedules.
CREATE INDEX jobs_schedule ON jobs (schedule, id) WHERE schedule IS NOT NULL;

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
