//! What nsqd sends: frames, both ways, from any split of the byte stream (pure).
//!
//! ```text
//! | size: type + data | frame type     | data …
//! | u32 big-endian    | u32 big-endian | size - 4 bytes
//! ```

use crate::codec::message::{FRAME_HEAD_LEN, MESSAGE_HEAD_LEN, MessageRef, TYPE_MESSAGE};
use crate::codec::skipping::Skipping;
use crate::codec::stream_buffer::StreamBuffer;

/// What a heartbeat's response frame holds; NOP (or any command) answers it.
pub const HEARTBEAT: &[u8] = b"_heartbeat_";

/// The response to a command that worked.
pub const OK: &[u8] = b"OK";

/// The response to CLS.
pub const CLOSE_WAIT: &[u8] = b"CLOSE_WAIT";

/// The largest frame that a limit may allow, in bytes: what one peer can make a connection hold.
pub const HARD_MAX_FRAME: usize = 16 << 20;

/// The read buffer of a connection at rest: about 400 small messages for one `read`.
const BUFFER: usize = 64 << 10;

const TYPE_RESPONSE: u32 = 0;
const TYPE_ERROR: u32 = 1;

/// One frame, borrowed from the buffer it was read into.
///
/// # Example
/// ```
/// use nsq_protocol::Frame;
///
/// let mut wire = Vec::new();
/// Frame::Response(b"OK").encode(&mut wire);
/// assert_eq!(wire, b"\0\0\0\x06\0\0\0\0OK");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The answer to a command, or a heartbeat.
    Response(&'a [u8]),
    /// A code and perhaps a text; see [`crate::ErrorCode::parse`].
    Error(&'a [u8]),
    /// A delivery.
    Message(MessageRef<'a>),
}

/// Why a peer's bytes are no frame. The connection is of no more use.
///
/// # Example
/// ```
/// use nsq_protocol::{DecodeError, FrameDecoder};
///
/// let mut decoder = FrameDecoder::new(1 << 20);
/// decoder.push(b"HTTP/1.1 400 Bad Request");
/// assert_eq!(decoder.next_frame(), Err(DecodeError::HttpPeer));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first bytes spell `HTTP`: somebody gave an HTTP port for the TCP port.
    #[error("the peer speaks HTTP: this is an HTTP port; give nsqd's TCP port, 4150 by default")]
    HttpPeer,
    /// The announced size is over the limit. Nothing was allocated for it.
    #[error("a frame of {size} bytes is over the {max} byte limit")]
    FrameTooLarge {
        /// What the peer announced.
        size: u32,
        /// The decoder's limit.
        max: usize,
    },
    /// The announced size does not even hold the frame type.
    #[error("a frame of {size} bytes is too small to hold its type")]
    FrameTooSmall {
        /// What the peer announced.
        size: u32,
    },
    /// A message frame that ends inside its head.
    #[error("a message frame of {size} bytes is too small: its head alone has {}", MESSAGE_HEAD_LEN + 4)]
    MessageTooSmall {
        /// What the peer announced.
        size: u32,
    },
    /// A frame type other than response, error or message.
    #[error("unknown frame type {0}")]
    UnknownFrameType(u32),
}

impl Frame<'_> {
    /// Appends the frame as nsqd sends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (frame_type, len) = match self {
            Frame::Response(data) => (TYPE_RESPONSE, data.len()),
            Frame::Error(data) => (TYPE_ERROR, data.len()),
            Frame::Message(message) => (TYPE_MESSAGE, message.encoded_len()),
        };
        let size = u32::try_from(len + 4).expect("bodies are limited far below 4 GiB");
        out.extend_from_slice(&size.to_be_bytes());
        out.extend_from_slice(&frame_type.to_be_bytes());
        match self {
            Frame::Response(data) | Frame::Error(data) => out.extend_from_slice(data),
            Frame::Message(message) => message.encode(out),
        }
    }
}

/// Turns a byte stream into frames: bytes go in, frames come out, the caller does the reading.
///
/// Costs 64 KiB at rest; a larger frame grows it, for that frame only. A frame over the limit is refused, unless it is a
/// message and [`FrameDecoder::skip_oversized`] was asked for.
///
/// # Example
/// ```
/// use nsq_protocol::{Frame, FrameDecoder};
///
/// let mut decoder = FrameDecoder::new(1 << 20);
/// decoder.push(b"\0\0\0\x06\0\0\0\0O");
/// assert_eq!(decoder.next_frame()?, None); // more bytes, please
/// decoder.push(b"K");
/// assert_eq!(decoder.next_frame()?, Some(Frame::Response(b"OK")));
/// # Ok::<(), nsq_protocol::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: StreamBuffer,
    max_frame: usize,
    skipping: Option<Skipping>,
}

impl FrameDecoder {
    /// A decoder that refuses frames whose size field is over `max_frame`, at most [`HARD_MAX_FRAME`].
    pub fn new(max_frame: usize) -> Self {
        let max_frame = max_frame.min(HARD_MAX_FRAME);
        Self { buffer: StreamBuffer::new(BUFFER), max_frame, skipping: None }
    }

    /// From now on a message over the limit, up to 2 GiB, comes with the first `kept` bytes of its body, once the
    /// others have passed: they are dropped as they come. [`MessageRef::skipped`] tells how many they were.
    ///
    /// What is kept counts against the limit: at most as much as a message of the largest size allowed has.
    pub fn skip_oversized(&mut self, kept: usize) {
        let most = self.max_frame.saturating_sub(MESSAGE_HEAD_LEN + 4);
        self.skipping = Some(Skipping::new(kept.min(most)));
    }

    /// Where the next bytes of the stream belong: never empty. Tell [`FrameDecoder::advance`] how many came.
    pub fn space(&mut self) -> &mut [u8] {
        let wanted = wanted(self.buffer.pending(), self.max_frame, self.skipping.as_ref());
        self.buffer.space(wanted)
    }

    /// Says that `count` bytes were written to the front of [`FrameDecoder::space`].
    ///
    /// # Panics
    /// Where the space has fewer: what is read then would be bytes that never came.
    #[track_caller]
    pub fn advance(&mut self, count: usize) {
        self.buffer.advance(count);
    }

    /// Adds bytes as the socket produced them; any split is fine.
    pub fn push(&mut self, mut bytes: &[u8]) {
        // What is skipped is never buffered, however much comes at once.
        if let Some(skipping) = self.skipping.as_mut().filter(|_| self.buffer.pending().is_empty())
        {
            bytes = &bytes[skipping.pass(bytes.len())..];
        }
        let (max_frame, skipping) = (self.max_frame, self.skipping.as_ref());
        self.buffer.push(bytes, |pending| wanted(pending, max_frame, skipping));
    }

    /// Takes the next whole frame. `Ok(None)` means "feed me more".
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no frame: drop the connection.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, DecodeError> {
        if self.skipping.as_ref().is_some_and(Skipping::is_under_way) {
            return Ok(self.skip());
        }
        let pending = self.buffer.pending();
        let Some(size) = pending.first_chunk::<4>() else { return Ok(None) };
        if size == b"HTTP" {
            return Err(DecodeError::HttpPeer);
        }
        let size = u32::from_be_bytes(*size);
        if size as usize > self.max_frame {
            return self.next_oversized(size);
        }
        if size < 4 {
            return Err(DecodeError::FrameTooSmall { size });
        }
        let len = 4 + size as usize;
        if pending.len() < len {
            return Ok(None);
        }
        let frame = &self.buffer.take(len)[4..];
        let (frame_type, data) = frame.split_first_chunk::<4>().expect("size >= 4 checked above");
        match u32::from_be_bytes(*frame_type) {
            TYPE_RESPONSE => Ok(Some(Frame::Response(data))),
            TYPE_ERROR => Ok(Some(Frame::Error(data))),
            TYPE_MESSAGE => MessageRef::decode(data)
                .map(|message| Some(Frame::Message(message)))
                .ok_or(DecodeError::MessageTooSmall { size }),
            other => Err(DecodeError::UnknownFrameType(other)),
        }
    }

    /// The frame that is over the limit, if it is a message that may be skipped.
    fn next_oversized(&mut self, size: u32) -> Result<Option<Frame<'_>>, DecodeError> {
        let too_large = DecodeError::FrameTooLarge { size, max: self.max_frame };
        let Some(skipping) = self.skipping.as_mut() else { return Err(too_large) };
        match skipping.start(size, &mut self.buffer) {
            Some(true) => Ok(self.skip()),
            Some(false) => Ok(None),
            None => Err(too_large),
        }
    }

    /// Drops what is pending of an oversized message, and gives the message once all of it has passed.
    fn skip(&mut self) -> Option<Frame<'_>> {
        let skipping = self.skipping.as_mut()?;
        let passed = skipping.pass(self.buffer.pending().len());
        self.buffer.take(passed);
        skipping.message().map(Frame::Message)
    }

    /// Bytes read but not yet decoded.
    pub fn pending(&self) -> usize {
        self.buffer.pending().len()
    }

    /// Bytes that its buffer costs now.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

/// How much room the frame that `pending` begins with needs.
fn wanted(pending: &[u8], max_frame: usize, skipping: Option<&Skipping>) -> usize {
    let Some(size) = pending.first_chunk::<4>() else { return FRAME_HEAD_LEN };
    let size = u32::from_be_bytes(*size) as usize;
    match skipping {
        Some(skipping) if skipping.is_under_way() => FRAME_HEAD_LEN,
        Some(skipping) if size > max_frame => skipping.start_len(),
        // `next_frame` has checked the size, or will refuse it before anything is kept for it.
        _ => 4 + size.min(max_frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::message::MessageId;
    use proptest::prelude::*;

    /// Decodes `wire` whole, then again cut at every byte: how TCP splits it must not matter.
    #[track_caller]
    fn check(wire: &[u8], want: Result<Frame<'_>, DecodeError>) {
        for cut in 0..=wire.len() {
            let mut decoder = FrameDecoder::new(64);
            decoder.push(&wire[..cut]);
            if let Some(got) = decoder.next_frame().transpose() {
                assert_eq!(got, want, "cut at byte {cut}");
                continue;
            }
            decoder.push(&wire[cut..]);
            assert_eq!(decoder.next_frame().transpose(), Some(want.clone()), "cut at byte {cut}");
        }
    }

    #[test]
    fn frames() {
        check(b"\0\0\0\x06\0\0\0\0OK", Ok(Frame::Response(b"OK")));
        check(b"\0\0\0\x04\0\0\0\0", Ok(Frame::Response(b"")));
        check(b"\0\0\0\x0d\0\0\0\x01E_INVALID", Ok(Frame::Error(b"E_INVALID")));
        check(
            b"\0\0\0\x20\0\0\0\x02\0\0\0\0\0\0\0\x05\0\x010123456789abcdefhi",
            Ok(Frame::Message(MessageRef {
                timestamp_ns: 5,
                attempts: 1,
                id: MessageId(*b"0123456789abcdef"),
                body: b"hi",
                skipped: 0,
            })),
        );
        check(b"\0\0\0\x04\0\0\0\x07", Err(DecodeError::UnknownFrameType(7)));
        check(
            b"\0\0\0\x1d\0\0\0\x02\0\0\0\0\0\0\0\x05\0\x010123456789abcde",
            Err(DecodeError::MessageTooSmall { size: 29 }),
        );
        check(b"\0\0\0\x41", Err(DecodeError::FrameTooLarge { size: 65, max: 64 }));
        check(b"\xff\xff\xff\xff", Err(DecodeError::FrameTooLarge { size: u32::MAX, max: 64 }));
        check(b"\0\0\0\x03", Err(DecodeError::FrameTooSmall { size: 3 }));
        check(b"\0\0\0\0", Err(DecodeError::FrameTooSmall { size: 0 }));
        check(b"HTTP", Err(DecodeError::HttpPeer));
    }

    #[test]
    fn a_large_frame_leaves_no_large_buffer() {
        let body = vec![7; 1 << 20];
        let mut wire = Vec::new();
        Frame::Response(&body).encode(&mut wire);
        let mut decoder = FrameDecoder::new(2 << 20);
        decoder.push(&wire);
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Response(&body))));
        decoder.space();
        assert_eq!(decoder.capacity(), BUFFER);
    }

    #[derive(Clone, Debug)]
    enum Owned {
        Response(Vec<u8>),
        Error(Vec<u8>),
        Message(i64, u16, [u8; 16], Vec<u8>),
    }

    impl Owned {
        fn frame(&self) -> Frame<'_> {
            match self {
                Owned::Response(data) => Frame::Response(data),
                Owned::Error(data) => Frame::Error(data),
                Owned::Message(timestamp_ns, attempts, id, body) => Frame::Message(MessageRef {
                    timestamp_ns: *timestamp_ns,
                    attempts: *attempts,
                    id: MessageId(*id),
                    body,
                    skipped: 0,
                }),
            }
        }
    }

    fn any_frame() -> impl Strategy<Value = Owned> {
        // Lengths around the buffer's own size are where an off-by-one would hide.
        let data = prop_oneof![
            4 => proptest::collection::vec(any::<u8>(), 0..200),
            1 => (BUFFER - 40..BUFFER + 40).prop_map(|len| vec![b'x'; len]),
        ];
        prop_oneof![
            data.clone().prop_map(Owned::Response),
            data.clone().prop_map(Owned::Error),
            (any::<i64>(), any::<u16>(), any::<[u8; 16]>(), data).prop_map(
                |(timestamp, attempts, id, body)| Owned::Message(timestamp, attempts, id, body)
            ),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_split_gives_the_same_frames(
            frames in proptest::collection::vec(any_frame(), 0..12),
            cuts in proptest::collection::vec(1usize..5000, 1..40),
        ) {
            let mut wire = Vec::new();
            frames.iter().for_each(|frame| frame.frame().encode(&mut wire));
            let mut decoder = FrameDecoder::new(HARD_MAX_FRAME);
            let (mut rest, mut want) = (&wire[..], frames.iter());
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let cut = (*cuts.next().expect("cycles")).min(rest.len());
                decoder.push(&rest[..cut]);
                rest = &rest[cut..];
                while let Some(frame) = decoder.next_frame().expect("well formed") {
                    prop_assert_eq!(Some(frame), want.next().map(Owned::frame));
                }
            }
            prop_assert_eq!(decoder.pending(), 0);
            prop_assert!(want.next().is_none());
        }

        #[test]
        fn garbage_never_panics_nor_grows_past_the_limit(wire in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let mut decoder = FrameDecoder::new(1 << 20);
            for part in wire.chunks(7) {
                decoder.push(part);
                loop {
                    match decoder.next_frame() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => return Ok(()),
                    }
                }
                prop_assert!(decoder.capacity() <= (1 << 20) + 4 + 2 * BUFFER);
            }
        }
    }
}
