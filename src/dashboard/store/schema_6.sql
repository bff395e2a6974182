-- Schema 5 knew nothing of videos but their counts. The identity says how many rows the new tables have; a row that did not fit
-- its check gets none, and none is taken.
ALTER TABLE identity RENAME TO identity_5;
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
    catalog_rows INTEGER NOT NULL,
    row_check   INTEGER NOT NULL
) STRICT;
INSERT INTO identity
    SELECT only, dashboard, boot, closed, life, segment, number, count_rows, count_plays, 0,
        CASE WHEN row_check = row_check(only, dashboard, boot, closed, life, segment, number, count_rows, count_plays)
        THEN row_check(only, dashboard, boot, closed, life, segment, number, count_rows, count_plays, 0) END
    FROM identity_5;
DROP TABLE identity_5;
CREATE TABLE titles (
    video_id  BLOB    PRIMARY KEY,
    title     TEXT,
    url       TEXT,
    by_hand   INTEGER NOT NULL,
    row_check INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE changes (
    video_id          BLOB    PRIMARY KEY,
    visibility        INTEGER,
    visibility_reason TEXT,
    visibility_at     INTEGER,
    correction        INTEGER,
    correction_reason TEXT,
    correction_at     INTEGER,
    row_check         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE imports (
    import    BLOB    PRIMARY KEY,
    key       BLOB    NOT NULL,
    name      TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    row_check INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
