//! Writes a consumer's answers, messages and heartbeats, on its thread `broker-write`.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nsq_protocol::thread::OwnedThread;
use nsq_protocol::{Frame, HEARTBEAT, MessageId, MessageRef, Outbound};

use super::core::ClientId;
use super::hub::Hub;
use super::outbox::ConsumerOutbox;
use super::socket::{finish, write_within};

/// Bytes of messages taken from the core at a time, and so written at a time: beyond it a system call for
/// each byte gets no cheaper, and the core is locked for longer.
const PULL_BYTES: usize = 128 << 10;

/// A write buffer larger than this is given back: one large message must not stay for the connection's life.
const WRITE_KEEP: usize = 2 * PULL_BYTES;

/// How long the last answers may take to go out once the client has gone or been refused.
pub(super) const FLUSH_WAIT: Duration = Duration::from_secs(1);

const WRITER_STACK: usize = 256 << 10;

/// A consumer's writing thread. Dropping it lets what waits go out, within [`FLUSH_WAIT`], and joins the thread.
pub(super) struct ConsumerWriter {
    stream: Arc<TcpStream>,
    outbox: Arc<ConsumerOutbox>,
    // Joined after `drop`, which makes it end.
    _thread: OwnedThread<()>,
}

impl ConsumerWriter {
    /// Starts the thread, which sends to `stream` through `outbound`: from `heartbeat_at` on a heartbeat every `interval`,
    /// and all else.
    ///
    /// # Errors
    /// The system refuses the thread; then the outbox takes nothing any more.
    pub(super) fn start(
        hub: &Arc<Hub>,
        id: ClientId,
        stream: &Arc<TcpStream>,
        mut outbound: Outbound,
        outbox: &Arc<ConsumerOutbox>,
        (interval, heartbeat_at): (Duration, Instant),
    ) -> io::Result<Self> {
        let body = {
            let (hub, stream, outbox) = (Arc::clone(hub), Arc::clone(stream), Arc::clone(outbox));
            move || {
                let socket = (&*stream, &mut outbound);
                if write_loop(&hub, id, socket, &outbox, interval, heartbeat_at).is_err() {
                    // Ends the reader too.
                    let _ = stream.shutdown(Shutdown::Both);
                }
                outbox.end();
            }
        };
        let thread = OwnedThread::spawn_with_stack("broker-write", WRITER_STACK, body)
            .inspect_err(|_| outbox.end())?;
        Ok(Self { stream: Arc::clone(stream), outbox: Arc::clone(outbox), _thread: thread })
    }
}

impl Drop for ConsumerWriter {
    fn drop(&mut self) {
        if !self.outbox.close(FLUSH_WAIT) {
            // It waits for the client, which does not read.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Writes answers, messages and heartbeats of one consumer until the outbox closes or the socket fails.
fn write_loop(
    hub: &Hub,
    id: ClientId,
    (stream, outbound): (&TcpStream, &mut Outbound),
    outbox: &ConsumerOutbox,
    interval: Duration,
    mut heartbeat_at: Instant,
) -> io::Result<()> {
    let mut out = Vec::new();
    let mut runs = Vec::new();
    // There may be messages before the first wake.
    let mut more = true;
    loop {
        let closing = outbox.take((!more).then_some(heartbeat_at), &mut out);
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
                    skipped: 0,
                };
                Frame::Message(message).encode(&mut out);
            }
        }
        // What the reader read may have TLS say something, and woke us for it.
        if !out.is_empty() || outbound.is_encrypted() {
            write_within(stream, outbound, &out, Some(interval))?;
            out.clear();
            out.shrink_to(WRITE_KEEP);
        }
        if closing {
            return finish(stream, outbound, FLUSH_WAIT);
        }
    }
}
