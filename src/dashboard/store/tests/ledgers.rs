//! Ledgers that are claimed, that are older, and whose loss is accepted; before and behind kills and checkpoints.

use super::*;
use crate::wire::{LedgerClaim, LedgerMark};

fn mark(life: u128, holds: u64) -> LedgerMark {
    LedgerMark { life: Uuid::from_u128(life), holds }
}

fn claim(life: u128, holds: u64, accept_loss: bool) -> LedgerClaim {
    let processor = Uuid::from_u128(1);
    LedgerClaim { processor, ledger: mark(life, holds), held_at_start: holds, accept_loss }
}

/// Tells counts of processor 1, whose ledger holds so many plays.
fn tell(store: &Store, version: u64, holds: u64, counts: &[(u128, u64)]) {
    let update = CountsUpdate { ledger: Some(mark(5, holds)), ..update(1, version, counts) };
    store.merge(update).unwrap();
}

#[test]
fn a_ledger_is_compared_with_all_that_was_told_of_it() {
    let (temp, store) = store();
    let id = store.id();
    // An older version has told counts without a ledger.
    store.merge(update(1, 1, &[(7, 5), (8, 1)])).unwrap();
    assert_eq!(store.claim(claim(5, 5, false)), Err(Ok(6)));
    assert_eq!(store.ledger_life(&Uuid::from_u128(1)), None);
    assert_eq!(store.claim(claim(5, 6, false)), Ok(id));
    assert_eq!(store.claim(claim(5, 6, false)), Ok(id));
    // More is in the ledger than is told of each video; or nothing but a watermark is told.
    tell(&store, 2, 20, &[(7, 6)]);
    let told = ConfirmedUpdate { ledger: Some(mark(5, 23)), ..confirmed(9, 23) };
    store.confirm(told).unwrap();
    for _ in 0..2 {
        let copy = killed(&store, temp.path());
        let killed = reopened(copy.path());
        for (life, holds, want) in [(5, 22, Err(Ok(23))), (6, 22, Err(Ok(23))), (5, 23, Ok(id))] {
            assert_eq!(killed.claim(claim(life, holds, false)), want, "{life} {holds}");
        }
        // A copy that lacks nothing.
        assert_eq!(killed.claim(claim(6, 23, false)), Ok(id));
        assert_eq!(killed.ledger_life(&Uuid::from_u128(1)), Some(Uuid::from_u128(6)));
        store.write(Task::Checkpoint).unwrap();
    }
    // A reset forgets that, too.
    let id = store.clear().unwrap();
    assert_eq!(store.claim(claim(5, 0, false)), Ok(id));
    store.write(Task::Checkpoint).unwrap();
    let copy = killed(&store, temp.path());
    assert_eq!(reopened(copy.path()).ledger_life(&Uuid::from_u128(1)), Some(Uuid::from_u128(5)));
}

/// At whatever moment it is killed.
#[test]
fn counts_that_were_lost_are_forgotten_for_good() {
    let (temp, store) = store();
    store.merge(update(2, 1, &[(7, 100), (6, 3)])).unwrap();
    store.claim(claim(5, 0, false)).unwrap();
    tell(&store, 1, 30, &[(7, 10), (8, 20)]);
    store.write(Task::Checkpoint).unwrap();
    tell(&store, 2, 34, &[(7, 12), (9, 2)]);
    store.confirm(ConfirmedUpdate { ledger: Some(mark(5, 34)), ..confirmed(9, 34) }).unwrap();
    // The tables get nothing meanwhile.
    let held = hold(&store);
    let before = store.id();
    let id = store.claim(claim(5, 25, true)).unwrap();
    assert_ne!(id, before);
    let check = |store: &Store, want: &[(u128, u64)], at: &str| {
        let counts: Vec<_> = all(store).into_iter().filter(|(_, plays)| *plays > 0).collect();
        assert_eq!((counts, store.id()), (want.to_vec(), id), "{at}");
        let plays: u64 = want.iter().map(|(_, plays)| plays).sum();
        assert_eq!(store.totals().plays, plays, "{at}");
        assert_eq!(store.confirmed(&Uuid::from_u128(9)).unwrap().watermark, 0, "{at}");
        let day = store.kept(Scale::Day).unwrap();
        // History tells what was told when it was told, each play once.
        let told = store.top(Scale::Day, day, 9).unwrap().total;
        assert_eq!(told as u64, 103 + 34 + plays - 103, "{at}");
    };
    let others = [(6, 3), (7, 100)];
    check(&store, &others, "forgotten");
    check(&reopened(copied(temp.path()).path()), &others, "forgotten in the journal");
    tell(&store, 3, 25, &[(7, 9), (8, 16)]);
    let all_told = [(6, 3), (7, 109), (8, 16)];
    check(&store, &all_told, "told again");
    check(&reopened(copied(temp.path()).path()), &all_told, "told again in the journal");
    // Tables that have all of it under a journal that goes on from before it.
    let position = || {
        let tables = Connection::open(temp.path().join(FILE)).unwrap();
        crate::storage::row_check::add_function(&tables).unwrap();
        identity::read(&tables).unwrap().unwrap().position
    };
    let early = position();
    let journal = copied(temp.path());
    drop(held);
    store.write(Task::Checkpoint).unwrap();
    check(&store, &all_told, "in the tables");
    let tables = copied(temp.path());
    check(&reopened(tables.path()), &all_told, "reopened from the tables");
    for file in [FILE.to_owned(), format!("{FILE}-wal")] {
        std::fs::copy(temp.path().join(&file), journal.path().join(&file)).unwrap();
    }
    let connection = Connection::open(journal.path().join(FILE)).unwrap();
    crate::storage::row_check::add_function(&connection).unwrap();
    let mut identity = identity::read(&connection).unwrap().unwrap();
    identity.position = early;
    identity.write(&connection).unwrap();
    drop(connection);
    check(&reopened(journal.path()), &all_told, "played again over the tables");
    // Lower counts than before do not hide those that follow.
    tell(&store, 4, 26, &[(7, 10)]);
    assert_eq!(store.claim(claim(5, 25, false)), Err(Ok(26)));
    drop(store);
    let store = reopened(temp.path());
    assert_eq!(store.totals().plays, 129);
    assert_eq!(store.claim(claim(5, 25, false)), Err(Ok(26)));
    assert_eq!(store.claim(claim(5, 26, false)), Ok(id));
}

#[test]
fn a_database_of_schema_4_is_taken_over() {
    let (temp, store) = store();
    store.merge(update(1, 1, &[(7, 5)])).unwrap();
    drop(store);
    let old = as_schema_5(temp.path());
    old.execute_batch("DROP TABLE ledgers; PRAGMA user_version = 4").unwrap();
    drop(old);
    let store = reopened(temp.path());
    assert_eq!(all(&store), [(7, 5)]);
    assert_eq!(store.claim(claim(5, 4, false)), Err(Ok(5)));
    assert_eq!(store.claim(claim(5, 5, false)), Ok(store.id()));
    drop(store);
    assert_eq!(reopened(temp.path()).ledger_life(&Uuid::from_u128(1)), Some(Uuid::from_u128(5)));
}
