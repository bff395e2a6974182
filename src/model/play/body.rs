//! What a play is, and the body that we write of it (pure). It is read in `decoder`.

use uuid::Uuid;

use crate::model::video_id::VideoId;

/// One view of one video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Play {
    /// What was viewed.
    pub video_id: VideoId,
    /// When it was put on the queue, in ns since the Unix epoch by the producer's clock, not before March 1973; `None` from
    /// a producer that does not say.
    pub enqueued_at_ns: Option<u64>,
    /// What makes it this play and no other, wherever it is sent again; `None` from a producer without.
    pub identity: Option<PlayIdentity>,
    /// The producer has sent it before and does not know of it: what is new and resent had been lost on its way.
    pub resent: bool,
}

/// The identity of a play: which start of which producer made it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlayIdentity {
    /// Drawn anew at each start of a producer.
    pub producer: Uuid,
    /// 0, 1, 2, … without a gap; at most [`PlayIdentity::MAX_SEQ`].
    pub seq: u64,
}

impl PlayIdentity {
    /// The largest number of a play: far beyond what any producer makes, and room for arithmetic above it.
    pub const MAX_SEQ: u64 = 1 << 62;
}

impl Play {
    /// Appends the message body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut uuid = Uuid::encode_buffer();
        out.extend_from_slice(br#"{"video_id":""#);
        self.video_id.with_text(|text| push_text(out, text.as_bytes()));
        out.push(b'"');
        if let Some(enqueued_at_ns) = self.enqueued_at_ns {
            out.extend_from_slice(br#","enqueued_at":"#);
            push_decimal(out, enqueued_at_ns);
        }
        if let Some(PlayIdentity { producer, seq }) = self.identity {
            out.extend_from_slice(br#","producer":""#);
            out.extend_from_slice(producer.hyphenated().encode_lower(&mut uuid).as_bytes());
            out.extend_from_slice(br#"","seq":"#);
            push_decimal(out, seq);
        }
        if self.resent {
            out.extend_from_slice(br#","resent":true"#);
        }
        out.push(b'}');
    }
}

/// Of what a string of JSON must escape a video id may have these two alone.
fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\');
    for piece in text.split_inclusive(is_special) {
        match piece.split_last() {
            Some((last, before)) if is_special(last) => {
                out.extend_from_slice(before);
                out.extend_from_slice(&[b'\\', *last]);
            }
            _ => out.extend_from_slice(piece),
        }
    }
}

fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
