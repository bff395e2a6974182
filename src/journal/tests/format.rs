//! The bytes of head, mark and frame, which are pinned; and what is none of them.

use super::super::frame::{
    FRAME_LEN, FRAMES_AT, Frame, MARK_AT, MARK_LEN, Mark, NoHead, SegmentHead,
};
use super::super::scan::{Behind, Stop, look_behind, scan};
use super::super::segment::{segment_name, segment_number};
use super::*;

fn head() -> SegmentHead {
    SegmentHead {
        kind: JournalKind::Ledger,
        owner: JournalOwner::Simulation,
        life: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        boot: Uuid::from_u128(2),
        segment: 7,
        size: 16 << 20,
        draw: Uuid::from_u128(3),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_a_head() {
    assert_eq!(
        hex(&head().encode()),
        "504c41594a524e4c01000000010100000011223344556677\
         8899aabbccddeeff00000000000000000000000000000002\
         07000000000000000000000100000000\
         0000000000000000000000000000000353ca8487"
    );
    assert_eq!(head().seed(), 0x02d7_a738);
    assert_eq!(SegmentHead::decode(&head().encode()), Ok(head()));
    assert_eq!((FRAMES_AT, MARK_AT, MARK_LEN, FRAME_LEN), (4096, 512, 28, 24));
}

#[test]
fn the_bytes_of_a_mark() {
    for (mark, bytes) in [
        (Mark::Empty, "0100000000000000".to_owned() + &"00".repeat(16) + "effff700"),
        (Mark::OPEN, "0200000000000000".to_owned() + &"00".repeat(16) + "8ccecbcb"),
        (
            Mark::Open { end: 4200, next: 258 },
            "020000000000000068100000000000000201000000000000992207a8".to_owned(),
        ),
        (
            Mark::Sealed { end: 4200, next: 258 },
            "03000000000000006810000000000000020100000000000017e04812".to_owned(),
        ),
        (
            Mark::Closed { end: 4200, next: 258 },
            "040000000000000068100000000000000201000000000000ae36933b".to_owned(),
        ),
    ] {
        let encoded = mark.encode(head().seed());
        assert_eq!(hex(&encoded), bytes, "{mark:?}");
        assert_eq!(Mark::decode(&encoded, head().seed()), Some(mark));
        assert_eq!(Mark::decode(&encoded, head().seed() + 1), None, "of another segment");
        for bit in 0..8 * MARK_LEN {
            let mut flipped = encoded;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&flipped, head().seed()), None, "{mark:?}, bit {bit}");
        }
    }
}

#[test]
fn the_bytes_of_a_frame() {
    for (number, synced_below, payload, bytes) in [
        (1, 1, &b"a"[..], "5466dfd601000000010000000000000000000000a8176caf61"),
        (258, 250, b"play", "799b750304000000020100000000000008000000ca5ec3a9706c6179"),
        // The end of a segment.
        (259, 259, b"", "c74b674800000000030100000000000000000000f745f2a8"),
    ] {
        let frame = Frame { number, synced_below, payload };
        let mut encoded = Vec::new();
        frame.encode(head().seed(), &mut encoded);
        assert_eq!(hex(&encoded), bytes, "{frame:?}");
        assert_eq!(Frame::decode(&encoded, head().seed()), Some(frame));
        assert_eq!(Frame::decode(&encoded, head().seed() + 1), None, "of another segment");
        assert_eq!(Frame::decode(&encoded[..encoded.len() - 1], head().seed()), None);
        for bit in 0..8 * encoded.len() {
            let mut flipped = encoded.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Frame::decode(&flipped, head().seed()), None, "{frame:?}, bit {bit}");
        }
    }
}

#[test]
fn what_is_synced_is_told_as_less_where_it_is_too_far_away() {
    let mut bytes = Vec::new();
    Frame { number: 1 << 40, synced_below: 5, payload: b"a" }.encode(9, &mut bytes);
    let frame = Frame::decode(&bytes, 9).unwrap();
    assert_eq!(frame.synced_below, (1 << 40) - u64::from(u32::MAX));
}

#[test]
fn a_head_that_is_changed_is_none() {
    let bytes = head().encode();
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(SegmentHead::decode(&flipped), Err(NoHead::Damaged), "bit {bit}");
    }
    for (at, value) in [(8, 2), (12, 9), (13, 9)] {
        let mut newer = bytes;
        newer[at] = value;
        let checksum = crc32c::crc32c(&newer[..80]);
        newer[80..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(SegmentHead::decode(&newer), Err(NoHead::Newer), "byte {at}");
    }
}

#[test]
fn names_of_segments() {
    for (name, number) in [
        ("0000000001.segment", Some(1)),
        ("12345678901.segment", Some(12_345_678_901)),
        ("1.segment", None),
        ("00000000001.segment", None),
        ("+000000001.segment", None),
        ("spare-0", None),
        ("0000000001.segment~", None),
    ] {
        assert_eq!(segment_number(name), number, "{name}");
        assert!(number.is_none_or(|number| segment_name(number) == name));
    }
}

/// Frames 5, 6, … behind each other, as many as there are payloads.
fn frames(payloads: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; FRAMES_AT];
    for (number, payload) in (5..).zip(payloads) {
        Frame { number, synced_below: 4, payload }.encode(9, &mut bytes);
    }
    bytes
}

#[test]
fn why_frames_end() {
    let two = frames(&[b"one", b"two"]);
    let with_end = frames(&[b"one", b"two", b""]);
    let limit = two.len() as u64;
    for (bytes, first, limit, found) in [
        (&two, Some(5), None, (limit as usize, Some(7), Stop::NoFrame)),
        (&two, None, None, (limit as usize, Some(7), Stop::NoFrame)),
        (&two, Some(5), Some(limit), (limit as usize, Some(7), Stop::Limit)),
        (&two, Some(4), None, (FRAMES_AT, Some(4), Stop::Jump(5))),
        (&with_end, Some(5), None, (with_end.len(), Some(7), Stop::End)),
        (&vec![0; 9], None, None, (FRAMES_AT, None, Stop::NoFrame)),
    ] {
        let scanned = scan::<()>(bytes, 9, first, limit, |_, _| Ok(())).unwrap();
        assert_eq!((scanned.end, scanned.next, scanned.stop), found);
    }
}

#[test]
fn what_lies_behind_the_last_frame() {
    let mut bytes = frames(&[b"one", b"two", b"three"]);
    let end = FRAMES_AT + FRAME_LEN + 3;
    let look = |bytes: &[u8]| look_behind(bytes, 9, end, 6);
    let none = Behind { torn: 0, has_frames: false, synced_below: 0 };
    assert_eq!(look(&bytes[..end]), none);
    bytes.resize(20_000, 0);
    let (two, three) = (FRAME_LEN + 3, FRAME_LEN + 5);
    let frames = Behind { torn: two + three, has_frames: true, synced_below: 4 };
    assert_eq!(look(&bytes), frames);
    bytes[end + FRAME_LEN] ^= 1;
    assert_eq!(look(&bytes), frames, "a gap before a frame");
    bytes[end + two + FRAME_LEN] ^= 1;
    assert_eq!(look(&bytes), Behind { torn: two, ..none }, "its head says how long it is");
    bytes[end + 20] ^= 1;
    assert_eq!(look(&bytes), Behind { torn: FRAME_LEN, ..none });
    bytes[end..end + FRAME_LEN].fill(0);
    assert_eq!(look(&bytes), none);
}

/// Payloads can hold what looks like heads of frames, for what anybody knows who has not read the segment's head; the
/// search behind a gap neither takes them for frames nor reads what they claim to hold.
#[test]
fn heads_of_strangers_are_no_frames() {
    let mut stranger = Vec::new();
    stranger.extend_from_slice(&[1, 2, 3, 4]);
    stranger.extend_from_slice(&60_000u32.to_le_bytes());
    stranger.extend_from_slice(&100u64.to_le_bytes());
    stranger.extend_from_slice(&[0; 8]);
    let bytes = [vec![0; FRAMES_AT], stranger.repeat(40_000)].concat();
    let behind = look_behind(&bytes, 9, FRAMES_AT, 1);
    assert_eq!(behind, Behind { torn: FRAME_LEN, has_frames: false, synced_below: 0 });
}
