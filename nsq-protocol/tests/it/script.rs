//! A scripted nsqd with this crate's clients: the public helper, and what the tests here start against it.

use std::ops::Deref;
use std::time::Duration;

use nsq_protocol::testing::ScriptedNsqd;
use nsq_protocol::thread::OwnedThread;
use nsq_protocol::{
    Batch, ConnectionConfig, Consumer, ConsumerConfig, Error, Frame, HEARTBEAT, MessageId,
    Producer, ProducerConfig, RdyMode,
};

use crate::timing::{DEADLINE, MINUTE};

pub(crate) use nsq_protocol::testing::ScriptedConnection as Peer;

/// What the fake says to IDENTIFY.
pub(crate) const IDENTIFIED: &[u8] = ScriptedNsqd::IDENTIFIED;

/// One for topic `t` and channel `c`.
pub(crate) struct Script(ScriptedNsqd);

impl Deref for Script {
    type Target = ScriptedNsqd;

    fn deref(&self) -> &ScriptedNsqd {
        &self.0
    }
}

impl Script {
    pub(crate) fn listen() -> Self {
        Self(ScriptedNsqd::listen())
    }

    /// The next connection, after SUB for `t` and `c`.
    pub(crate) fn accept_subscribed(&self) -> Peer {
        self.0.accept_subscribed("t", "c")
    }

    /// A consumer of this fake alone, RDY as given, and its connection.
    pub(crate) fn consume(&self, rdy: u32, config: ConsumerConfig) -> (Consumer, Peer) {
        let consumer = start(config.nsqd(self.addr()).max_in_flight(rdy));
        let mut peer = self.accept_subscribed();
        peer.expect(format!("RDY {rdy}\n").as_bytes());
        (consumer.join().unwrap(), peer)
    }

    /// A producer to this fake alone, and its connection.
    pub(crate) fn produce(&self, config: ProducerConfig) -> (Producer, Peer) {
        let producer = connect(config.nsqd(self.addr()));
        let peer = self.accept_identified();
        (producer.join().unwrap(), peer)
    }
}

/// Reads lines up to `want`; the last RDY before it, or else `rdy`.
#[track_caller]
pub(crate) fn expect_fin(peer: &mut Peer, want: &str, mut rdy: u64) -> u64 {
    loop {
        let line = peer.line();
        if line == want {
            return rdy;
        }
        let told = line.strip_prefix("RDY ").and_then(|rdy| rdy.trim_end().parse().ok());
        rdy = told.unwrap_or_else(|| panic!("{line:?} instead of {want:?}"));
    }
}

/// The defaults for topic `t` and channel `c`, with quick reconnections.
pub(crate) fn config() -> ConsumerConfig {
    let mut config = ConsumerConfig::new("t".parse().unwrap(), "c".parse().unwrap())
        .reconnect_min(Duration::from_millis(1))
        .reconnect_max(Duration::from_millis(10))
        .stop_timeout(DEADLINE);
    // What a script expects does not depend on how fast it is; the tests of the adaptive one ask for it.
    config = config.rdy(RdyMode::Fixed);
    config
}

/// The defaults with quick reconnections.
pub(crate) fn producer_config() -> ProducerConfig {
    ProducerConfig::new()
        .reconnect_min(Duration::from_millis(1))
        .reconnect_max(Duration::from_millis(10))
        .publish_timeout(DEADLINE)
}

/// Has everything that a connection waits for last a [`MINUTE`]: whoever ends sooner did not wait for it.
pub(crate) fn waits_a_minute() -> ConnectionConfig {
    let connection =
        config().get_connection().clone().connect_timeout(MINUTE).handshake_timeout(MINUTE);
    connection.write_timeout(MINUTE).heartbeat_interval(MINUTE)
}

/// Starts a consumer beside the test, which plays nsqd meanwhile.
pub(crate) fn start(config: ConsumerConfig) -> OwnedThread<Result<Consumer, Error>> {
    beside(move || Consumer::start(config))
}

/// Starts a producer beside the test.
pub(crate) fn connect(config: ProducerConfig) -> OwnedThread<Result<Producer, Error>> {
    beside(move || Producer::connect(config))
}

/// Runs `work` beside the test.
pub(crate) fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> OwnedThread<T> {
    OwnedThread::spawn("beside", work).unwrap()
}

/// The next batch.
pub(crate) fn recv(consumer: &Consumer) -> Batch {
    consumer.batches().recv_timeout(DEADLINE).unwrap()
}

/// Waits until the reader has seen all that was sent: its NOP proves it.
pub(crate) fn seen_by_reader(peer: &mut Peer) {
    peer.respond(HEARTBEAT);
    peer.expect(b"NOP\n");
}

/// A frame as nsqd sends it.
pub(crate) fn frame(frame: Frame<'_>) -> Vec<u8> {
    let mut wire = Vec::new();
    frame.encode(&mut wire);
    wire
}

/// The ID that ends in `number`.
pub(crate) fn id(number: u64) -> MessageId {
    MessageId::from_u64(number)
}
