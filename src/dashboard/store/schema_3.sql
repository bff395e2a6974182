-- From schema 2: one table of counts without indexes, a log before it, and history by minute, hour and day.
CREATE TABLE log (
    number    INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    processor INTEGER NOT NULL,
    counts    BLOB    NOT NULL
) STRICT;
CREATE TABLE counts (
    video_id       BLOB    NOT NULL,
    processor      INTEGER NOT NULL REFERENCES processors,
    plays          INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    last_played_at INTEGER NOT NULL,
    PRIMARY KEY (video_id, processor)
) STRICT, WITHOUT ROWID;
INSERT INTO counts
    SELECT p.video_id, p.processor, p.plays, v.updated_at, v.last_played_at
    FROM plays AS p JOIN videos AS v ON v.video_id = p.video_id ORDER BY p.video_id, p.processor;
CREATE TABLE history_minute (
    bucket   INTEGER NOT NULL,
    video_id BLOB    NOT NULL,
    plays    INTEGER NOT NULL,
    PRIMARY KEY (bucket, video_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE history_hour (
    bucket   INTEGER NOT NULL,
    video_id BLOB    NOT NULL,
    plays    INTEGER NOT NULL,
    PRIMARY KEY (bucket, video_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE history_day (
    bucket   INTEGER NOT NULL,
    video_id BLOB    NOT NULL,
    plays    INTEGER NOT NULL,
    PRIMARY KEY (bucket, video_id)
) STRICT, WITHOUT ROWID;
-- What was kept were sums; the first one of a video says nothing of its minute.
INSERT INTO history_minute
    SELECT minute, video_id, plays - before FROM (
        SELECT minute, video_id, plays, lag(plays) OVER (PARTITION BY video_id ORDER BY minute) AS before FROM history)
    WHERE before IS NOT NULL AND plays > before ORDER BY minute, video_id;
INSERT INTO history_hour
    SELECT bucket / 60, video_id, sum(plays) FROM history_minute GROUP BY bucket / 60, video_id;
INSERT INTO history_day
    SELECT bucket / 1440, video_id, sum(plays) FROM history_minute GROUP BY bucket / 1440, video_id;
CREATE TABLE points (
    minute              INTEGER PRIMARY KEY,
    plays               INTEGER NOT NULL,
    messages_per_second REAL    NOT NULL,
    realtime_ms         REAL,
    average_ms          REAL,
    p50_ms              REAL,
    p99_ms              REAL,
    queue_depth         INTEGER
) STRICT;
-- Who touched what: queue actions and resets, the newest 10,000.
CREATE TABLE audit (
    number  INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    peer    TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    target  TEXT    NOT NULL,
    outcome TEXT    NOT NULL
) STRICT;
DROP TABLE history;
DROP TABLE videos;
DROP TABLE plays;
DROP TABLE totals;
ALTER TABLE processors DROP COLUMN version;
