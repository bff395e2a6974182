-- Schema 1 kept every batch in these tables as it came, and no journal.
ALTER TABLE run RENAME TO run_1;
ALTER TABLE videos RENAME TO videos_1;
ALTER TABLE batches RENAME TO batches_1;

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
    row_check    INTEGER NOT NULL
) STRICT;
CREATE TABLE videos (
    number    INTEGER PRIMARY KEY,
    video_id  BLOB    NOT NULL,
    plays     INTEGER NOT NULL,
    row_check INTEGER NOT NULL
) STRICT;
CREATE TABLE batches (
    first       INTEGER PRIMARY KEY,
    enqueued_at INTEGER NOT NULL,
    videos      BLOB    NOT NULL,
    row_check   INTEGER NOT NULL
) STRICT;

INSERT INTO videos
SELECT number, video_id, plays, row_check(number, video_id, plays) FROM videos_1;
INSERT INTO batches
SELECT first, enqueued_at, videos, row_check(first, enqueued_at, videos) FROM batches_1;
INSERT INTO run
SELECT only, producer, topic, messages, num_videos, popularity, randomblob(16), NULL, NULL,
       (SELECT coalesce(sum(plays), 0) FROM videos_1)
           + (SELECT coalesce(sum(length(videos) / 4), 0) FROM batches_1),
       acknowledged,
       (SELECT coalesce(sum(plays), 0) FROM videos_1),
       (SELECT count(*) FROM batches_1),
       0
FROM run_1;
UPDATE run SET row_check = row_check(
    only, producer, topic, messages, num_videos, popularity, life, segment, number, next, acknowledged, gone, num_batches);

DROP TABLE run_1;
DROP TABLE videos_1;
DROP TABLE batches_1;
