//! What a commit comes across beside what it counts.

use crate::ledger::commit::{ArrivedPlay, Noticed};
use crate::ledger::message_key::MessageKey;
use crate::ledger::message_window::MessageBudget;
use nsq_protocol::MessageId;

use super::*;
use crate::model::play::{Play, PlayIdentity};
use crate::model::video_id::VideoId;

/// Of a video, by its number of a producer or without one, at so many seconds, in that message.
fn arrived(video: u128, identity: Option<(u128, u64)>, second: u64, message: u64) -> ArrivedPlay {
    let identity =
        identity.map(|(producer, seq)| PlayIdentity { producer: Uuid::from_u128(producer), seq });
    let enqueued_at_ns = Some((1_790_000_000 + second) * 1_000_000_000);
    let play =
        Play { video_id: VideoId::from_u128(video), enqueued_at_ns, identity, resent: false };
    ArrivedPlay::new(play, MessageKey::new(MessageId::from_u64(message), 5))
}

fn commit(state: &mut LedgerState, plays: Vec<ArrivedPlay>) -> Noticed {
    let mut arrivals = [Arrivals { plays, rejected: Vec::new() }];
    state.count_arrivals(&mut arrivals).noticed
}

#[test]
fn a_redelivery_that_may_have_been_forgotten_is_noticed() {
    let budget = MessageBudget::from_mb(1);
    let mut state = LedgerState::with_budget(budget);
    let again = |message| ArrivedPlay { attempts: 2, ..arrived(7, None, 0, message) };
    let unknown = |state: &mut LedgerState, play| commit(state, vec![play]).redelivered_unknown;
    assert_eq!(unknown(&mut state, arrived(7, None, 0, 1)), 0);
    // All that were counted are remembered: it was not.
    assert_eq!(unknown(&mut state, again(2)), 0);
    let many = (10..3 * budget.messages()).map(|message| arrived(7, None, 0, message)).collect();
    assert_eq!(commit(&mut state, many), Noticed::default());
    assert_eq!(unknown(&mut state, again(3)), 1);
    // One that is known, one that comes for the first time, one with an identity.
    assert_eq!(unknown(&mut state, again(3)), 0);
    assert_eq!(unknown(&mut state, arrived(7, None, 0, 4)), 0);
    assert_eq!(
        unknown(&mut state, ArrivedPlay { attempts: 9, ..arrived(7, Some((1, 0)), 0, 5) }),
        0
    );
    // Counted twice, as it is noticed.
    assert_eq!(unknown(&mut state, again(1)), 1);
    assert_eq!(state.counts.counters().by_message, 3 * budget.messages() - 10 + 5);
}

#[test]
fn numbers_that_a_producer_gives_twice_are_noticed_by_producer() {
    let mut state = LedgerState::default();
    let plays = |video, second, from| {
        (0..100u64)
            .map(|seq| arrived(video, Some((1, seq)), second + seq, from + seq))
            .collect::<Vec<_>>()
    };
    let reused = |noticed: Noticed| {
        assert!(noticed.reused.len() <= 1);
        let reused = noticed.reused.get(&Uuid::from_u128(1)).copied().unwrap_or_default();
        (reused.other_video, reused.unproven)
    };
    // Of the newest plays each has the place that its hash gives: of 100 in 65,536 places a few may have lost theirs.
    let is_copy = |(other_video, unproven)| other_video == 0 && unproven <= 5;
    assert_eq!(reused(commit(&mut state, plays(7, 0, 0))), (0, 0));
    // Copies: the same message again, the same play in another message, one that says so.
    let again = plays(7, 0, 0).into_iter().map(|play| ArrivedPlay { attempts: 2, ..play });
    assert_eq!(reused(commit(&mut state, again.collect())), (0, 0));
    assert!(is_copy(reused(commit(&mut state, plays(7, 0, 1000)))));
    let resent = plays(7, 500, 2000)
        .into_iter()
        .map(|arrived| ArrivedPlay { play: Play { resent: true, ..arrived.play }, ..arrived });
    assert_eq!(reused(commit(&mut state, resent.collect())), (0, 0));
    // A producer that begins at 0 again: with other videos; with the same one, at other times.
    let (other_video, unproven) = reused(commit(&mut state, plays(8, 500, 3000)));
    assert!(other_video >= 95 && other_video + unproven == 100, "{other_video} {unproven}");
    let (other_video, unproven) = reused(commit(&mut state, plays(7, 500, 4000)));
    assert!(other_video == 0 && unproven > 90, "{unproven}");
    let again = plays(7, 500, 4000).into_iter().map(|play| ArrivedPlay { attempts: 2, ..play });
    assert_eq!(reused(commit(&mut state, again.collect())), (0, 0));
    assert_eq!(state.counts.counters().counted, 100);
}
