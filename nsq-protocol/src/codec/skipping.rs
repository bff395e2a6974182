//! A message over the limit: its beginning is kept, the rest is dropped as it comes (pure).

use crate::codec::message::{FRAME_HEAD_LEN, MESSAGE_HEAD_LEN, MessageRef, TYPE_MESSAGE};
use crate::codec::stream_buffer::StreamBuffer;

/// The largest size field of a message that is skipped: nsqd has it in 32 bits with a sign. More is no message.
const MAX_SKIPPED: u32 = i32::MAX as u32;

/// Skips one oversized message after the other.
#[derive(Debug)]
pub(super) struct Skipping {
    /// Bytes of a body that are kept; below the limit.
    kept: usize,
    /// The message's head and the kept part of its body; empty when none is skipped.
    start: Vec<u8>,
    /// Bytes of the frame that have not passed yet.
    left: usize,
    /// Bytes of the body that are not kept.
    skipped: usize,
}

impl Skipping {
    pub(super) fn new(kept: usize) -> Self {
        Self { kept, start: Vec::new(), left: 0, skipped: 0 }
    }

    /// Bytes of a frame that are looked at before the others are dropped.
    pub(super) fn start_len(&self) -> usize {
        FRAME_HEAD_LEN + MESSAGE_HEAD_LEN + self.kept
    }

    /// Whether a message was begun and not given out.
    pub(super) fn is_under_way(&self) -> bool {
        self.skipped > 0
    }

    /// Takes the start of the frame at the front of `buffer`, which is over the limit. `Some(false)`: too little of
    /// it is there. `None`: it is no message, or too large for one.
    pub(super) fn start(&mut self, size: u32, buffer: &mut StreamBuffer) -> Option<bool> {
        let taken = self.start_len();
        // What is over a limit that no message is below is too short to have been cut.
        if size > MAX_SKIPPED || 4 + size as usize <= taken {
            return None;
        }
        let Some(head) = buffer.pending().first_chunk::<FRAME_HEAD_LEN>() else {
            return Some(false);
        };
        if head[4..] != TYPE_MESSAGE.to_be_bytes() {
            return None;
        }
        if buffer.pending().len() < taken {
            return Some(false);
        }
        self.start.clear();
        self.start.extend_from_slice(&buffer.take(taken)[FRAME_HEAD_LEN..]);
        self.skipped = 4 + size as usize - taken;
        self.left = self.skipped;
        Some(true)
    }

    /// How many of the next `there` bytes belong to the message; they have passed.
    pub(super) fn pass(&mut self, there: usize) -> usize {
        let passed = there.min(self.left);
        self.left -= passed;
        passed
    }

    /// The message, once, when all of it has passed.
    pub(super) fn message(&mut self) -> Option<MessageRef<'_>> {
        if self.left > 0 {
            return None;
        }
        let skipped = std::mem::take(&mut self.skipped);
        MessageRef::decode(&self.start).map(|message| MessageRef { skipped, ..message })
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::frame::{DecodeError, Frame, FrameDecoder};
    use crate::codec::message::{MESSAGE_HEAD_LEN, MessageId, MessageRef};
    use proptest::prelude::*;

    /// The largest body that comes whole.
    const MAX_BODY: usize = 70_000;

    const MAX_FRAME: usize = MAX_BODY + MESSAGE_HEAD_LEN + 4;

    /// What a decoder may hold: two buffers at rest and the largest frame.
    const HELD: usize = 4 + MAX_FRAME + 2 * (64 << 10);

    fn message(body: &[u8], skipped: usize) -> MessageRef<'_> {
        MessageRef { timestamp_ns: 5, attempts: 2, id: MessageId::from_u64(7), body, skipped }
    }

    fn wire(frame: Frame<'_>) -> Vec<u8> {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        wire
    }

    fn decoder(kept: usize) -> FrameDecoder {
        let mut decoder = FrameDecoder::new(MAX_FRAME);
        decoder.skip_oversized(kept);
        decoder
    }

    #[track_caller]
    fn check(wire: &[u8], kept: usize, want: Result<Option<Frame<'_>>, DecodeError>) {
        let mut decoder = decoder(kept);
        decoder.push(wire);
        assert_eq!(decoder.next_frame(), want);
    }

    #[test]
    fn what_is_over_the_limit_comes_as_its_beginning() {
        let body = vec![b'x'; 3 * MAX_BODY];
        for (len, kept, want) in [
            (MAX_BODY, 10, MAX_BODY),
            (MAX_BODY + 1, 10, 10),
            (MAX_BODY + 1, 0, 0),
            // No more than a message of the limit has.
            (MAX_BODY + 1, usize::MAX, MAX_BODY),
            (3 * MAX_BODY, 16, 16),
        ] {
            let whole = message(&body[..len], 0);
            let cut = message(&body[..want], len - want);
            assert_eq!((cut.full_len(), cut.is_whole()), (len, want == len));
            check(&wire(Frame::Message(whole)), kept, Ok(Some(Frame::Message(cut))));
        }
    }

    #[test]
    fn only_messages_are_skipped_and_only_as_large_as_messages_are() {
        let response = vec![b'x'; MAX_FRAME];
        let too_large = |size| Err(DecodeError::FrameTooLarge { size, max: MAX_FRAME });
        check(&wire(Frame::Response(&response)), 9, too_large(MAX_FRAME as u32 + 4));
        check(b"\x80\0\0\0\0\0\0\x02", 9, too_large(1 << 31));
        check(b"\xff\xff\xff\xff", 9, too_large(u32::MAX));
        check(b"HTTP/1.1", 9, Err(DecodeError::HttpPeer));
        check(b"\x7f\xff\xff\xff\0\0\0\x02", 9, Ok(None));
        check(b"\x7f\xff\xff\xff", 9, Ok(None));
    }

    /// A limit below a message's head: nothing is a message, and nothing is read beyond its frame.
    #[test]
    fn a_limit_that_no_message_is_below_skips_none() {
        let mut decoder = FrameDecoder::new(10);
        decoder.skip_oversized(5);
        decoder.push(b"\0\0\0\x14\0\0\0\x02");
        assert_eq!(decoder.next_frame(), Err(DecodeError::FrameTooLarge { size: 20, max: 10 }));
    }

    /// Some GB on the wire, and no more in memory than before.
    #[test]
    fn two_gigabytes_pass_through_a_small_buffer() {
        let mut decoder = decoder(3);
        let head = wire(Frame::Message(message(b"", 0)));
        decoder.push(&[&i32::MAX.to_be_bytes(), &head[4..]].concat());
        let part = vec![b'x'; 64 << 10];
        let mut left = i32::MAX as usize - MESSAGE_HEAD_LEN - 4;
        let all = left;
        while left > 0 {
            assert_eq!(decoder.next_frame(), Ok(None));
            let now = left.min(part.len());
            decoder.push(&part[..now]);
            assert!(decoder.capacity() <= HELD, "{} bytes", decoder.capacity());
            left -= now;
        }
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Message(message(b"xxx", all - 3)))));
        decoder.push(b"\0\0\0\x06\0\0\0\0OK");
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Response(b"OK"))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_split_gives_the_same_messages(
            lens in proptest::collection::vec(prop_oneof![0..300usize, MAX_BODY - 2..MAX_BODY + 200, 150_000..300_000usize], 1..6),
            cuts in proptest::collection::vec(1usize..90_000, 1..30),
            kept in 0..20_000usize,
        ) {
            let bodies: Vec<Vec<u8>> = lens.iter().map(|len| (0..*len).map(|at| at as u8).collect()).collect();
            let stream: Vec<u8> =
                bodies.iter().flat_map(|body| wire(Frame::Message(message(body, 0)))).collect();
            let mut decoder = decoder(kept);
            let (mut rest, mut want) = (&stream[..], bodies.iter());
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                // Pushed as it came, or read into the decoder's own space.
                let cut = (*cuts.next().expect("cycles")).min(rest.len());
                let taken = if cut % 2 == 0 {
                    decoder.push(&rest[..cut]);
                    cut
                } else {
                    let space = decoder.space();
                    let count = space.len().min(cut);
                    space[..count].copy_from_slice(&rest[..count]);
                    decoder.advance(count);
                    count
                };
                rest = &rest[taken..];
                prop_assert!(decoder.capacity() <= HELD + 90_000);
                while let Some(frame) = decoder.next_frame().expect("well formed") {
                    let body = want.next().expect("no more than were sent");
                    let start = if body.len() > MAX_BODY { kept } else { body.len() };
                    prop_assert_eq!(frame, Frame::Message(message(&body[..start], body.len() - start)));
                }
            }
            prop_assert!(want.next().is_none());
            prop_assert_eq!(decoder.pending(), 0);
        }
    }
}
