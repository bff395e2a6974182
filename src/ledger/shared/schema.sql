-- The tables of a ledger that processors share, in a schema of their own. Numbers of plays and records start at 0 and 1;
-- a video's id is the 16 bytes of its UUID. Processors lock in this order: their own row, stripes by number, messages by key.

CREATE SCHEMA IF NOT EXISTS playcounts;

CREATE TABLE playcounts.schema (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,
    -- Drawn when the tables were made: which ledger this is.
    life uuid NOT NULL DEFAULT gen_random_uuid(),
    made_at timestamptz NOT NULL DEFAULT now()
);

-- One row for each processor that ever counted.
CREATE TABLE playcounts.processors (
    id uuid PRIMARY KEY,
    -- The data directory that counts under this id.
    holder uuid NOT NULL,
    -- Raised by whoever takes the id over: commits of the one before find no row.
    epoch bigint NOT NULL,
    starts bigint NOT NULL,
    last_record bigint NOT NULL DEFAULT 0,
    -- All records up to this one are in videos, and gone.
    swept bigint NOT NULL DEFAULT 0,
    -- By outcome, as of a record from there on.
    as_of bigint NOT NULL DEFAULT 0,
    counted bigint NOT NULL DEFAULT 0,
    by_message bigint NOT NULL DEFAULT 0,
    recovered bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    conflicting bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL,
    -- Who publishes the counts of one that is gone.
    published_by uuid,
    published_until timestamptz
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- Only to be locked: a producer's plays by the stripe that its id gives.
CREATE TABLE playcounts.stripes (id integer PRIMARY KEY);
INSERT INTO playcounts.stripes SELECT generate_series(0, 15);

-- All plays below the watermark are counted; it is where a segment begins, and there is none below it.
CREATE TABLE playcounts.producers (
    producer uuid PRIMARY KEY,
    watermark bigint NOT NULL
) WITH (fillfactor = 70);

-- 1,024 plays a row: number 1024 * segment + i is counted where bit i is set, the lowest of each byte first.
CREATE TABLE playcounts.seen (
    producer uuid NOT NULL,
    segment bigint NOT NULL,
    bits bytea NOT NULL CHECK (octet_length(bits) = 128),
    PRIMARY KEY (producer, segment)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE playcounts.seen ALTER COLUMN bits SET STORAGE PLAIN;

-- What a commit has added, until a sweep takes it into videos.
CREATE TABLE playcounts.records (
    processor uuid NOT NULL,
    number bigint NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (processor, number)
);

-- No two processors touch one row. As of a record: newer ones are to be added.
CREATE TABLE playcounts.videos (
    processor uuid NOT NULL,
    video bytea NOT NULL CHECK (octet_length(video) BETWEEN 1 AND 128),
    number integer NOT NULL,
    plays bigint NOT NULL CHECK (plays >= 0),
    -- In ms since the Unix epoch; 0: none said so.
    last_played_at bigint NOT NULL,
    as_of bigint NOT NULL,
    PRIMARY KEY (processor, video)
) WITH (fillfactor = 70);

-- Messages whose plays have no identity, by the hour that nsqd took them in: the hour's number modulo 64. An hour's
-- partition is emptied before its next turn. -1 has those of all other hours, and plays by the ids of their sites'.
CREATE TABLE playcounts.messages (
    slot smallint NOT NULL,
    -- The hour that it was kept in.
    kept_in integer NOT NULL,
    key bytea NOT NULL,
    PRIMARY KEY (slot, key)
) PARTITION BY LIST (slot);
CREATE TABLE playcounts.messages_other PARTITION OF playcounts.messages FOR VALUES IN (-1);
CREATE INDEX messages_other_kept_in ON playcounts.messages_other (kept_in);
DO $$
BEGIN
    FOR slot IN 0..63 LOOP
        EXECUTE format(
            'CREATE TABLE playcounts.messages_%s PARTITION OF playcounts.messages FOR VALUES IN (%s)', slot, slot);
    END LOOP;
END $$;

-- For which hour each partition was emptied.
CREATE TABLE playcounts.message_hours (slot integer PRIMARY KEY, hour bigint NOT NULL);
INSERT INTO playcounts.message_hours SELECT generate_series(0, 63), 0;

-- Up to which record of a processor a dashboard has been told all counts.
CREATE TABLE playcounts.told (
    processor uuid NOT NULL,
    dashboard uuid NOT NULL,
    upto bigint NOT NULL,
    PRIMARY KEY (processor, dashboard)
) WITH (fillfactor = 50);

-- Bodies that were no play; the newest are kept.
CREATE TABLE playcounts.dead_letters (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    processor uuid NOT NULL,
    -- In ms since the Unix epoch.
    at bigint NOT NULL,
    nsqd text NOT NULL,
    message_id text NOT NULL,
    reason text NOT NULL,
    size bigint NOT NULL,
    body bytea NOT NULL
);

INSERT INTO playcounts.schema (version) VALUES (1);
