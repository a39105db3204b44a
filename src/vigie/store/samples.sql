-- db/samples.db, synchronous=NORMAL: what may be lost in a power cut.

CREATE TABLE IF NOT EXISTS lengths (    -- the index of a command's two streams
    job     INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at      INTEGER NOT NULL,          -- µs UTC
    out     INTEGER NOT NULL,          -- bytes written to out by then
    err     INTEGER NOT NULL,
    PRIMARY KEY (job, attempt, at)
) WITHOUT ROWID;
