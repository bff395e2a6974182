-- From schema 3: every row has a check, and changes that the tables do not have are in a journal. The identity, and the rows
-- of `log`, are brought over by `migrate`.
DROP INDEX confirmed_by_changed_at;
ALTER TABLE processors RENAME TO old_processors;
CREATE TABLE processors (
    number    INTEGER PRIMARY KEY,
    processor BLOB    NOT NULL UNIQUE,
    row_check INTEGER NOT NULL
) STRICT;
INSERT INTO processors
    SELECT number, processor, row_check(number, processor)
    FROM old_processors ORDER BY number;
ALTER TABLE counts RENAME TO old_counts;
CREATE TABLE counts (
    video_id       BLOB    NOT NULL,
    processor      INTEGER NOT NULL REFERENCES processors,
    plays          INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    last_played_at INTEGER NOT NULL,
    row_check      INTEGER NOT NULL,
    PRIMARY KEY (video_id, processor)
) STRICT, WITHOUT ROWID;
INSERT INTO counts
    SELECT video_id, processor, plays, updated_at, last_played_at, row_check(video_id, processor, plays, updated_at, last_played_at)
    FROM old_counts ORDER BY video_id, processor;
DROP TABLE old_counts;
DROP TABLE old_processors;
ALTER TABLE history_minute RENAME TO old_history_minute;
CREATE TABLE history_minute (
    bucket    INTEGER NOT NULL,
    video_id  BLOB    NOT NULL,
    plays     INTEGER NOT NULL,
    row_check INTEGER NOT NULL,
    PRIMARY KEY (bucket, video_id)
) STRICT, WITHOUT ROWID;
INSERT INTO history_minute
    SELECT bucket, video_id, plays, row_check(bucket, video_id, plays)
    FROM old_history_minute ORDER BY bucket, video_id;
DROP TABLE old_history_minute;
ALTER TABLE history_hour RENAME TO old_history_hour;
CREATE TABLE history_hour (
    bucket    INTEGER NOT NULL,
    video_id  BLOB    NOT NULL,
    plays     INTEGER NOT NULL,
    row_check INTEGER NOT NULL,
    PRIMARY KEY (bucket, video_id)
) STRICT, WITHOUT ROWID;
INSERT INTO history_hour
    SELECT bucket, video_id, plays, row_check(bucket, video_id, plays)
    FROM old_history_hour ORDER BY bucket, video_id;
DROP TABLE old_history_hour;
ALTER TABLE history_day RENAME TO old_history_day;
CREATE TABLE history_day (
    bucket    INTEGER NOT NULL,
    video_id  BLOB    NOT NULL,
    plays     INTEGER NOT NULL,
    row_check INTEGER NOT NULL,
    PRIMARY KEY (bucket, video_id)
) STRICT, WITHOUT ROWID;
INSERT INTO history_day
    SELECT bucket, video_id, plays, row_check(bucket, video_id, plays)
    FROM old_history_day ORDER BY bucket, video_id;
DROP TABLE old_history_day;
ALTER TABLE points RENAME TO old_points;
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
INSERT INTO points
    SELECT minute, plays, messages_per_second, realtime_ms, average_ms, p50_ms, p99_ms, queue_depth, row_check(minute, plays, messages_per_second, realtime_ms, average_ms, p50_ms, p99_ms, queue_depth)
    FROM old_points ORDER BY minute;
DROP TABLE old_points;
ALTER TABLE identity RENAME TO old_identity;
CREATE TABLE identity (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    dashboard   BLOB    NOT NULL,
    boot        TEXT    NOT NULL,
    closed      INTEGER,
    life        BLOB    NOT NULL,
    segment     INTEGER,
    number      INTEGER,
    count_rows  INTEGER NOT NULL,
    count_plays INTEGER NOT NULL,
    row_check   INTEGER NOT NULL
) STRICT;
ALTER TABLE confirmed RENAME TO old_confirmed;
CREATE TABLE confirmed (
    producer   BLOB    PRIMARY KEY,
    watermark  INTEGER NOT NULL,
    above      TEXT    NOT NULL,
    changed_at INTEGER NOT NULL,
    row_check  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO confirmed
    SELECT producer, watermark, above, changed_at, row_check(producer, watermark, above, changed_at)
    FROM old_confirmed ORDER BY producer;
DROP TABLE old_confirmed;
ALTER TABLE audit RENAME TO old_audit;
CREATE TABLE audit (
    number    INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    peer      TEXT    NOT NULL,
    action    TEXT    NOT NULL,
    target    TEXT    NOT NULL,
    outcome   TEXT    NOT NULL,
    row_check INTEGER NOT NULL
) STRICT;
INSERT INTO audit
    SELECT number, at, peer, action, target, outcome, row_check(number, at, peer, action, target, outcome)
    FROM old_audit ORDER BY number;
DROP TABLE old_audit;
