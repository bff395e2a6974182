-- The processor's ledger, schema 3. Ids of ours are UUIDs as 16 bytes; a video's id is a blob: 16 bytes are a UUID, and
-- texts will be 17 to 128. Times are ms since the Unix epoch. A row's row_check is row_check(…) of its other columns: one
-- that does not fit was changed behind our back.

-- One row: whose counts these are, where the journal goes on from, and the counters as of a frame of it.
CREATE TABLE ledger (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    processor   BLOB    NOT NULL,
    machine     TEXT    NOT NULL, -- /etc/machine-id where it was made; '' where there is none
    simulation  INTEGER NOT NULL, -- 1: made by `run`, which may throw it away
    starts      INTEGER NOT NULL,
    dashboard   BLOB,             -- the id of the newest dashboard database
    epoch       INTEGER NOT NULL, -- counts the dashboards: what was published to those before holds no more
    life        BLOB    NOT NULL, -- as in the heads of the journal's segments
    segment     INTEGER,          -- frames from `number` on are in the journal, in this segment and those behind it;
    number      INTEGER,          -- NULL: there is no journal yet
    as_of       INTEGER NOT NULL, -- the newest frame that any row has taken in
    counted     INTEGER NOT NULL,
    by_message  INTEGER NOT NULL,
    recovered   INTEGER NOT NULL,
    duplicates  INTEGER NOT NULL,
    conflicting INTEGER NOT NULL,
    rejected    INTEGER NOT NULL,
    videos      INTEGER NOT NULL, -- how many rows the tables below have
    producers   INTEGER NOT NULL,
    messages    INTEGER NOT NULL,
    letters     INTEGER NOT NULL,
    row_check   INTEGER NOT NULL
) STRICT;

-- Each video's count, with all frames up to as_of in it.
CREATE TABLE videos (
    number         INTEGER PRIMARY KEY,
    video_id       BLOB    NOT NULL,
    plays          INTEGER NOT NULL,
    published      INTEGER NOT NULL,
    last_played_at INTEGER NOT NULL, -- 0: no play said so
    as_of          INTEGER NOT NULL,
    epoch          INTEGER NOT NULL, -- of the dashboard that `published` tells of; 0 plays of an older one's
    row_check      INTEGER NOT NULL
) STRICT;

-- Each producer's counted plays, as runs of their numbers.
CREATE TABLE producers (
    producer  BLOB    PRIMARY KEY,
    counted   BLOB    NOT NULL,
    row_check INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The newest messages without an identity, oldest first; one row a checkpoint.
CREATE TABLE messages (
    number    INTEGER PRIMARY KEY,
    keys      BLOB    NOT NULL,
    row_check INTEGER NOT NULL
) STRICT;

-- The newest bodies that were no play; `number` counts all that there ever were.
CREATE TABLE dead_letters (
    number     INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    nsqd       TEXT    NOT NULL,
    message_id TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    size       INTEGER NOT NULL, -- of the whole body, in bytes
    body       BLOB    NOT NULL, -- its start
    row_check  INTEGER NOT NULL
) STRICT;
