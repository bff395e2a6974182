//! A body in chunks, as Node's clients send it by themselves: its bytes, without the framing (pure).

use super::target::{Refusal, bad};

/// The longest line that says how long a chunk is: eight digits, which is more than any body may have.
const SIZE_LINE_MAX: usize = 10;

/// Takes a chunked body apart as it comes in. As strict as request heads are: no extensions and no trailers, which nobody
/// sends, and which a proxy before it may read in another way.
#[derive(Debug)]
pub(super) struct ChunkedBody {
    bytes: Vec<u8>,
    /// The most bytes.
    most: usize,
    next: Next,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    Size,
    /// So many bytes of a chunk.
    Data(usize),
    EndOfData,
    /// The empty line behind the last chunk.
    EndOfBody,
    Nothing,
}

impl ChunkedBody {
    /// Nothing yet of a body of at most `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), most, next: Next::Size }
    }

    /// Takes what there is of the body off the beginning of `wire`; whether it has come to its end.
    pub(super) fn take(&mut self, wire: &mut Vec<u8>) -> Result<bool, Refusal> {
        let mut at = 0;
        while self.next != Next::Nothing {
            let used = self.step(&wire[at..])?;
            if used == 0 {
                break;
            }
            at += used;
        }
        wire.drain(..at);
        Ok(self.next == Next::Nothing)
    }

    /// How many bytes have come so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The body.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes one part; how many bytes it was, 0 if it has not come whole.
    fn step(&mut self, wire: &[u8]) -> Result<usize, Refusal> {
        match self.next {
            Next::Size => {
                let Some(line) = line(wire)? else { return Ok(0) };
                let size = size(line)?;
                if size > self.most - self.bytes.len() {
                    return Err(Refusal::new(413, "the body is over the limit"));
                }
                self.next = if size == 0 { Next::EndOfBody } else { Next::Data(size) };
                Ok(line.len() + 2)
            }
            Next::Data(left) => {
                let taken = left.min(wire.len());
                self.bytes.extend_from_slice(&wire[..taken]);
                self.next = if taken == left { Next::EndOfData } else { Next::Data(left - taken) };
                Ok(taken)
            }
            Next::EndOfData | Next::EndOfBody => match line(wire)? {
                None => Ok(0),
                Some([]) => {
                    self.next =
                        if self.next == Next::EndOfBody { Next::Nothing } else { Next::Size };
                    Ok(2)
                }
                Some(_) if self.next == Next::EndOfBody => {
                    Err(bad("a body in chunks has header lines behind it"))
                }
                Some(_) => Err(bad("a chunk is longer than it says")),
            },
            Next::Nothing => Ok(0),
        }
    }
}

/// The line that `wire` begins with, without its end; `None`: it has not come whole.
fn line(wire: &[u8]) -> Result<Option<&[u8]>, Refusal> {
    let known = &wire[..wire.len().min(SIZE_LINE_MAX)];
    match known.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(end) if known[end] == b'\n' => Err(bad("a line ends without a carriage return")),
        Some(end) => match wire.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => Ok(Some(&wire[..end])),
            Some(_) => Err(bad("a carriage return stands alone")),
        },
        None if known.len() == SIZE_LINE_MAX => Err(bad("a chunk's size is malformed")),
        None => Ok(None),
    }
}

fn size(line: &[u8]) -> Result<usize, Refusal> {
    // `from_str_radix` alone would take a sign.
    let digits = std::str::from_utf8(line).ok().filter(|text| {
        !text.is_empty() && text.len() <= 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    let size = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
    size.ok_or(bad("a chunk's size is malformed"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A body, and what is left behind it.
    type Parted = (Vec<u8>, Vec<u8>);

    /// Takes `wire` in pieces of so many bytes; `None`: it has not ended.
    fn take(wire: &[u8], step: usize) -> Result<Option<Parted>, u16> {
        let (mut body, mut waiting) = (ChunkedBody::new(20), Vec::new());
        let mut pieces = wire.chunks(step);
        while let Some(piece) = pieces.next() {
            waiting.extend_from_slice(piece);
            if body.take(&mut waiting).map_err(|refusal| refusal.status)? {
                waiting.extend(pieces.flatten());
                return Ok(Some((body.into_bytes(), waiting)));
            }
        }
        Ok(None)
    }

    #[track_caller]
    fn check(wire: &str, want: Result<Option<(&str, &str)>, u16>) {
        let want = want.map(|found| found.map(|(body, rest)| (body.into(), rest.into())));
        for step in [1, 2, 3, wire.len().max(1)] {
            assert_eq!(take(wire.as_bytes(), step), want, "{wire:?} by {step}");
        }
    }

    #[test]
    fn chunks_become_a_body() {
        check("0\r\n\r\n", Ok(Some(("", ""))));
        check("3\r\nabc\r\n0\r\n\r\nGET", Ok(Some(("abc", "GET"))));
        check(
            "00000003\r\na\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
            Ok(Some(("a\r\n0123456789", ""))),
        );
        check("3\r\nabc\r\n0\r\n", Ok(None));
        check("3\r\nab", Ok(None));
        check("", Ok(None));
    }

    #[test]
    fn what_two_parsers_could_read_in_two_ways_is_refused() {
        for bad in [
            "\r\n",
            "x\r\n",
            "+3\r\nabc\r\n",
            "-1\r\n",
            "0x3\r\nabc\r\n",
            " 3\r\nabc\r\n",
            "3 \r\nabc\r\n",
            "3;a=b\r\nabc\r\n",
            "3\nabc\r\n",
            "3\rabc\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n",
            "3\r\nabc\r\r\n",
            "000000003\r\nabc\r\n",
            "0\r\nA: b\r\n\r\n",
            "0\r\n\n",
            "00000000000",
        ] {
            check(bad, Err(400));
        }
        check("15\r\n", Err(413));
        check("A\r\n0123456789\r\nB\r\n", Err(413));
        check("FFFFFFFF\r\n", Err(413));
    }

    proptest! {
        #[test]
        fn any_parting_is_the_same_body(body in prop::collection::vec(any::<u8>(), 0..20), sizes in prop::collection::vec(1_usize..9, 1..20), step in 1_usize..30) {
            let (mut wire, mut left, mut sizes) = (Vec::new(), &body[..], sizes.into_iter().cycle());
            while !left.is_empty() {
                let (chunk, rest) = left.split_at(sizes.next().unwrap_or(1).min(left.len()));
                wire.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
                left = rest;
            }
            wire.extend(b"0\r\n\r\nnext");
            prop_assert_eq!(take(&wire, step), Ok(Some((body, b"next".to_vec()))));
        }

        #[test]
        fn no_bytes_panic_or_grow_it(wire in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'5')], 0..60), step in 1_usize..9) {
            if let Ok(Some((body, _))) = take(&wire, step) {
                prop_assert!(body.len() <= 20);
            }
        }
    }
}
