//! Tests of `command_decoder`, and with it of `command` and `bodies`: what is decoded encodes to the same bytes.

use super::*;
use crate::codec::bodies::BodiesBuf;
use proptest::prelude::*;

const SMALL: CommandLimits = CommandLimits { max_msg_size: 8, max_body_size: 64 };

/// Decodes `wire` whole, then cut at every byte; a command must also encode to the same bytes again.
#[track_caller]
fn check(wire: &[u8], want: Result<Command<'_>, &str>) {
    for cut in 0..=wire.len() {
        let mut decoder = CommandDecoder::new(0, SMALL);
        let mut got = None;
        for part in [&wire[..cut], &wire[cut..]] {
            decoder.push(part);
            if let Some(result) = decoder.next_command().transpose() {
                got = Some(match result {
                    Ok(command) => {
                        assert_eq!(Ok(command), want, "cut at byte {cut}");
                        Ok(())
                    }
                    Err(error) => Err(error.to_string()),
                });
                break;
            }
        }
        let want = want.as_ref().map(|_| ()).map_err(|text| text.to_string());
        assert_eq!(got, Some(want), "cut at byte {cut}");
    }
}

fn topic_name() -> TopicName {
    TopicName::new("t").unwrap()
}

#[test]
fn commands() {
    let id = MessageId(*b"0123456789abcdef");
    check(b"NOP\n", Ok(Command::Nop));
    check(b"NOP\r\n", Ok(Command::Nop));
    check(b"CLS\n", Ok(Command::Cls));
    check(b"RDY\n", Ok(Command::Rdy(1)));
    check(b"RDY 0\n", Ok(Command::Rdy(0)));
    check(b"RDY 2500\n", Ok(Command::Rdy(2500)));
    check(b"FIN 0123456789abcdef\n", Ok(Command::Fin(id)));
    check(b"TOUCH 0123456789abcdef extra\n", Ok(Command::Touch(id)));
    check(b"REQ 0123456789abcdef 90\n", Ok(Command::Req(id, 90)));
    check(b"SUB t c x\n", Ok(Command::Sub(topic_name(), ChannelName::new("c").unwrap())));
    check(b"IDENTIFY\n\0\0\0\x02{}", Ok(Command::Identify(b"{}")));
    check(b"AUTH\n\0\0\0\x02hi", Ok(Command::Auth(b"hi")));
    check(b"PUB t\n\0\0\0\x02a\n", Ok(Command::Pub(topic_name(), b"a\n")));
    check(b"DPUB t 15\n\0\0\0\x01a", Ok(Command::Dpub(topic_name(), 15, b"a")));
    let mut bodies = BodiesBuf::new();
    bodies.push(b"ab");
    bodies.push(b"");
    bodies.push(b"c");
    assert_eq!((bodies.len(), bodies.body_size()), (2, 15));
    check(
        b"MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x02ab\0\0\0\x01c",
        Ok(Command::Mpub(topic_name(), bodies.as_bodies())),
    );
    assert_eq!(bodies.as_bodies().iter().collect::<Vec<_>>(), [&b"ab"[..], b"c"]);
}

#[test]
fn errors_have_nsqds_texts() {
    check(b"\n", Err("E_INVALID invalid command "));
    check(b"nop\n", Err("E_INVALID invalid command nop"));
    check(b"GET / HTTP/1.1\r\n", Err("E_INVALID invalid command GET"));
    check(b"RDY -1\n", Err("E_INVALID RDY could not parse count -1"));
    check(b"FIN\n", Err("E_INVALID FIN insufficient number of params"));
    check(b"FIN 123\n", Err("E_INVALID invalid message ID"));
    check(b"REQ 0123456789abcdef\n", Err("E_INVALID REQ insufficient number of params"));
    check(b"REQ 0123456789abcdef x\n", Err("E_INVALID REQ could not parse timeout x"));
    check(b"SUB t\n", Err("E_INVALID SUB insufficient number of parameters"));
    check(b"SUB t! c\n", Err("E_BAD_TOPIC SUB topic name \"t!\" is not valid"));
    check(b"SUB t c!\n", Err("E_BAD_CHANNEL SUB channel name \"c!\" is not valid"));
    check(b"PUB\n", Err("E_INVALID PUB insufficient number of parameters"));
    check(b"PUB t!\n", Err("E_BAD_TOPIC PUB topic name \"t!\" is not valid"));
    check(b"MPUB t!\n", Err("E_BAD_TOPIC E_BAD_TOPIC MPUB topic name \"t!\" is not valid"));
    check(b"PUB t\n\0\0\0\0", Err("E_BAD_MESSAGE PUB invalid message body size 0"));
    check(b"PUB t\n\xff\xff\xff\xff", Err("E_BAD_MESSAGE PUB invalid message body size -1"));
    check(b"PUB t\n\0\0\0\x09", Err("E_BAD_MESSAGE PUB message too big 9 > 8"));
    check(b"DPUB t x\n", Err("E_INVALID DPUB could not parse timeout x"));
    check(b"IDENTIFY\n\0\0\0\x41", Err("E_BAD_BODY IDENTIFY body too big 65 > 64"));
    check(b"IDENTIFY\n\0\0\0\0", Err("E_BAD_BODY IDENTIFY invalid body size 0"));
    check(b"AUTH x\n", Err("E_INVALID AUTH invalid number of parameters"));
    check(b"MPUB t\n\0\0\0\0", Err("E_BAD_BODY MPUB invalid body size 0"));
    check(b"MPUB t\n\0\0\0\x41", Err("E_BAD_BODY MPUB body too big 65 > 64"));
    check(b"MPUB t\n\0\0\0\x04\0\0\0\0", Err("E_BAD_BODY MPUB invalid message count 0"));
    check(b"MPUB t\n\0\0\0\x04\xff\xff\xff\xff", Err("E_BAD_BODY MPUB invalid message count -1"));
    check(b"MPUB t\n\0\0\0\x04\0\0\0\x0d", Err("E_BAD_BODY MPUB invalid message count 13"));
    check(
        b"MPUB t\n\0\0\0\x08\0\0\0\x01\0\0\0\0",
        Err("E_BAD_MESSAGE MPUB invalid message(0) body size 0"),
    );
    check(
        b"MPUB t\n\0\0\0\x0d\0\0\0\x02\0\0\0\x01a\xff\xff\xff\xff",
        Err("E_BAD_MESSAGE MPUB invalid message(1) body size -1"),
    );
    check(
        b"MPUB t\n\0\0\0\x08\0\0\0\x01\0\0\0\x09",
        Err("E_BAD_MESSAGE MPUB message too big 9 > 8"),
    );
}

#[test]
fn an_mpub_is_read_by_its_count_whatever_its_size_says() {
    let mut bodies = BodiesBuf::new();
    bodies.push(b"ab");
    bodies.push(b"c");
    // Its own 15, the 3 of the bodies alone, and ones that are wrong by any amount within the limit.
    for size in [15, 3, 1, 14, 16, 64] {
        let mut wire = b"MPUB t\n\0\0\0".to_vec();
        wire.push(size);
        wire.extend_from_slice(b"\0\0\0\x02\0\0\0\x02ab\0\0\0\x01c");
        check(&wire, Ok(Command::Mpub(topic_name(), bodies.as_bodies())));
        // What follows is the next command.
        let mut decoder = CommandDecoder::new(0, SMALL);
        decoder.push(&[&wire[..], b"NOP\n", &wire[..]].concat());
        for want in ["Mpub", "Nop", "Mpub"] {
            let got = format!("{:?}", decoder.next_command().unwrap().expect(want));
            assert!(got.starts_with(want), "size {size}: {got}");
        }
        assert_eq!(decoder.pending(), 0);
    }
    // The limit holds for what is read, too: 4 and six times 4 + 8 are more than 64.
    let mut wire = b"MPUB t\n\0\0\0\x01\0\0\0\x06".to_vec();
    (0..5).for_each(|_| wire.extend_from_slice(b"\0\0\0\x0812345678"));
    wire.extend_from_slice(b"\0\0\0\x08");
    check(&wire, Err("E_BAD_BODY MPUB body too big 76 > 64"));
}

/// One byte in a read is the worst that a peer can do: it takes as long for each, not longer from read to read.
#[test]
fn a_slow_mpub_is_not_read_again_from_its_start() {
    let count = 200_000;
    let bodies: BodiesBuf = (0..count).map(|_| b"x").collect();
    let mut wire = Vec::new();
    Command::Mpub(topic_name(), bodies.as_bodies()).encode(&mut wire);
    let mut decoder = CommandDecoder::new(64 << 10, CommandLimits::default());
    let (last, first) = wire.split_last().unwrap();
    for byte in first {
        decoder.push(&[*byte]);
        assert_eq!(decoder.next_command(), Ok(None));
    }
    decoder.push(&[*last]);
    assert_eq!(decoder.next_command(), Ok(Some(Command::Mpub(topic_name(), bodies.as_bodies()))));
}

#[test]
fn a_line_has_a_limit() {
    let mut decoder = CommandDecoder::new(0, SMALL);
    decoder.push(&[b'x'; MAX_LINE]);
    assert_eq!(decoder.next_command(), Ok(None));
    decoder.push(b"y");
    assert_eq!(decoder.next_command().unwrap_err().code, ErrorCode::Invalid);
}

#[test]
fn a_stream_that_ends_inside_a_command_says_where() {
    for (wire, want) in [
        (&b"PUB t\n\0\0\0\x02a"[..], Some("E_BAD_MESSAGE PUB failed to read message body")),
        (b"PUB t\n\0\0", Some("E_BAD_MESSAGE PUB failed to read message body size")),
        (b"IDENTIFY\n\0\0", Some("E_BAD_BODY IDENTIFY failed to read body size")),
        (b"MPUB t\n\0\0\0", Some("E_BAD_BODY MPUB failed to read body size")),
        (b"MPUB t\n\0\0\0\x02ab", Some("E_BAD_BODY MPUB failed to read message count")),
        (
            b"MPUB t\n\0\0\0\x0e\0\0\0\x02\0\0\0\x01a\0\0\0",
            Some("E_BAD_MESSAGE MPUB failed to read message(1) body size"),
        ),
        (
            b"MPUB t\n\0\0\0\x09\0\0\0\x01\0\0\0\x02a",
            Some("E_BAD_MESSAGE MPUB failed to read message body"),
        ),
        (b"PU", None),
        (b"", None),
    ] {
        let mut decoder = CommandDecoder::new(0, SMALL);
        decoder.push(wire);
        assert_eq!(decoder.next_command(), Ok(None));
        assert_eq!(decoder.cut_short().map(|error| error.to_string()).as_deref(), want);
    }
}

/// Cut at every byte: `None` up to the end of the line, then without the size, then with it.
#[test]
fn a_command_is_told_before_its_body_has_come() {
    for (line, command) in [
        ("PUB t\n", Command::Pub(topic_name(), b"")),
        ("DPUB t 15\n", Command::Dpub(topic_name(), 15, b"")),
        ("MPUB t\n", Command::Mpub(topic_name(), Bodies::NONE)),
        ("IDENTIFY\n", Command::Identify(b"")),
        ("AUTH\r\n", Command::Auth(b"")),
    ] {
        // Also of a size that is refused.
        for size in [8, -3] {
            let wire = [line.as_bytes(), &i32::to_be_bytes(size), b"\0\0"].concat();
            for cut in 0..=wire.len() {
                let mut decoder = CommandDecoder::new(0, SMALL);
                decoder.push(&wire[..cut]);
                let body_size = (cut >= line.len() + 4).then_some(size);
                let want = (cut >= line.len()).then_some(CommandHead { command, body_size });
                // It takes nothing.
                for _ in 0..2 {
                    assert_eq!(decoder.head(), want, "{line:?} cut at byte {cut}");
                    let is_refused = decoder.next_command().is_err();
                    assert_eq!(is_refused, size < 0 && body_size.is_some());
                }
            }
        }
    }
    let mut decoder = CommandDecoder::new(0, SMALL);
    decoder.push(b"RDY 7\nwhat\n");
    let command = Command::Rdy(7);
    assert_eq!(decoder.head(), Some(CommandHead { command, body_size: None }));
    assert_eq!(decoder.next_command(), Ok(Some(command)));
    assert_eq!(decoder.head(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_gives_the_same_commands(
        publishes in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 1..40), 1..8),
        cuts in proptest::collection::vec(1usize..9000, 1..20),
    ) {
        let mut wire = Vec::new();
        let bufs: Vec<BodiesBuf> = publishes.iter().map(|bodies| {
            let mut buf = BodiesBuf::new();
            bodies.iter().for_each(|body| buf.push(body));
            buf
        }).collect();
        for buf in &bufs {
            Command::Mpub(topic_name(), buf.as_bodies()).encode(&mut wire);
            Command::Nop.encode(&mut wire);
        }
        let mut decoder = CommandDecoder::new(0, CommandLimits::default());
        let mut want = bufs.iter().flat_map(|buf| [Command::Mpub(topic_name(), buf.as_bodies()), Command::Nop]);
        let (mut rest, mut cuts) = (&wire[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let cut = (*cuts.next().expect("cycles")).min(rest.len());
            decoder.push(&rest[..cut]);
            rest = &rest[cut..];
            while let Some(command) = decoder.next_command().expect("well formed") {
                prop_assert_eq!(Some(command), want.next());
            }
        }
        prop_assert!(want.next().is_none());
        prop_assert_eq!(decoder.pending(), 0);
    }

    #[test]
    fn garbage_never_panics_nor_grows_past_the_limit(
        name in prop_oneof!["(IDENTIFY|AUTH|PUB t|MPUB t|DPUB t 1|FIN 0123456789abcdef|RDY [0-9x]{0,30})\n", "[A-Z ]{0,12}\n?"],
        wire in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let mut decoder = CommandDecoder::new(0, SMALL);
        decoder.push(name.as_bytes());
        for part in wire.chunks(11) {
            decoder.push(part);
            loop {
                match decoder.next_command() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return Ok(()),
                }
            }
            prop_assert!(decoder.buffer.capacity() <= MAX_LINE + 3 * MIN_BUFFER);
        }
    }
}

/// What a body is announced to be takes no memory before it comes, and what comes behind one is read as at rest.
#[test]
fn a_buffer_grows_by_what_has_come() {
    const AT_REST: usize = 8 << 10;
    const LARGE: usize = 1 << 20;
    let limits = CommandLimits { max_msg_size: LARGE, max_body_size: LARGE };
    let announced = (LARGE as u32).to_be_bytes();
    for head in ["PUB t\n", "MPUB t\n", "IDENTIFY\n"] {
        let mut decoder = CommandDecoder::new(AT_REST, limits);
        decoder.push(&[head.as_bytes(), &announced].concat());
        assert_eq!(decoder.next_command(), Ok(None), "{head}");
        assert!(decoder.space().len() <= AT_REST, "{head}");
        assert!(decoder.buffer.capacity() <= 2 * AT_REST, "{head}");
    }
    // An MPUB is whole long before its size says so.
    let mut decoder = CommandDecoder::new(AT_REST, limits);
    decoder.push(&[b"MPUB t\n", &announced[..]].concat());
    assert_eq!(decoder.next_command(), Ok(None));
    decoder.push(b"\0\0\0\x01\0\0\0\x01x");
    assert!(decoder.next_command().unwrap().is_some());
    assert!(decoder.space().len() <= AT_REST);
    // A large body is read in a few steps, and then the buffer is small again.
    let mut decoder = CommandDecoder::new(AT_REST, limits);
    decoder.push(&[b"PUB t\n", &announced[..]].concat());
    let mut rest = LARGE;
    let mut reads = 0;
    while rest > 0 {
        assert_eq!(decoder.next_command(), Ok(None));
        let count = decoder.space().len().min(rest);
        decoder.advance(count);
        assert!(decoder.buffer.capacity() <= 2 * (LARGE - rest + count) + 2 * AT_REST);
        (rest, reads) = (rest - count, reads + 1);
    }
    assert!(reads < 12, "{reads}");
    assert!(decoder.next_command().unwrap().is_some());
    decoder.space();
    assert_eq!(decoder.buffer.capacity(), AT_REST);
}
