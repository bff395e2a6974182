-- Schema 2 had one producer for all plays of an outbox. A row that does not fit its check is left out, and missed then.
ALTER TABLE run RENAME TO run_2;

CREATE TABLE run (
    only         INTEGER PRIMARY KEY CHECK (only = 1),
    producer     BLOB    NOT NULL,
    topic        TEXT    NOT NULL,
    messages     INTEGER NOT NULL,
    num_videos   INTEGER NOT NULL,
    popularity   TEXT    NOT NULL,
    life         BLOB    NOT NULL,
    segment      INTEGER,
    number       INTEGER,
    next         INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL,
    gone         INTEGER NOT NULL,
    num_batches  INTEGER NOT NULL,
    spans        BLOB    NOT NULL,
    row_check    INTEGER NOT NULL
) STRICT;

INSERT INTO run
SELECT only, producer, topic, messages, num_videos, popularity, life, segment, number, next, acknowledged, gone, num_batches,
       CAST(zeroblob(8) || producer AS BLOB), 0
FROM run_2
WHERE row_check = row_check(
    only, producer, topic, messages, num_videos, popularity, life, segment, number, next, acknowledged, gone, num_batches);
UPDATE run SET row_check = row_check(
    only, producer, topic, messages, num_videos, popularity, life, segment, number, next, acknowledged, gone, num_batches,
    spans);

DROP TABLE run_2;
