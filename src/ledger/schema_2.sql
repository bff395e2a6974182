-- The processor's ledger, schema 2. Ids are UUIDs as 16 bytes; times are ms since the Unix epoch.

-- One row: whose counts these are, and the counters as of a record.
CREATE TABLE ledger (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    processor  BLOB    NOT NULL,
    machine    TEXT    NOT NULL, -- /etc/machine-id where it was made; '' where there is none
    simulation INTEGER NOT NULL, -- 1: made by `run`, which may throw it away
    starts     INTEGER NOT NULL,
    dashboard  BLOB,             -- the id of the newest dashboard database
    as_of      INTEGER NOT NULL,
    counted    INTEGER NOT NULL,
    by_message INTEGER NOT NULL,
    recovered  INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    conflicting INTEGER NOT NULL,
    rejected   INTEGER NOT NULL,
    epoch      INTEGER NOT NULL DEFAULT 0 -- counts the dashboards: what was published to those before holds no more
) STRICT;

-- One row a commit, until a checkpoint has taken it into the tables below.
CREATE TABLE records (
    number INTEGER PRIMARY KEY,
    record BLOB    NOT NULL
) STRICT;

-- Each video's count, with all records up to as_of in it.
CREATE TABLE videos (
    number         INTEGER PRIMARY KEY,
    video_id       BLOB    NOT NULL,
    plays          INTEGER NOT NULL,
    published      INTEGER NOT NULL,
    last_played_at INTEGER NOT NULL, -- 0: no play said so
    as_of          INTEGER NOT NULL,
    epoch          INTEGER NOT NULL DEFAULT 0 -- of the dashboard that `published` tells of; 0 plays of an older one's
) STRICT;

-- Each producer's counted plays, as runs of their numbers.
CREATE TABLE producers (
    producer BLOB PRIMARY KEY,
    counted  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The newest messages without an identity, oldest first; one row a checkpoint.
CREATE TABLE messages (
    number  INTEGER PRIMARY KEY,
    keys    BLOB    NOT NULL
) STRICT;

-- The newest bodies that were no play.
CREATE TABLE dead_letters (
    number     INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    nsqd       TEXT    NOT NULL,
    message_id TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    size       INTEGER NOT NULL, -- of the whole body, in bytes
    body       BLOB    NOT NULL  -- its start
) STRICT;
