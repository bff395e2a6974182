use nsq_protocol::MessageId;
use proptest::prelude::*;

use super::messages::{MessageRuns, decode_messages_v1, encode_messages};
use super::*;
use crate::ledger::message_key::{IdClock, MessageKey};
use crate::model::video_id::VideoId;

fn any_runs() -> impl Strategy<Value = Vec<Range<u64>>> {
    proptest::collection::vec((1u64..1 << 40, 1u64..1 << 40), 1..6).prop_map(|pairs| {
        let mut end = 0;
        let run = |(gap, len)| {
            let start = end + gap;
            end = start + len;
            start..end
        };
        pairs.into_iter().map(run).collect()
    })
}

/// Of nsqd, of the embedded broker, of anybody; some without a timestamp.
fn any_message() -> impl Strategy<Value = MessageKey> {
    let key = |id, stamp| MessageKey::new(MessageId::from_u64(id), stamp);
    prop_oneof![
        (1u64 << 60..1 << 61, 0i64..1 << 22)
            .prop_map(move |(id, ns)| key(id, IdClock::Nsqd.time_ns(id) + ns)),
        (1_790_000_000_000_000_000u64..1_800_000_000_000_000_000)
            .prop_map(move |id| key(id, id as i64)),
        any::<(u64, i64)>().prop_map(move |(id, stamp)| key(id, stamp)),
        any::<([u8; 16], i64)>().prop_map(|(id, stamp)| MessageKey::new(MessageId(id), stamp)),
        any::<u64>().prop_map(|id| MessageKey::undated(MessageId::from_u64(id))),
        any::<[u8; 16]>().prop_map(|id| MessageKey::undated(MessageId(id))),
    ]
}

prop_compose! {
    fn any_record()(
        fields in any::<[u64; 6]>(),
        first_video in any::<u32>(),
        new_videos in proptest::collection::vec(any::<u128>(), 0..5),
        deltas in proptest::collection::vec(any::<(u32, u64, u64)>(), 0..20),
        producers in proptest::collection::vec((any::<u128>(), any_runs()), 0..4),
        messages in proptest::collection::vec(any_message(), 0..12),
        retried in prop_oneof![Just(Vec::new()), any_runs()],
    ) -> Record {
        let delta = |(number, plays, last_played_at)| Delta { number, plays, last_played_at };
        Record {
            counters: Counters::from_fields(fields),
            first_video,
            new_videos: new_videos.into_iter().map(VideoId::from_u128).collect(),
            deltas: deltas.into_iter().map(delta).collect(),
            learned: Learned {
                producers: producers.into_iter().map(|(id, runs)| (Uuid::from_u128(id), runs)).collect(),
                messages,
            },
            retried,
        }
    }
}

fn encode(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

/// With the checksum that they need.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// As version 1 had it, the messages of one nsqd.
fn encode_v1(record: &Record, nsqd: u64) -> Vec<u8> {
    let without = Record {
        new_videos: Vec::new(),
        learned: Learned { messages: Vec::new(), ..record.learned.clone() },
        retried: Vec::new(),
        ..record.clone()
    };
    let bytes = encode(&without);
    // Behind the version, six counters and the first video's number come the videos, none here.
    let mut input = Input(&bytes[1..]);
    for _ in 0..7 {
        input.number().unwrap();
    }
    let (head, rest) = (&bytes[1..bytes.len() - input.0.len()], &input.0[1..]);
    // The messages, none, and the checksum.
    let rest = &rest[..rest.len() - 5];
    let mut old = vec![OLD_VERSION];
    old.extend_from_slice(head);
    put(&mut old, record.new_videos.len() as u64);
    record.new_videos.iter().for_each(|id| old.extend_from_slice(&id.to_bytes()));
    old.extend_from_slice(rest);
    put(&mut old, record.learned.messages.len() as u64);
    old.extend(messages_v1(record, nsqd));
    sealed(old)
}

fn messages_v1(record: &Record, nsqd: u64) -> Vec<u8> {
    let messages = record.learned.messages.iter();
    messages.flat_map(|key| [&nsqd.to_le_bytes()[..], &key.id().0].concat()).collect()
}

proptest! {
    #[test]
    fn a_record_survives_its_bytes(record in any_record()) {
        prop_assert_eq!(Record::decode(&encode(&record)), Ok(record));
    }

    #[test]
    fn a_record_of_version_1_is_read(record in any_record(), nsqd in any::<u64>()) {
        let mut messages: Vec<_> = record.learned.messages.clone();
        messages.iter_mut().for_each(|key| *key = MessageKey::undated(key.id()));
        prop_assert_eq!(decode_messages_v1(&messages_v1(&record, nsqd)), Ok(messages.clone()));
        let read = Record::decode(&encode_v1(&record, nsqd)).unwrap();
        prop_assert_eq!(&read, &Record { learned: Learned { messages, ..record.learned.clone() }, retried: Vec::new(), ..record });
        prop_assert_eq!(Record::decode(&encode(&read)), Ok(read));
    }

    #[test]
    fn a_changed_byte_is_noticed(record in any_record(), at in any::<prop::sample::Index>(), by in 1u8..=255, old in any::<bool>()) {
        let mut bytes = if old { encode_v1(&record, 7) } else { encode(&record) };
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assert_eq!(Record::decode(&bytes), Err(Damaged.into()));
        prop_assert_eq!(Record::decode(&bytes[..at]), Err(Damaged.into()));
    }

    #[test]
    fn the_messages_of_many_records_are_kept_in_order(records in proptest::collection::vec(any_record(), 0..5)) {
        let (mut runs, mut all) = (MessageRuns::default(), Vec::new());
        for (number, record) in records.iter().enumerate() {
            let messages = &record.learned.messages;
            let mut bytes = vec![1, 2, 3];
            let place = record.encode(&mut bytes);
            match number % 2 {
                0 => runs.append(messages.len(), &bytes[place]),
                _ => runs.extend(messages),
            }
            all.extend_from_slice(messages);
        }
        prop_assert_eq!((runs.len(), runs.is_empty()), (all.len(), all.is_empty()));
        prop_assert_eq!(decode_messages(&runs.encode()), Ok(all));
    }

    /// Behind a right checksum, too: what is read is what is written again.
    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0..5u8) {
        let _ = (decode_runs(&bytes), decode_messages_v1(&bytes));
        if let Ok(messages) = decode_messages(&bytes) {
            prop_assert_eq!(count_messages(&bytes), Ok(messages.len() as u64));
            let mut again = Vec::new();
            encode_messages(&messages, &mut again);
            prop_assert_eq!(decode_messages(&again), Ok(messages));
        }
        bytes.insert(0, version);
        if let Ok(record) = Record::decode(&sealed(bytes)) {
            prop_assert_eq!(Record::decode(&encode(&record)), Ok(record));
        }
    }
}

/// Keys in a row, for what they cost.
fn size(keys: impl Iterator<Item = (u64, i64)>) -> f64 {
    let keys: Vec<_> =
        keys.map(|(id, stamp)| MessageKey::new(MessageId::from_u64(id), stamp)).collect();
    let mut bytes = Vec::new();
    encode_messages(&keys, &mut bytes);
    assert_eq!(decode_messages(&bytes).as_ref(), Ok(&keys));
    bytes.len() as f64 / keys.len() as f64
}

#[test]
fn messages_of_nsqd_cost_few_bytes() {
    let nsqd = |tick: u64, sequence, ns: i64| {
        let id = (423_000_000_000 + tick) << 22 | 7 << 12 | sequence;
        (id, IdClock::Nsqd.time_ns(id) + ns)
    };
    // 50,000 a second, in batches of 200; 1,000 a second; one alone.
    let fast = (0..200).map(|index| nsqd(index / 50, index % 50, 20_000 * (index % 50) as i64));
    assert!(size(fast) <= 4.2);
    let slow = (0..20).map(|index| nsqd(index, 0, (index * 377_777 % 1_000_000) as i64));
    assert!(size(slow) <= 7.5);
    assert!(size(std::iter::once(nsqd(0, 0, 500_000))) <= 14.0);
    let broker =
        (0..200).map(|index| 1_790_000_000_000_000_000 + index / 50 * 1_000_000 + index % 50);
    assert!(size(broker.map(|id| (id, (id - id % 50) as i64))) <= 3.0);
}

#[test]
fn what_a_newer_playcounts_writes_is_refused_with_a_reason() {
    let refusal = |bytes| Record::decode(&sealed(bytes)).unwrap_err().to_string();
    assert!(refusal(vec![4]).contains("has version 4, of a newer playcounts; this one knows 3"));
    // The version, six counters, the first video, and how many new ones: one.
    let mut bytes = vec![VERSION, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut with_id = |len: u8| {
        bytes.truncate(9);
        bytes.push(len);
        bytes.resize(bytes.len() + usize::from(len), b'v');
        // No deltas, producers, messages.
        bytes.extend([0; 4]);
        bytes.clone()
    };
    for len in [16, 17, 127] {
        assert!(Record::decode(&sealed(with_id(len))).is_ok());
    }
    for len in [0, 15] {
        assert_eq!(Record::decode(&sealed(with_id(len))), Err(Damaged.into()));
    }
}
