//! How many messages the tables keep, for plays without an identity.

use super::*;
use crate::ledger::record::count_messages;

/// About 33,000 messages.
const BUDGET_MB: u64 = 1;

fn open_with(directory: &Path, mb: u64) -> DurableLedger {
    let config = LedgerConfig { message_budget: MessageBudget::from_mb(mb), ..config(directory) };
    DurableLedger::open(&config, SyncPolicy::Process).unwrap()
}

/// Counts what is new of these messages.
fn count(ledger: &mut DurableLedger, messages: std::ops::Range<u64>) -> u64 {
    commit(ledger, messages.map(|message| play(5, None, message)).collect()).counted
}

/// Makes a whole checkpoint, however short ago the last one was.
fn checkpoint_now(ledger: &mut DurableLedger) {
    ledger.begin_checkpoint(Instant::now());
    while upkeep(ledger, Instant::now()) == NextUpkeep::Soon {}
}

/// Messages in each row of the table.
fn rows(directory: &Path) -> Vec<u64> {
    let connection = Connection::open(directory.join(FILE)).unwrap();
    let mut rows = connection.prepare("SELECT keys FROM messages ORDER BY number").unwrap();
    let keys = rows.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    keys.map(|keys| count_messages(&keys.unwrap()).unwrap()).collect()
}

#[test]
fn as_many_messages_as_the_budget_says_outlive_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let window = MessageBudget::from_mb(BUDGET_MB).messages();
    const ROW: u64 = 10_000;
    let mut ledger = open_with(dir.path(), BUDGET_MB);
    let rows_in_all = 3 * window / ROW;
    for row in 0..rows_in_all {
        assert_eq!(count(&mut ledger, row * ROW..(row + 1) * ROW), ROW);
        checkpoint_now(&mut ledger);
    }
    let end = rows_in_all * ROW;
    let size = ledger.message_window();
    assert!((window..=2 * window).contains(&size.messages), "{size:?}");
    assert!(size.bytes <= BUDGET_MB << 20, "{size:?}");
    ledger.close().unwrap();
    drop(ledger);
    // Enough for the window, and not a row more.
    let kept = rows(dir.path());
    let sum: u64 = kept.iter().sum();
    assert!(sum >= 2 * window && sum - kept[0] < 2 * window, "{kept:?}");
    let mut ledger = open_with(dir.path(), BUDGET_MB);
    assert_eq!(count(&mut ledger, end - window..end), 0);
    assert!(count(&mut ledger, 0..1) == 1, "it has forgotten the first");
    // A larger one keeps more from now on, a smaller one less.
    ledger.close().unwrap();
    drop(ledger);
    let mut ledger = open_with(dir.path(), 10 * BUDGET_MB);
    assert!(ledger.message_window().messages >= 2 * window);
    for row in 0..10 {
        let from = end + row * ROW;
        assert_eq!(count(&mut ledger, from..from + ROW), ROW);
        checkpoint_now(&mut ledger);
    }
    drop(ledger);
    let grown = rows(dir.path());
    assert!(grown.iter().sum::<u64>() >= sum + 10 * ROW, "{grown:?}");
    let mut ledger = open_with(dir.path(), BUDGET_MB);
    assert!(ledger.message_window().messages <= 2 * window);
    assert_eq!(count(&mut ledger, end + 9 * ROW..end + 10 * ROW), 0);
}
