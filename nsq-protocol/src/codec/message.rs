//! Messages as they lie in a frame (pure).
//!
//! ```text
//! | timestamp, ns  | attempts | message ID     | body …
//! | i64 big-endian | u16      | 16 ASCII bytes | the rest of the frame
//! ```

use std::fmt;
use std::str::FromStr;

/// Bytes of a message ID.
pub const MESSAGE_ID_LEN: usize = 16;

/// Bytes in front of the body: timestamp, attempts, message ID.
pub const MESSAGE_HEAD_LEN: usize = 8 + 2 + MESSAGE_ID_LEN;

/// Bytes of a frame's size and type, which come before a message's data.
pub(super) const FRAME_HEAD_LEN: usize = 8;

/// The frame type of a message.
pub(super) const TYPE_MESSAGE: u32 = 2;

/// What nsqd calls a message: 16 ASCII bytes, lower-case hex from nsqd itself.
///
/// Unique for one topic in one run of one nsqd only; never the sole key to find repeats by.
///
/// # Example
/// ```
/// use nsq_protocol::MessageId;
///
/// let id = MessageId::from_u64(0xabc);
/// assert_eq!(id.to_string(), "0000000000000abc");
/// assert_eq!(id.to_u64(), Some(0xabc));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub [u8; MESSAGE_ID_LEN]);

impl MessageId {
    /// The ID whose 16 hex digits spell `number`, as nsqd writes its own.
    pub fn from_u64(number: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut id = [0; MESSAGE_ID_LEN];
        for (index, byte) in number.to_be_bytes().into_iter().enumerate() {
            id[2 * index] = DIGITS[usize::from(byte >> 4)];
            id[2 * index + 1] = DIGITS[usize::from(byte & 15)];
        }
        Self(id)
    }

    /// The number that the ID spells in lower-case hex, if it is one that [`MessageId::from_u64`] made.
    pub fn to_u64(self) -> Option<u64> {
        let (high, low) = self.0.split_at(MESSAGE_ID_LEN / 2);
        Some(u64::from(eight_digits(high)?) << 32 | u64::from(eight_digits(low)?))
    }
}

/// The number that eight lower-case hex digits spell, all at once: each byte of a word is one.
fn eight_digits(digits: &[u8]) -> Option<u32> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let digits = u64::from_be_bytes(digits.try_into().ok()?);
    // Of a letter bit 6 is set, and its lower half counts from 1.
    let values = (digits & (0x0f * ONES)) + 9 * ((digits >> 6) & ONES);
    // Written again, they are the same, if they were digits.
    let letters = ((values + 6 * ONES) >> 4) & ONES;
    let again = values + 0x30 * ONES + 39 * letters;
    if again != digits || values & (0xf0 * ONES) != 0 {
        return None;
    }
    let pairs = (values | (values >> 4)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | (pairs >> 8)) & 0x0000_ffff_0000_ffff;
    Some((fours | (fours >> 16)) as u32)
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

impl FromStr for MessageId {
    type Err = std::array::TryFromSliceError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.as_bytes().try_into().map(Self)
    }
}

/// One delivery of a message, its body borrowed from the buffer it was read into.
///
/// # Example
/// ```
/// use nsq_protocol::MessageRef;
///
/// let data = b"\0\0\0\0\0\0\0\x07\0\x010123456789abcdefbody";
/// let message = MessageRef::decode(data).expect("26 bytes and more");
/// assert_eq!((message.attempts, message.body), (1, &b"body"[..]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRef<'a> {
    /// When it was published, in ns since the Unix epoch by nsqd's clock.
    pub timestamp_ns: i64,
    /// Deliveries so far, this one included: 1 on the first. Wraps after 65535.
    pub attempts: u16,
    /// What FIN, REQ and TOUCH name.
    pub id: MessageId,
    /// What was published: never empty from nsqd. Only its beginning where `skipped` is above 0.
    pub body: &'a [u8],
    /// Bytes that follow `body` in what was published and were skipped, because all of it is over the limit; 0 of a
    /// message that is whole. See [`crate::Oversized`].
    pub skipped: usize,
}

impl<'a> MessageRef<'a> {
    /// Reads the data of a message frame; `None` when it is shorter than [`MESSAGE_HEAD_LEN`].
    pub fn decode(data: &'a [u8]) -> Option<Self> {
        let (timestamp, rest) = data.split_first_chunk::<8>()?;
        let (attempts, rest) = rest.split_first_chunk::<2>()?;
        let (id, body) = rest.split_first_chunk::<MESSAGE_ID_LEN>()?;
        Some(Self {
            timestamp_ns: i64::from_be_bytes(*timestamp),
            attempts: u16::from_be_bytes(*attempts),
            id: MessageId(*id),
            body,
            skipped: 0,
        })
    }

    /// Bytes of the body as it was published.
    pub fn full_len(&self) -> usize {
        self.body.len() + self.skipped
    }

    /// Whether all of the body is here.
    pub fn is_whole(&self) -> bool {
        self.skipped == 0
    }

    /// Bytes that [`MessageRef::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        MESSAGE_HEAD_LEN + self.body.len()
    }

    /// Appends the data of a message frame, with as much of the body as is here.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp_ns.to_be_bytes());
        out.extend_from_slice(&self.attempts.to_be_bytes());
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(self.body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_spells_its_number() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let id = MessageId::from_u64(number);
            assert_eq!(id.to_string(), format!("{number:016x}"));
            assert_eq!(id.to_u64(), Some(number));
        }
        assert_eq!(MessageId(*b"0123456789ABCDEF").to_u64(), None);
        // Any other byte, at each place.
        for (at, byte) in
            (0..MESSAGE_ID_LEN).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte)))
        {
            let mut id = MessageId(*b"0123456789abcdef");
            id.0[at] = byte;
            let number = id.to_u64();
            assert_eq!(
                number.is_some(),
                matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
                "{byte} at {at}"
            );
            assert!(number.is_none_or(|number| MessageId::from_u64(number) == id));
        }
    }

    #[test]
    fn a_message_survives_its_encoding() {
        let message = MessageRef {
            timestamp_ns: -2,
            attempts: 65535,
            id: MessageId(*b"0123456789abcdef"),
            body: b"x",
            skipped: 0,
        };
        let mut wire = Vec::new();
        message.encode(&mut wire);
        assert_eq!(wire, *b"\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff0123456789abcdefx");
        assert_eq!(wire.len(), message.encoded_len());
        assert_eq!(MessageRef::decode(&wire), Some(message));
        assert_eq!(MessageRef::decode(&wire[..25]), None);
    }
}
