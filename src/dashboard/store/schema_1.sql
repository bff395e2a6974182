-- Schema 1, as it was: what the migrations begin with. Tests only.
-- A small number in place of each processor's id, which every row of `plays` repeats.
CREATE TABLE processors (
    number    INTEGER PRIMARY KEY,
    processor BLOB    NOT NULL UNIQUE,
    version   INTEGER NOT NULL
) STRICT;

-- The highest count that each processor has told of each video: what makes repeats harmless.
CREATE TABLE plays (
    video_id  BLOB    NOT NULL,
    processor INTEGER NOT NULL REFERENCES processors,
    plays     INTEGER NOT NULL,
    PRIMARY KEY (video_id, processor)
) STRICT, WITHOUT ROWID;

-- The sum over processors, kept by deltas in the transaction that changes `plays`.
-- Without a rowid the indexes end in video_id, which breaks ties and lets pages be found in the index alone.
CREATE TABLE videos (
    video_id       BLOB    PRIMARY KEY,
    plays          INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    last_played_at INTEGER NOT NULL -- 0: no play said so
) STRICT, WITHOUT ROWID;
CREATE INDEX videos_by_plays          ON videos (plays);
CREATE INDEX videos_by_updated_at     ON videos (updated_at);
CREATE INDEX videos_by_last_played_at ON videos (last_played_at);

-- The count at the end of each minute in which it changed; at most 60 rows a video, the oldest overwritten.
CREATE TABLE history (
    video_id BLOB    NOT NULL,
    slot     INTEGER NOT NULL, -- minute modulo 60
    minute   INTEGER NOT NULL,
    plays    INTEGER NOT NULL,
    PRIMARY KEY (video_id, slot)
) STRICT, WITHOUT ROWID;

-- One row, so that no request counts a million others.
CREATE TABLE totals (
    only   INTEGER PRIMARY KEY CHECK (only = 1),
    videos INTEGER NOT NULL,
    plays  INTEGER NOT NULL
) STRICT;
INSERT INTO totals VALUES (1, 0, 0);
