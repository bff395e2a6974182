-- Schema 4 did not know which ledger a processor counts in.
CREATE TABLE ledgers (
    key       BLOB    PRIMARY KEY,
    processor BLOB,
    life      BLOB,
    held      INTEGER NOT NULL,
    row_check INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
