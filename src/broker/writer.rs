//! Writes a consumer's answers, messages and heartbeats, on its thread `broker-write`.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use nsq_protocol::{Frame, HEARTBEAT, MessageId, MessageRef};

use super::core::ClientId;
use super::hub::Hub;
use super::outbox::ConsumerOutbox;
use super::socket::write_within;

/// Bytes of messages taken from the core at a time, and so written at a time: beyond it a system call for
/// each byte gets no cheaper, and the core is locked for longer.
const PULL_BYTES: usize = 128 << 10;

/// A write buffer larger than this is given back: one large message must not stay for the connection's life.
const WRITE_KEEP: usize = 2 * PULL_BYTES;

/// Writes answers, messages and heartbeats of one consumer until the outbox closes or the socket fails.
pub(super) fn write_loop(
    hub: &Hub,
    id: ClientId,
    stream: &TcpStream,
    outbox: &ConsumerOutbox,
    interval: Duration,
    mut heartbeat_at: Instant,
) -> io::Result<()> {
    let mut out = Vec::new();
    let mut runs = Vec::new();
    // There may be messages before the first wake.
    let mut more = true;
    loop {
        let closing = {
            let mut state = outbox.state.lock();
            while !(more || state.wake || state.closing || !state.frames.is_empty()) {
                if outbox.work.wait_until(&mut state, heartbeat_at).timed_out() {
                    break;
                }
            }
            state.wake = false;
            out.append(&mut state.frames);
            outbox.room.notify_one();
            state.closing
        };
        let now = Instant::now();
        if now >= heartbeat_at {
            Frame::Response(HEARTBEAT).encode(&mut out);
            heartbeat_at = now + interval;
        }
        more = !closing && hub.with_core(|core| core.pull(id, now, PULL_BYTES, &mut runs));
        for run in runs.drain(..) {
            for (number, body) in run.messages() {
                let message = MessageRef {
                    timestamp_ns: run.batch.timestamp_ns,
                    attempts: run.attempts,
                    id: MessageId::from_u64(number),
                    body,
                };
                Frame::Message(message).encode(&mut out);
            }
        }
        if !out.is_empty() {
            write_within(stream, &out, Some(interval))?;
            out.clear();
            out.shrink_to(WRITE_KEEP);
        }
        if closing {
            return stream.shutdown(Shutdown::Write);
        }
    }
}
