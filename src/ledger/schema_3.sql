-- Schema 2 to 3, before the new tables are made: what is in these is read by code, written to the new ones, and dropped.
ALTER TABLE ledger RENAME TO ledger_2;
ALTER TABLE records RENAME TO records_2;
ALTER TABLE videos RENAME TO videos_2;
ALTER TABLE producers RENAME TO producers_2;
ALTER TABLE messages RENAME TO messages_2;
ALTER TABLE dead_letters RENAME TO dead_letters_2;
