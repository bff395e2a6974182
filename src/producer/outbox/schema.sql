-- A producer's outbox, schema 1. Ids are UUIDs as 16 bytes.

-- One row: the run that this outbox is of, and how far it has come.
CREATE TABLE run (
    only         INTEGER PRIMARY KEY CHECK (only = 1),
    producer     BLOB    NOT NULL,
    topic        TEXT    NOT NULL,
    messages     INTEGER NOT NULL,
    num_videos   INTEGER NOT NULL,
    popularity   TEXT    NOT NULL,
    acknowledged INTEGER NOT NULL -- nsqd has acknowledged every play with a number below, at least
) STRICT;

-- The run's videos, with the plays of those batches that are gone.
CREATE TABLE videos (
    number   INTEGER PRIMARY KEY,
    video_id BLOB    NOT NULL,
    plays    INTEGER NOT NULL
) STRICT;

-- The plays that are not known to be counted for good. Committed before they are published.
CREATE TABLE batches (
    first       INTEGER PRIMARY KEY,
    enqueued_at INTEGER NOT NULL, -- ns since the Unix epoch
    videos      BLOB    NOT NULL  -- the number of each play's video, 4 bytes little-endian
) STRICT;
