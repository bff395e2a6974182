-- The dashboard's database, schema 6. Ids are UUIDs as 16 bytes, and a video's may be a
-- text of 17 to 128 bytes, with zeros behind it up to 17; times are ms since the Unix epoch. Each `row_check` is
-- row_check(…) of the row's other columns, in their order.

-- A small number in place of each processor's key, see `ledgers`, which every row of `counts` repeats.
CREATE TABLE processors (
    number    INTEGER PRIMARY KEY,
    processor BLOB    NOT NULL UNIQUE,
    row_check INTEGER NOT NULL
) STRICT;

-- The highest count that each processor has told of each video.
CREATE TABLE counts (
    video_id       BLOB    NOT NULL,
    processor      INTEGER NOT NULL REFERENCES processors,
    plays          INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    last_played_at INTEGER NOT NULL, -- 0: no play said so
    row_check      INTEGER NOT NULL,
    PRIMARY KEY (video_id, processor)
) STRICT, WITHOUT ROWID;

-- Plays in each minute, hour and day (UTC) that had any; buckets are counted from the Unix epoch.
CREATE TABLE history_minute (
    bucket    INTEGER NOT NULL,
    video_id  BLOB    NOT NULL,
    plays     INTEGER NOT NULL,
    row_check INTEGER NOT NULL,
    PRIMARY KEY (bucket, video_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE history_hour (
    bucket    INTEGER NOT NULL,
    video_id  BLOB    NOT NULL,
    plays     INTEGER NOT NULL,
    row_check INTEGER NOT NULL,
    PRIMARY KEY (bucket, video_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE history_day (
    bucket    INTEGER NOT NULL,
    video_id  BLOB    NOT NULL,
    plays     INTEGER NOT NULL,
    row_check INTEGER NOT NULL,
    PRIMARY KEY (bucket, video_id)
) STRICT, WITHOUT ROWID;

-- The charts, a point a minute.
CREATE TABLE points (
    minute              INTEGER PRIMARY KEY,
    plays               INTEGER NOT NULL,
    messages_per_second REAL    NOT NULL,
    realtime_ms         REAL,
    average_ms          REAL,
    p50_ms              REAL,
    p99_ms              REAL,
    queue_depth         INTEGER,
    row_check           INTEGER NOT NULL
) STRICT;

-- Which database this is, and what its tables hold. Another `dashboard` after each reset, and after a power loss that may
-- have taken commits with it, so that processors tell everything again.
CREATE TABLE identity (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    dashboard   BLOB    NOT NULL,
    boot        TEXT    NOT NULL, -- the start of the machine that it was last opened in
    closed      INTEGER,          -- 1: it was closed in order since; NULL: an older version has closed it, or not
    life        BLOB    NOT NULL, -- the heads of the journal's segments hold it
    segment     INTEGER,          -- where the changes begin that the tables do not have: the segment of the journal
    number      INTEGER,          -- and the number of the change; NULL: there is no journal yet
    count_rows  INTEGER NOT NULL, -- of `counts`
    count_plays INTEGER NOT NULL, -- their sum, modulo 2^64
    catalog_rows INTEGER NOT NULL, -- of `titles`, `changes` and `imports` together
    row_check   INTEGER NOT NULL
) STRICT;

-- Which plays of each producer are counted for good, over all processors: a watermark and the runs above it.
CREATE TABLE confirmed (
    producer   BLOB    PRIMARY KEY,
    watermark  INTEGER NOT NULL,
    above      TEXT    NOT NULL, -- JSON: [[start, end], ...]
    changed_at INTEGER NOT NULL,
    row_check  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Which ledger each processor has said to count in, and what its counts are kept under in `processors`: its own id, or another
-- since a loss of its ledger was accepted. A row without a processor: what is kept under that key is forgotten.
CREATE TABLE ledgers (
    key       BLOB    PRIMARY KEY,
    processor BLOB,
    life      BLOB,
    held      INTEGER NOT NULL, -- plays that the ledger has said to hold, at most; without a processor 1 for an import
    row_check INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What people know a video by; one of both at least.
CREATE TABLE titles (
    video_id  BLOB    PRIMARY KEY,
    title     TEXT,
    url       TEXT,
    by_hand   INTEGER NOT NULL, -- 1: somebody has set it, and plays do not change it
    row_check INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is shown of a video in another way than it is counted.
CREATE TABLE changes (
    video_id          BLOB    PRIMARY KEY,
    visibility        INTEGER, -- 0 shown, 1 hidden, 2 deleted; NULL: it was never set
    visibility_reason TEXT,
    visibility_at     INTEGER,
    correction        INTEGER, -- added to its counts; NULL: nothing
    correction_reason TEXT,
    correction_at     INTEGER,
    row_check         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Imports, and what their counts are kept under in `processors`.
CREATE TABLE imports (
    import    BLOB    PRIMARY KEY,
    key       BLOB    NOT NULL,
    name      TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    row_check INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who touched what: queue actions, resets, and what was changed of videos, the newest 10,000.
CREATE TABLE audit (
    number    INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    peer      TEXT    NOT NULL,
    action    TEXT    NOT NULL,
    target    TEXT    NOT NULL,
    outcome   TEXT    NOT NULL,
    row_check INTEGER NOT NULL
) STRICT;
