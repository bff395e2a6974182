//! Snappy and deflate to the byte, and damaged, cut or endless, by a scripted fake.

use std::io::Write;
use std::time::Duration;

use nsq_protocol::thread::OwnedThread;
use nsq_protocol::{Compression, Consumer, ConsumerConfig, Frame, MessageRef};

use crate::script::{Peer, Script, beside, config, frame, id, start};
use crate::timing::DEADLINE;

pub(crate) const SNAPPY: &[u8] = br#"{"max_rdy_count":2500,"snappy":true}"#;
pub(crate) const DEFLATE: &[u8] = br#"{"max_rdy_count":2500,"deflate":true,"deflate_level":6}"#;
pub(crate) const IDENTIFIER: &[u8] = b"\xff\x06\0\0sNaPpY";

pub(crate) fn with(compression: Compression) -> ConsumerConfig {
    config().compression(compression)
}

/// A snappy chunk as it stands, uncompressed.
pub(crate) fn chunk(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut frames = snap::write::FrameEncoder::new(&mut wire);
    frames.write_all(content).unwrap();
    drop(frames);
    wire.split_off(IDENTIFIER.len())
}

fn message(number: u64, body: &[u8]) -> Vec<u8> {
    frame(Frame::Message(MessageRef {
        timestamp_ns: 7,
        attempts: 1,
        id: id(number),
        body,
        skipped: 0,
    }))
}

/// A peer inside snappy, after SUB's OK; each write is in a chunk of its own.
fn snappy_subscribed(script: &Script) -> Peer {
    let mut peer = script.accept();
    assert!(peer.identify().snappy);
    peer.respond(SNAPPY);
    let ok = chunk(&frame(Frame::Response(b"OK")));
    peer.send(&[IDENTIFIER, &ok].concat());
    peer.expect(&[IDENTIFIER, &chunk(b"SUB t c\n")].concat());
    peer.send(&ok);
    peer.expect(&chunk(b"RDY 10\n"));
    peer
}

fn snappy_consumer(script: &Script) -> (Consumer, Peer) {
    let consumer = start(with(Compression::Snappy).nsqd(script.addr()).max_in_flight(10));
    let peer = snappy_subscribed(script);
    (consumer.join().unwrap(), peer)
}

#[test]
fn snappy_to_the_byte() {
    let script = Script::listen();
    let (consumer, mut peer) = snappy_consumer(&script);
    // A frame over several chunks, with padding, an empty chunk and the identifier between, byte by byte.
    let wire = message(1, b"hello");
    let padding = b"\xfe\x02\0\0xx\x01\x04\0\0\xd8\xea\x82\xa2";
    for part in [&chunk(&wire[..3])[..], padding, IDENTIFIER, &chunk(&wire[3..])] {
        part.iter().for_each(|byte| peer.send(&[*byte]));
    }
    let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
    assert_eq!(batch.iter().next().unwrap().body, b"hello");
    batch.finish();
    peer.expect(&chunk(format!("FIN {}\n", id(1)).as_bytes()));
    peer.send(&chunk(&frame(Frame::Response(b"_heartbeat_"))));
    peer.expect(&chunk(b"NOP\n"));
    consumer.stop_within(Duration::ZERO);
}

#[test]
fn damaged_snappy_ends_the_connection_and_the_next_one_works() {
    let mut bad_checksum = chunk(&message(1, b"x"));
    bad_checksum[4] ^= 1;
    let cases = [
        (bad_checksum, "checksum"),
        (b"\x01\x05\0\x01".to_vec(), "with 65541 bytes: 4 to 65540 are allowed"),
        (b"\x00\xff\xff\xff".to_vec(), "with 16777215 bytes"),
        (b"\x02\0\0\0".to_vec(), "unknown type 0x02"),
        // Longer than a block once decompressed.
        (b"\x00\x08\0\0\0\0\0\0\x80\x80\x80\x08".to_vec(), "damaged snappy data"),
        (frame(Frame::Response(b"OK")), "a snappy chunk"),
    ];
    let check = |damage: Vec<u8>, want: &str| {
        let script = Script::listen();
        let (consumer, mut peer) = snappy_consumer(&script);
        // What came before it still counts.
        peer.send(&[chunk(&message(7, b"before")), damage].concat());
        let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
        assert_eq!(batch.iter().next().unwrap().body, b"before");
        batch.finish();
        let mut again = snappy_subscribed(&script);
        let last = consumer.stats().connections[0].last_error.clone().unwrap();
        assert!(last.contains("cannot decompress") && last.contains(want), "{last}, not {want}");
        again.send(&chunk(&message(8, b"after")));
        let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
        assert_eq!(batch.iter().next().unwrap().body, b"after");
        consumer.stop_within(Duration::ZERO);
    };
    // Side by side: each ends with the wait of a stop that its peer does not answer.
    let cases = cases.map(|(damage, want)| beside(move || check(damage, want)));
    cases.into_iter().for_each(OwnedThread::join);
}

#[test]
fn a_snappy_stream_that_is_cut_gives_nothing_made_up() {
    let script = Script::listen();
    let (consumer, mut peer) = snappy_consumer(&script);
    let wire = chunk(&message(1, b"x"));
    peer.send(&wire[..wire.len() - 1]);
    drop(peer);
    let _again = snappy_subscribed(&script);
    let stats = consumer.stats();
    assert_eq!(stats.connections[0].messages, 0);
    let last = stats.connections[0].last_error.clone().unwrap();
    assert!(last.contains("closed the connection"), "{last}");
    consumer.stop_within(Duration::ZERO);
}

/// nsqd's side of deflate, in the direction in which it sends.
struct Deflate(flate2::Compress);

impl Deflate {
    fn pack(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 4096);
        self.0.compress_vec(bytes, &mut out, flate2::FlushCompress::Sync).unwrap();
        out
    }
}

fn deflate_subscribed(script: &Script) -> (Peer, Deflate) {
    let mut deflate = Deflate(flate2::Compress::new(flate2::Compression::new(6), false));
    let mut ours = Deflate(flate2::Compress::new(flate2::Compression::new(6), false));
    let mut peer = script.accept();
    let request = peer.identify();
    assert_eq!((request.deflate, request.deflate_level), (true, 9));
    peer.respond(DEFLATE);
    peer.send(&deflate.pack(&frame(Frame::Response(b"OK"))));
    peer.expect(&ours.pack(b"SUB t c\n"));
    peer.send(&deflate.pack(&frame(Frame::Response(b"OK"))));
    peer.expect(&ours.pack(b"RDY 10\n"));
    (peer, deflate)
}

#[test]
fn damaged_deflate_and_bombs_end_the_connection() {
    type Damage = fn(&mut Deflate) -> Vec<u8>;
    let cases: [(Damage, &str); 4] = [
        (|_| vec![0xff; 64], "damaged deflate data"),
        // Cut: what is left of it comes with the end.
        (|deflate| deflate.pack(&message(1, b"x"))[..5].to_vec(), "closed the connection"),
        // A frame over the limit is not waited for, however small it is on the wire: 4 MiB in 4 KiB.
        (
            |deflate| deflate.pack(&[&(4u32 << 20).to_be_bytes()[..], &vec![0; 4 << 20]].concat()),
            "over the 1048606 byte limit",
        ),
        (
            |deflate| {
                let mut end = Vec::with_capacity(100);
                deflate.0.compress_vec(b"", &mut end, flate2::FlushCompress::Finish).unwrap();
                end
            },
            "the deflate stream ends",
        ),
    ];
    let check = |damage: Damage, want: &str| {
        let script = Script::listen();
        let config = with(Compression::Deflate { level: 9 }).nsqd(script.addr()).max_in_flight(10);
        let consumer = start(config);
        let (mut peer, mut deflate) = deflate_subscribed(&script);
        let consumer = consumer.join().unwrap();
        peer.send(&damage(&mut deflate));
        drop(peer);
        let (mut peer, mut deflate) = deflate_subscribed(&script);
        let last = consumer.stats().connections[0].last_error.clone().unwrap();
        assert!(last.contains(want), "{last}, not {want}");
        peer.send(&deflate.pack(&message(8, b"after")));
        let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();
        assert_eq!(batch.iter().next().unwrap().body, b"after");
        consumer.stop_within(Duration::ZERO);
    };
    let cases = cases.map(|(damage, want)| beside(move || check(damage, want)));
    cases.into_iter().for_each(OwnedThread::join);
}
