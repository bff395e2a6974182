//! What each fuzz target checks, on any bytes. Included by the targets in `fuzz`, which libFuzzer feeds, and by
//! `seeds`, which feeds the seeds on stable.
//!
//! Each body asserts more than "no panic": how the stream is cut must not matter, and what was decoded encodes to
//! the same bytes.
#![allow(dead_code, reason = "each target uses one body")]
#![allow(clippy::unwrap_used, reason = "a finding is a panic")]

use std::io::Read;

use nsq_protocol::{
    CommandDecoder, CommandLimits, DecodeError, Frame, FrameDecoder, IdentifyRequest,
    IdentifyResponse, MessageId, MessageRef,
};

/// Small, so that the fuzzer reaches both sides of it.
const MAX_FRAME: usize = 256;

/// Bytes that are kept of a message over it.
const KEPT: usize = 20;

/// The largest MPUB body of the command target; one message may have half of it.
const MAX_BODY: usize = 256;

/// What comes before the stream in an input: how it is cut.
const CUTS: usize = 2;

/// The stream in `data` and how it is cut: into parts of these lengths, in turns. Squares reach from 1 byte to what
/// one read of a socket gives.
fn cut(data: &[u8]) -> Option<([usize; CUTS], &[u8])> {
    let (cuts, stream) = data.split_first_chunk::<CUTS>()?;
    Some((cuts.map(|cut| 1 + usize::from(cut).pow(2) / 4), stream))
}

/// The stream in parts.
fn parts(cuts: [usize; CUTS], mut stream: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut cuts = cuts.into_iter().cycle();
    while !stream.is_empty() {
        let len = cuts.next().unwrap().min(stream.len());
        let (part, rest) = stream.split_at(len);
        parts.push(part);
        stream = rest;
    }
    parts
}

/// The client's side of a connection: frames from any split of the stream.
pub(crate) fn frame(data: &[u8]) {
    let Some((cuts, stream)) = cut(data) else { return };
    let decode = |parts: &[&[u8]]| {
        let mut decoder = FrameDecoder::new(MAX_FRAME);
        let (mut wire, mut count) = (Vec::new(), 0);
        for part in parts {
            decoder.push(part);
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => {
                        frame.encode(&mut wire);
                        count += 1;
                    }
                    Ok(None) => break,
                    Err(error) => return (wire, count, Err(error)),
                }
            }
        }
        (wire, count, Ok(decoder.pending()))
    };
    skipping_frame(cuts, stream);
    let whole = decode(&[stream]);
    assert_eq!(whole, decode(&parts(cuts, stream)), "cut into {cuts:?}");
    let (wire, _, end) = whole;
    assert!(stream.starts_with(&wire), "what was decoded is what came");
    match end {
        Ok(pending) => assert_eq!(wire.len() + pending, stream.len()),
        Err(DecodeError::FrameTooLarge { size, max }) => assert!(size as usize > max),
        Err(_) => {}
    }
}

/// The same where messages over the limit are skipped: whatever is skipped, what follows is found, and all that was
/// sent is accounted for.
fn skipping_frame(cuts: [usize; CUTS], stream: &[u8]) {
    let decode = |parts: &[&[u8]]| {
        let mut decoder = FrameDecoder::new(MAX_FRAME);
        decoder.skip_oversized(KEPT);
        let (mut frames, mut bytes) = (Vec::new(), 0);
        for part in parts {
            decoder.push(part);
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => {
                        let mut wire = Vec::new();
                        frame.encode(&mut wire);
                        let skipped = match frame {
                            Frame::Message(message) => message.skipped,
                            _ => 0,
                        };
                        assert!(skipped == 0 || wire.len() + skipped > 4 + MAX_FRAME);
                        bytes += wire.len() + skipped;
                        frames.push(wire);
                    }
                    Ok(None) => break,
                    Err(error) => return (frames, bytes, Some(error)),
                }
            }
        }
        (frames, bytes, None)
    };
    let whole = decode(&[stream]);
    assert_eq!(whole, decode(&parts(cuts, stream)), "cut into {cuts:?}");
    assert!(whole.1 <= stream.len());
}

/// One message frame's data, and the numbers in its ID.
pub(crate) fn message(data: &[u8]) {
    let Some(message) = MessageRef::decode(data) else {
        assert!(data.len() < 26);
        return;
    };
    let mut wire = Vec::new();
    message.encode(&mut wire);
    assert_eq!(wire, data);
    assert_eq!(message.encoded_len(), data.len());
    if let Some(number) = message.id.to_u64() {
        assert_eq!(MessageId::from_u64(number), message.id);
        assert_eq!(message.id.to_string().parse().ok(), Some(message.id));
    }
    let mut framed = Vec::new();
    Frame::Message(message).encode(&mut framed);
    let mut decoder = FrameDecoder::new(usize::MAX);
    decoder.push(&framed);
    assert_eq!(decoder.next_frame(), Ok(Some(Frame::Message(message))));
}

/// IDENTIFY both ways: what reads, writes and reads again as the same.
pub(crate) fn identify(data: &[u8]) {
    if let Ok(answer) = serde_json::from_slice::<IdentifyResponse>(data) {
        let json = serde_json::to_vec(&answer).unwrap();
        assert_eq!(serde_json::from_slice::<IdentifyResponse>(&json).unwrap(), answer);
    }
    if let Ok(request) = serde_json::from_slice::<IdentifyRequest>(data) {
        let json = serde_json::to_vec(&request).unwrap();
        assert_eq!(serde_json::from_slice::<IdentifyRequest>(&json).unwrap(), request);
    }
}

/// The broker's side of a connection: commands from any split of the stream.
pub(crate) fn command(data: &[u8]) {
    let Some((cuts, stream)) = cut(data) else { return };
    let limits = CommandLimits { max_msg_size: MAX_BODY / 2, max_body_size: MAX_BODY };
    let decode = |parts: &[&[u8]]| {
        let mut decoder = CommandDecoder::new(0, limits);
        let (mut wire, mut count) = (Vec::new(), 0);
        for part in parts {
            decoder.push(part);
            loop {
                match decoder.next_command() {
                    Ok(Some(command)) => {
                        command.encode(&mut wire);
                        count += 1;
                    }
                    Ok(None) => break,
                    Err(error) => return (wire, count, Err(error)),
                }
            }
        }
        let cut_short = decoder.cut_short();
        (wire, count, Ok(cut_short))
    };
    let whole = decode(&[stream]);
    assert_eq!(whole, decode(&parts(cuts, stream)), "cut into {cuts:?}");
    // nsqd takes several spellings of a line; ours is one of them, and stays as it is. But for an ID that ends in
    // a carriage return, which belongs to the line's end the next time.
    let (wire, count, _) = whole;
    if !wire.windows(2).any(|pair| pair == b"\r\n") {
        assert_eq!(decode(&[&wire]), (wire.clone(), count, Ok(None)));
    }
}

/// What a compressed stream may decode to before a body has seen enough, bytes.
const MAX_PLAIN: usize = 256 << 10;

type Decode<E> = fn(&[u8], usize, usize, usize) -> Result<Vec<u8>, E>;

/// Decodes the stream in one read into a large buffer, and again as it is cut: the second cut is the buffer.
fn decompress<E>(decode: Decode<E>, data: &[u8]) -> Option<Result<Vec<u8>, E>> {
    let ([step, room], stream) = cut(data)?;
    let run = |step, room| {
        let mut got = decode(stream, step, room, MAX_PLAIN);
        if let Ok(plain) = &mut got {
            assert!(plain.len() < MAX_PLAIN + room, "the limit is kept");
            plain.truncate(MAX_PLAIN);
        }
        got
    };
    let whole = run(stream.len(), 64 << 10);
    match (&whole, run(step, room)) {
        (Ok(whole), Ok(cut)) => assert!(*whole == cut, "{step} bytes at once into {room}"),
        (Err(_), Err(_)) => {}
        // What is damaged behind the limit is seen or not.
        (Err(_), Ok(plain)) => assert_eq!(plain.len(), MAX_PLAIN),
        (Ok(plain), Err(_)) => {
            assert_eq!(plain.len(), MAX_PLAIN, "{step} bytes at once into {room}");
        }
    }
    Some(whole)
}

/// A snappy stream; what the reference decoder takes, ours takes as the same.
pub(crate) fn snappy(data: &[u8]) {
    let Some(ours) = decompress(nsq_protocol::fuzz_snappy, data) else { return };
    let mut plain = Vec::new();
    let mut reference = snap::read::FrameDecoder::new(&data[CUTS..]).take(MAX_PLAIN as u64);
    if reference.read_to_end(&mut plain).is_ok() {
        assert!(ours.is_ok_and(|ours| ours == plain), "differs from the reference decoder");
    }
}

/// A deflate stream.
pub(crate) fn deflate(data: &[u8]) {
    decompress(nsq_protocol::fuzz_deflate, data);
}

/// An answer of nsqlookupd: the first byte is its HTTP status. What comes out can be dialled, and an error is fit
/// for a log.
pub(crate) fn lookup(data: &[u8]) {
    let Some((status, body)) = data.split_first() else { return };
    let status = [200, 404, 500, 301][usize::from(status % 4)];
    match nsq_protocol::fuzz_lookup(status, body) {
        Ok(nsqds) => {
            for nsqd in nsqds {
                let (host, port) = nsqd.rsplit_once(':').expect("a port");
                assert!(!host.is_empty() && host.len() <= 255, "{nsqd:?}");
                assert!(!host.contains(|c: char| c.is_whitespace() || c.is_control()), "{nsqd:?}");
                assert!(!host.contains(':') || host.starts_with('['), "{nsqd:?}");
                assert!(port.parse::<u16>().is_ok_and(|port| port > 0), "{nsqd:?}");
            }
        }
        Err(error) => {
            assert!(error.len() < 2000, "{} bytes of error", error.len());
            assert!(!error.contains(char::is_control), "{error:?}");
        }
    }
}
