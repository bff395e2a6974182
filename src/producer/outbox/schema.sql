-- A producer's outbox, schema 3: what a checkpoint has moved out of the journal beside it. Ids are UUIDs as 16 bytes. Every
-- row has a check of all its other columns, in their order.

-- One row: the run that this outbox is of, and how far it had come.
CREATE TABLE run (
    only         INTEGER PRIMARY KEY CHECK (only = 1),
    producer     BLOB    NOT NULL,
    topic        TEXT    NOT NULL,
    messages     INTEGER NOT NULL,
    num_videos   INTEGER NOT NULL, -- rows of `videos`
    popularity   TEXT    NOT NULL,
    life         BLOB    NOT NULL, -- the journal's heads hold it, too
    segment      INTEGER,          -- where the journal goes on from these tables; NULL: there is none yet
    number       INTEGER,          -- and with which frame
    next         INTEGER NOT NULL, -- the number of the next play
    acknowledged INTEGER NOT NULL, -- nsqd has acknowledged every play with a number below, at least
    gone         INTEGER NOT NULL, -- every play with a number below is gone: the sum of `videos.plays`
    num_batches  INTEGER NOT NULL, -- rows of `batches`
    spans        BLOB    NOT NULL, -- who the plays are of: of each span its first number, 8 bytes little-endian, and its id
    row_check    INTEGER NOT NULL
) STRICT;

-- The run's videos, with the plays of those batches that are gone.
CREATE TABLE videos (
    number    INTEGER PRIMARY KEY,
    video_id  BLOB    NOT NULL,
    plays     INTEGER NOT NULL,
    row_check INTEGER NOT NULL
) STRICT;

-- The plays that are not known to be counted for good.
CREATE TABLE batches (
    first       INTEGER PRIMARY KEY,
    enqueued_at INTEGER NOT NULL, -- ns since the Unix epoch
    videos      BLOB    NOT NULL, -- the number of each play's video, 4 bytes little-endian
    row_check   INTEGER NOT NULL
) STRICT;
