//! Any order of plays, with an identity or by their messages: what is counted is what a tree says, and what was written down
//! tells the same after a start.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use nsq_protocol::MessageId;
use playcounts::ledger::{Counters, Dedupe, MessageKey, Record, Seen};
use playcounts::model::play::{Play, PlayIdentity};
use uuid::Uuid;

fuzz_target!(|data: &[u8]| {
    let mut dedupe = Dedupe::new();
    let mut model = BTreeSet::new();
    let mut messages = BTreeSet::new();
    let mut restored = Dedupe::new();
    let mut at = [0u64; 4];
    for (index, step) in data.chunks_exact(3).enumerate() {
        let producer = usize::from(step[0] & 3);
        let distance = u64::from(u16::from_le_bytes([step[1], step[2]]));
        let seq = match step[0] >> 2 & 3 {
            0 => at[producer].saturating_add(distance & 3),
            1 => at[producer].saturating_sub(distance),
            2 => at[producer].saturating_add(distance << (step[0] >> 4)),
            _ => PlayIdentity::MAX_SEQ - distance,
        }
        .min(PlayIdentity::MAX_SEQ);
        at[producer] = seq;
        let identity = PlayIdentity { producer: Uuid::from_u128(producer as u128), seq };
        let mut play = Play { video_id: Uuid::nil().into(), enqueued_at_ns: None, identity: Some(identity), resent: false };
        if step[0] & 0x40 == 0 {
            let message = MessageKey::new(MessageId::from_u64(index as u64), 0);
            let fresh = dedupe.insert(&play, message) == Seen::New;
            assert_eq!(fresh, model.insert((producer, seq)));
        } else {
            // Far fewer than the window holds.
            play.identity = None;
            let message = message(producer, seq, step[1]);
            let fresh = dedupe.insert(&play, message) == Seen::NewByMessage;
            assert_eq!(fresh, messages.insert(message));
        }
        if step[0] & 0x80 != 0 {
            write_down(&mut dedupe, &mut restored);
        }
    }
    write_down(&mut dedupe, &mut restored);
    for producer in 0..4 {
        let id = Uuid::from_u128(producer as u128);
        let Some(counted) = dedupe.counted(&id) else { continue };
        let mine = || model.iter().filter(|(other, _)| *other == producer).map(|(_, seq)| *seq);
        assert!(counted.runs().map(|run| run.end - run.start).sum::<u64>() == mine().count() as u64);
        assert!(mine().all(|seq| counted.contains(seq)));
        assert_eq!(counted.watermark(), (0..).zip(mine()).take_while(|(n, seq)| n == seq).count() as u64);
        let again = restored.counted(&id).expect("it was written down");
        assert!(again.runs().eq(counted.runs()));
    }
    assert!(messages.iter().all(|message| !restored.insert_message(*message)));
});

/// Of nsqd, of the embedded broker, of anybody with numbers, and of anybody.
fn message(kind: usize, number: u64, stamp: u8) -> MessageKey {
    let ns = number as i64;
    match kind {
        0 => MessageKey::new(MessageId::from_u64(number << 10), 1_351_443_822_882_521_088 + (ns >> 12 << 20) + i64::from(stamp)),
        1 => MessageKey::new(MessageId::from_u64(number), ns - i64::from(stamp)),
        2 => MessageKey::new(MessageId::from_u64(number.reverse_bits()), ns.reverse_bits()),
        _ => MessageKey::new(MessageId([stamp; 16]), i64::MIN + (ns & 3)),
    }
}

/// As a commit and a start do.
fn write_down(dedupe: &mut Dedupe, restored: &mut Dedupe) {
    let learned = dedupe.take_learned();
    let record = Record { counters: Counters::default(), learned, ..Record::default() };
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    let record = Record::decode(&bytes).expect("its own bytes");
    record.learned.producers.into_iter().for_each(|(id, runs)| restored.learn(id, runs));
    record.learned.messages.into_iter().for_each(|message| restored.learn_message(message));
}
