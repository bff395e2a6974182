use std::collections::HashSet;

use nsq_protocol::MessageId;
use proptest::prelude::*;

use super::leaf::{LEAF_MAX, Leaf};
use super::*;
use crate::ledger::message_key::IdClock;

/// The window's rule, with sets.
#[derive(Default)]
struct Model {
    window: usize,
    newer: HashSet<(MessageId, Option<i64>)>,
    older: HashSet<(MessageId, Option<i64>)>,
}

impl Model {
    fn insert(&mut self, key: MessageKey) -> bool {
        let (id, stamp) = (key.id(), key.timestamp_ns());
        let is_there = |set: &HashSet<(MessageId, Option<i64>)>| match stamp {
            Some(_) => set.contains(&(id, stamp)) || set.contains(&(id, None)),
            None => set.iter().any(|(other, _)| *other == id),
        };
        if is_there(&self.newer) || is_there(&self.older) {
            return false;
        }
        self.newer.insert((id, stamp));
        if self.newer.len() >= self.window {
            self.older = std::mem::take(&mut self.newer);
        }
        true
    }
}

/// An ID as nsqd makes it, `ticks` after some day of 2026.
fn nsqd_id(ticks: u64, node: u64, sequence: u64) -> u64 {
    (423_000_000_000 + ticks) << 22 | node << 12 | sequence
}

/// A message of nsqd that was published so many ns after its ID was made.
fn nsqd_key(id: u64, ns: i64) -> MessageKey {
    MessageKey::new(MessageId::from_u64(id), IdClock::Nsqd.time_ns(id) + ns)
}

/// How the next key comes.
#[derive(Clone, Debug)]
enum Step {
    /// From one of three nsqds, some ticks later, or late by so many; the last number tells the ns.
    Nsqd(usize, u64, u64, usize),
    Broker(u64, i64),
    /// IDs that are no numbers.
    Other(u8, i64),
    /// From somebody who wants to do harm.
    Hostile(u64, u64, i64, usize),
}

impl Step {
    /// `ticks` is where the nsqds are.
    fn key(self, ticks: &mut [u64; 3]) -> MessageKey {
        match self {
            Self::Nsqd(nsqd, later, late, ns) => {
                ticks[nsqd] += later;
                let tick =
                    ticks[nsqd].saturating_sub(if late < 20 { late * late * late } else { 0 });
                let ns = [0, 700, 900_000][ns] + nsqd as i64 / 2;
                nsqd_key(nsqd_id(tick, [7, 600, 7][nsqd], late % 4), ns)
            }
            Self::Broker(index, before) => {
                let id = 1_790_000_000_000_000_000 + index * 300_000;
                MessageKey::new(MessageId::from_u64(id), id as i64 - before)
            }
            Self::Other(digit, stamp) => MessageKey::new(MessageId([b'G' + digit; 16]), stamp),
            Self::Hostile(near, far, stamp, kind) => {
                let id =
                    [near, u64::MAX - near, far, nsqd_id(far % 5, 7, 0)][(far >> 8) as usize % 4];
                let low = stamp & 1;
                let stamp = [stamp, stamp % 3, i64::MAX - low, i64::MIN + low][kind];
                MessageKey::new(MessageId::from_u64(id), stamp)
            }
        }
    }
}

/// One key after another: of three nsqds, two of one node, nearly in order, with repeats and late ones; few of others; and
/// some without a timestamp.
fn any_keys(max: usize) -> impl Strategy<Value = Vec<MessageKey>> {
    let step = prop_oneof![
        30 => (0usize..3, 0u64..3, 0u64..300, 0usize..3).prop_map(|(nsqd, later, late, ns)| Step::Nsqd(nsqd, later, late, ns)),
        3 => (0u64..400, 0i64..2).prop_map(|(index, before)| Step::Broker(index, before)),
        1 => (0u8..20, 0i64..2).prop_map(|(digit, stamp)| Step::Other(digit, stamp)),
        3 => (0u64..8, any::<u64>(), any::<i64>(), 0usize..4).prop_map(|(near, far, stamp, kind)| Step::Hostile(near, far, stamp, kind)),
    ];
    proptest::collection::vec((step, proptest::bool::weighted(0.02)), 1..max).prop_map(|steps| {
        let mut ticks = [0, 0, 40];
        let key = |(step, is_undated): (Step, bool)| {
            let key = step.key(&mut ticks);
            if is_undated { MessageKey::undated(key.id()) } else { key }
        };
        steps.into_iter().map(key).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn it_is_what_sets_are(keys in any_keys(1500), window in 1usize..900) {
        let (mut set, mut model) = (MessageWindow::of(window, usize::MAX), Model { window, ..Model::default() });
        for key in keys {
            prop_assert_eq!(set.insert(key), model.insert(key), "{:?}", key);
            prop_assert_eq!(set.size().messages as usize, model.newer.len() + model.older.len());
        }
        check_leaves(&set.newer.numbers);
        check_leaves(&set.older.numbers);
    }

    /// As a start learns them: those that were new, in their order.
    #[test]
    fn what_was_new_restores_it(keys in any_keys(1500), window in 1usize..900) {
        let mut set = MessageWindow::of(window, usize::MAX);
        let fresh: Vec<MessageKey> = keys.iter().copied().filter(|key| set.insert(*key)).collect();
        let mut restored = MessageWindow::of(window, usize::MAX);
        let from = fresh.len().saturating_sub(2 * window);
        fresh[from..].iter().for_each(|key| { restored.insert(*key); });
        for key in &fresh[fresh.len().saturating_sub(window)..] {
            prop_assert!(!restored.insert(*key) && !set.insert(*key), "{:?}", key);
        }
    }
}

/// For the keys, without what the index costs.
fn bytes(tree: &KeyTree) -> usize {
    tree.leaves().map(Leaf::bytes).sum()
}

/// That no order of keys makes a tree of many small leaves.
#[track_caller]
fn check_leaves(tree: &KeyTree) {
    let lens: Vec<usize> = tree.leaves().map(Leaf::len).collect();
    assert_eq!(lens.iter().sum::<usize>(), tree.len());
    let nodes: HashSet<u64> = tree.leaves().flat_map(Leaf::nodes).collect();
    let small = lens.iter().filter(|len| **len < LEAF_MAX / 2).count();
    assert!(small <= nodes.len(), "{small} of {lens:?} for {nodes:?}");
    assert!(lens.iter().all(|len| (1..=LEAF_MAX).contains(len)), "{lens:?}");
    let overhead = tree.bytes() - bytes(tree);
    assert_eq!(overhead % lens.len().max(1), 0, "{overhead} for {} leaves", lens.len());
    let spare = 16 * LEAF_MAX * nodes.len();
    assert!(bytes(tree) <= 2 * 16 * tree.len() + spare, "{} for {}", bytes(tree), tree.len());
}

/// Inserts keys, all new; then each once more. What one costs, in bytes.
#[track_caller]
fn fill(keys: impl Iterator<Item = MessageKey> + Clone) -> f64 {
    let mut window = MessageWindow::of(usize::MAX, usize::MAX);
    assert!(keys.clone().all(|key| window.insert(key)));
    assert!(keys.clone().all(|key| !window.insert(key)));
    check_leaves(&window.newer.numbers);
    bytes(&window.newer.numbers) as f64 / window.size().messages as f64
}

#[test]
fn messages_of_nsqds_cost_8_bytes_and_a_little() {
    const MESSAGES: u64 = 200_000;
    // 50 a tick of one nsqd; then of three in turn, which lie 10 ms behind each other.
    let one = (0..MESSAGES).map(|index| nsqd_key(nsqd_id(index / 50, 7, index % 50), 20_000));
    assert!(fill(one) < 8.1);
    let three = (0..MESSAGES).map(|index| {
        let (nsqd, index) = (index % 3, index / 3);
        nsqd_key(nsqd_id(index / 50 + 10 * nsqd, 7 + nsqd, index % 50), 20_000)
    });
    assert!(fill(three) < 8.3);
    // Of one node, as those on one host are.
    let same = (0..MESSAGES).map(|index| {
        let (nsqd, index) = (index % 3, index / 3);
        nsqd_key(nsqd_id(index / 50 + 10 * nsqd, 7, index % 50), 20_000 + nsqd as i64)
    });
    assert!(fill(same) < 13.0);
    // One a second.
    let slow = (0..MESSAGES).map(|index| nsqd_key(nsqd_id(index * 954, 7, 0), 1_000_000));
    assert!(fill(slow) < 8.1);
    let broker = (0..MESSAGES).map(|index| 1_790_000_000_000_000_000 + index * 100_000);
    let broker = broker.map(|id| MessageKey::new(MessageId::from_u64(id), id as i64));
    assert!(fill(broker) < 8.1);
}

#[test]
fn no_order_makes_small_leaves() {
    const MESSAGES: u64 = 20_000;
    let key = |id: u64| MessageKey::new(MessageId::from_u64(id), 5);
    let far = |index: u64| index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    fill((0..MESSAGES).map(|index| key(far(index))));
    fill((0..MESSAGES).rev().map(key));
    fill((0..MESSAGES).map(|index| key(index << 41)));
    fill((0..MESSAGES).rev().map(|index| key(index << 41)));
    // From both ends to the middle, and one ID with all timestamps.
    fill((0..MESSAGES).map(|index| key(if index % 2 == 0 { index } else { u64::MAX - index })));
    let same = |index: u64| MessageKey::new(MessageId::from_u64(7), far(index) as i64);
    fill((0..MESSAGES).map(same));
    // Always just before the highest of a full leaf.
    fill(
        (0..MESSAGES).map(|index| {
            key((index / 128) << 20 | if index % 2 == 0 { 1 << 19 } else { 0 } | index)
        }),
    );
}

#[test]
fn a_message_without_a_timestamp_stands_for_all_of_its_id() {
    for id in [MessageId::from_u64(nsqd_id(1, 2, 3)), MessageId(*b"not-a-hex-number")] {
        let dated = |ns| MessageKey::new(id, ns);
        let mut window = MessageWindow::of(100, usize::MAX);
        assert!(window.insert(MessageKey::undated(id)));
        assert!(!window.insert(MessageKey::undated(id)));
        assert!(!window.insert(dated(1)) && !window.insert(dated(i64::MIN)));
        let mut window = MessageWindow::of(100, usize::MAX);
        assert!(window.insert(dated(1)) && window.insert(dated(2)) && !window.insert(dated(1)));
        assert!(!window.insert(MessageKey::undated(id)));
        assert!(window.insert(dated(3)));
    }
}

#[test]
fn an_id_far_older_than_the_rest_is_remembered() {
    let mut window = MessageWindow::of(10_000, usize::MAX);
    assert!((0..9_000).all(|index| window.insert(nsqd_key(nsqd_id(1_000_000 + index, 7, 0), 9))));
    let old = nsqd_key(nsqd_id(5, 7, 0), 9);
    assert!(window.insert(old) && !window.insert(old));
    // Another of the same ID, as another nsqd may have made it.
    assert!(window.insert(nsqd_key(nsqd_id(5, 7, 0), 10)));
    assert!(
        (9_000..18_000).all(|index| window.insert(nsqd_key(nsqd_id(1_000_000 + index, 7, 0), 9)))
    );
    assert!(!window.insert(old));
}

#[test]
fn the_newest_are_remembered_and_no_more_than_twice_as_many() {
    let mut window = MessageWindow::of(1000, usize::MAX);
    let key = |index| nsqd_key(nsqd_id(index, 7, 0), 9);
    for index in 0..5_000 {
        assert!(window.insert(key(index)));
        assert!(window.size().messages <= 2000);
        assert!(!window.insert(key(index.saturating_sub(999))));
    }
    assert!(window.insert(key(0)));
}

#[test]
fn the_highest_and_the_lowest_fit() {
    let mut window = MessageWindow::of(100, usize::MAX);
    for (id, stamp) in [(u64::MAX, i64::MAX), (0, i64::MIN), (0, i64::MAX), (u64::MAX, i64::MIN)] {
        let key = MessageKey::new(MessageId::from_u64(id), stamp);
        assert!(window.insert(key) && !window.insert(key));
    }
    assert_eq!(window.size().messages, 4);
}

#[test]
fn a_budget_holds_a_million_messages_of_nsqds_by_default() {
    assert_eq!(MessageBudget::default().messages(), 1 << 20);
    assert_eq!(MessageBudget::from_mb(320).messages(), 10 << 20);
    assert_eq!(MessageBudget::from_mb(u64::MAX), MessageBudget::from_mb(MessageBudget::MAX_MB));
}

/// A key that has no place among the narrow ones of a full leaf makes it wide before it is split.
#[test]
fn a_full_leaf_that_becomes_wide_costs_what_is_said() {
    let mut tree = KeyTree::default();
    for tick in 0..LEAF_MAX as u64 {
        let key = nsqd_key(nsqd_id(tick, 7, 0), 0);
        assert!(tree.insert(nsqd_id(tick, 7, 0), key.timestamp_ns()));
    }
    check_leaves(&tree);
    assert!(tree.insert(nsqd_id(60, 7, 0), Some(0)));
    check_leaves(&tree);
}

/// As many as have room, whatever they cost, and the figures say so.
#[test]
fn no_order_takes_more_than_the_budget() {
    let budget = MessageBudget::from_mb(1);
    let nsqd = |index: u64| nsqd_key(nsqd_id(index / 50, 7, index % 50), 20_000);
    let far = |index: u64| {
        let id = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        MessageKey::new(MessageId::from_u64(id), id.reverse_bits() as i64)
    };
    let other = |index: u64| {
        let mut id = [b'G'; 16];
        id[8..].copy_from_slice(&index.to_be_bytes());
        MessageKey::new(MessageId(id), 5)
    };
    let most = |key: &dyn Fn(u64) -> MessageKey| {
        let mut window = MessageWindow::new(budget);
        let keys = 3 * budget.messages();
        let sizes = (0..keys).map(|index| {
            assert!(window.insert(key(index)));
            window.size()
        });
        sizes.max_by_key(|size| size.bytes).unwrap()
    };
    let (of_nsqd, of_far, of_other) = (most(&nsqd), most(&far), most(&other));
    for size in [of_nsqd, of_far, of_other] {
        assert!(size.bytes <= (1 << 20) + 5_000, "{size:?}");
    }
    assert!(of_nsqd.messages > budget.messages(), "{of_nsqd:?}");
    // Those that cost more are fewer: each of a thousand nodes has leaves of its own.
    assert!(of_far.messages > 1_000 && of_other.messages > 20_000, "{of_far:?} {of_other:?}");
    assert_eq!(of_other.oldest_ns, Some(5));
}

#[test]
fn the_first_message_that_is_remembered_tells_how_far_back() {
    let mut window = MessageWindow::of(100, usize::MAX);
    let key = |index: u64| MessageKey::new(MessageId::from_u64(index), 1000 + index as i64);
    assert_eq!(window.size().oldest_ns, None);
    for index in 0..200 {
        window.insert(key(index));
        assert_eq!(window.size().oldest_ns, Some(if index < 199 { 1000 } else { 1100 }), "{index}");
    }
}
