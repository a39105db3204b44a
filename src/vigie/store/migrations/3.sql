-- To schema 3: services.
CREATE INDEX jobs_service ON jobs (service, id) WHERE service IS NOT NULL;
CREATE INDEX events_object ON events (object, id) WHERE object IS NOT NULL;
-- Jobs of a schedule bear its name, and are found by it.
DROP INDEX jobs_schedule;

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
