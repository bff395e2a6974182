//! What is counted, what is taken back, and what a wrong clock said.

use nsq_protocol::MessageId;

use super::counting::Counted;
use super::*;
use crate::ledger::commit::ArrivedPlay;
use crate::ledger::dedupe::{Learned, Seen};
use crate::ledger::message_key::MessageKey;
use crate::model::play::Play;
use crate::model::unix_time::UnixMs;
use crate::model::video_id::VideoId;

/// Of a video, by its number, at so many seconds.
fn arrived(video: u128, second: u64) -> ArrivedPlay {
    let enqueued_at_ns = Some((1_790_000_000 + second) * 1_000_000_000);
    let video_id = VideoId::from_u128(video);
    let play = Play { video_id, enqueued_at_ns, identity: None, resent: false };
    ArrivedPlay::new(play, MessageKey::new(MessageId::from_u64(second), 5))
}

/// All of them new.
fn count(counts: &mut VideoCounts, plays: &[ArrivedPlay]) -> Counted {
    let mut counting = counts.count();
    for arrived in plays {
        assert!(counting.play(arrived, Seen::NewByMessage, |_| false));
    }
    counting.end(Learned::default())
}

fn commit(counts: &mut VideoCounts, plays: &[ArrivedPlay]) -> Counted {
    let mut counted = count(counts, plays);
    counts.apply(&mut counted);
    counted
}

fn plays(counts: &VideoCounts) -> Vec<(u128, u64)> {
    counts.videos().map(|video| (video.video_id.guid().unwrap().as_u128(), video.plays)).collect()
}

#[test]
fn nothing_grows_before_it_is_durable() {
    let mut counts = VideoCounts::default();
    commit(&mut counts, &[arrived(7, 0), arrived(8, 1), arrived(7, 2)]);
    counts.changed_mut().take();
    let before = (plays(&counts), counts.counters());
    let more = [arrived(7, 3), arrived(9, 4), arrived(9, 5), arrived(5, 6)];
    let counted = count(&mut counts, &more);
    assert_eq!(counted.record.counters.counted, 4);
    assert_eq!(counted.record.new_videos, [VideoId::from_u128(9), VideoId::from_u128(5)]);
    assert_eq!(counts.counters(), before.1);
    assert!(counts.changed().is_empty());
    // The database is away: it comes again, and others of the same commit may not.
    counts.withdraw(&counted);
    assert_eq!((plays(&counts), counts.counters()), before);
    let again = commit(&mut counts, &[arrived(5, 6), arrived(7, 3)]);
    assert_eq!(
        (again.record.first_video, again.record.new_videos),
        (2, vec![VideoId::from_u128(5)])
    );
    assert_eq!(plays(&counts), [(7, 3), (8, 1), (5, 1)]);
    assert_eq!(counts.changed_mut().take(), [2, 0]);
    // What was told of a video that is taken back is forgotten with it.
    let counted = count(&mut counts, &[arrived(6, 7)]);
    counts.change_all();
    counts.withdraw(&counted);
    assert_eq!(counts.changed_mut().take(), [0, 1, 2]);
}

#[test]
fn what_a_wrong_clock_said_is_forgotten() {
    let mut counts = VideoCounts::default();
    let mut absurd = arrived(9, 0);
    absurd.played_at_ns = u64::MAX;
    commit(&mut counts, &[arrived(7, 0), arrived(8, 100_000), absurd]);
    let mut played_after = |now| {
        counts.forget_future(UnixMs(now));
        counts.videos().map(|video| video.last_played_at).collect::<Vec<_>>()
    };
    let (seven, eight) = (1_790_000_000_000, 1_790_100_000_000);
    // A clock that was never set, one that is set back by less than a day, by more than one.
    assert_eq!(played_after(0), [seven, eight, u64::MAX / 1_000_000]);
    assert_eq!(played_after(1_790_020_000_000), [seven, eight, 0]);
    assert_eq!(played_after(1_790_000_000_000), [seven, 0, 0]);
}
