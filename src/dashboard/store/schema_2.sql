-- Which database this is: another one after each reset, and after a power loss that may have taken commits with it, so
-- that processors tell everything again.
CREATE TABLE identity (
    only      INTEGER PRIMARY KEY CHECK (only = 1),
    dashboard BLOB    NOT NULL,
    boot      TEXT    NOT NULL -- the start of the machine that it was last opened in
) STRICT;

-- Which plays of each producer are counted for good, over all processors: a watermark and the runs above it.
CREATE TABLE confirmed (
    producer   BLOB    PRIMARY KEY,
    watermark  INTEGER NOT NULL,
    above      TEXT    NOT NULL, -- JSON: [[start, end], ...]
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX confirmed_by_changed_at ON confirmed (changed_at);
