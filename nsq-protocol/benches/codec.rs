//! What encoding and decoding costs, per frame or command, without any socket: `cargo bench -p nsq-protocol`.
//!
//! Under `cargo test` each runs once, small, so that it keeps working.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench: it prints, and panics when broken"
)]

use std::hint::black_box;
use std::time::Instant;

use nsq_protocol::{
    BodiesBuf, Command, CommandDecoder, CommandLimits, Frame, FrameDecoder, MessageId, MessageRef,
};

/// Frames or commands in one round: about what one read of a busy connection holds.
const COUNT: u64 = 400;

/// A body as long as a small JSON object.
const BODY: &[u8] = &[b'x'; 120];

/// Prints the best of several runs: what disturbs a run only makes it slower.
fn bench(name: &str, mut round: impl FnMut()) {
    let full = std::env::args().any(|arg| arg == "--bench");
    let (runs, rounds) = if full { (20, 2000) } else { (1, 1) };
    let mut best = f64::MAX;
    for _ in 0..runs {
        let began = Instant::now();
        (0..rounds).for_each(|_| round());
        best = best.min(began.elapsed().as_nanos() as f64 / (rounds * COUNT) as f64);
    }
    println!("{name:<24} {best:>8.1} ns each");
}

fn main() {
    let messages: Vec<_> = (0..COUNT)
        .map(|number| MessageRef {
            timestamp_ns: 1,
            attempts: 1,
            id: MessageId::from_u64(number),
            body: BODY,
            skipped: 0,
        })
        .collect();
    let mut wire = Vec::new();
    bench("encode message frames", || {
        wire.clear();
        messages.iter().for_each(|message| Frame::Message(*message).encode(&mut wire));
        black_box(&wire);
    });
    let mut decoder = FrameDecoder::new(1 << 20);
    bench("decode message frames", || {
        decoder.push(&wire);
        let mut count = 0;
        while let Some(frame) = decoder.next_frame().unwrap() {
            black_box(frame);
            count += 1;
        }
        assert_eq!(count, COUNT);
    });
    let mut fins = Vec::new();
    bench("encode FIN", || {
        fins.clear();
        messages.iter().for_each(|message| Command::Fin(message.id).encode(&mut fins));
        black_box(&fins);
    });
    let mut commands = CommandDecoder::new(64 << 10, CommandLimits::default());
    bench("decode FIN", || {
        commands.push(&fins);
        let mut count = 0;
        while let Some(command) = commands.next_command().unwrap() {
            black_box(command);
            count += 1;
        }
        assert_eq!(count, COUNT);
    });
    let mut bodies = BodiesBuf::new();
    let mut mpub = Vec::new();
    bench("encode MPUB, each body", || {
        bodies.clear();
        (0..COUNT).for_each(|_| bodies.push(BODY));
        mpub.clear();
        Command::Mpub("t".parse().unwrap(), bodies.as_bodies()).encode(&mut mpub);
        black_box(&mpub);
    });
    bench("decode MPUB, each body", || {
        commands.push(&mpub);
        let Some(Command::Mpub(_, bodies)) = commands.next_command().unwrap() else {
            panic!("an MPUB went in");
        };
        assert_eq!(bodies.iter().map(<[u8]>::len).sum::<usize>(), COUNT as usize * BODY.len());
    });
}
