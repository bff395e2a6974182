//! A fake nsqd that a test drives step by step: expect these bytes, then send that frame.
//!
//! No delays: every wait ends with the bytes it is for, or fails at the shared deadline.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nsq_protocol::thread::OwnedThread;
use nsq_protocol::{
    Batch, ConnectionConfig, Consumer, ConsumerConfig, Error, Frame, HEARTBEAT, IdentifyRequest,
    MessageId, MessageRef, Producer, ProducerConfig, RdyMode,
};

use crate::timing::{DEADLINE, MINUTE};

/// What the fake says to IDENTIFY.
pub(crate) const IDENTIFIED: &[u8] = br#"{"max_rdy_count":2500,"version":"1.3.0"}"#;

/// The fake's listening socket.
pub(crate) struct Script {
    listener: TcpListener,
}

impl Script {
    pub(crate) fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&listener).set_read_timeout(Some(DEADLINE)).unwrap();
        Self { listener }
    }

    pub(crate) fn addr(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// The next connection, its magic not read yet.
    pub(crate) fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().expect("a connection before the deadline");
        Peer::new(stream)
    }

    /// As [`Script::accept_identified`], or nothing when no connection comes in time.
    pub(crate) fn try_accept_identified(&self, timeout: Duration) -> Option<Peer> {
        let listener = socket2::SockRef::from(&self.listener);
        listener.set_read_timeout(Some(timeout)).unwrap();
        let (stream, _) = self.listener.accept().ok()?;
        listener.set_read_timeout(Some(DEADLINE)).unwrap();
        Some(Self::identified(stream))
    }

    fn identified(stream: TcpStream) -> Peer {
        let mut peer = Peer::new(stream);
        peer.identify();
        peer.respond(IDENTIFIED);
        peer
    }

    /// The next connection, after IDENTIFY.
    pub(crate) fn accept_identified(&self) -> Peer {
        let (stream, _) = self.listener.accept().expect("a connection before the deadline");
        Self::identified(stream)
    }

    /// The next connection, after SUB for `t` and `c`.
    pub(crate) fn accept_subscribed(&self) -> Peer {
        let mut peer = self.accept_identified();
        peer.expect(b"SUB t c\n");
        peer.respond(b"OK");
        peer
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

/// The defaults for topic `t` and channel `c`, with quick reconnections.
pub(crate) fn config() -> ConsumerConfig {
    let mut config = ConsumerConfig::new("t".parse().unwrap(), "c".parse().unwrap());
    config.connection.reconnect_min = Duration::from_millis(1);
    config.connection.reconnect_max = Duration::from_millis(10);
    config.stop_timeout = DEADLINE;
    // What a script expects does not depend on how fast it is; the tests of the adaptive one ask for it.
    config.rdy = RdyMode::Fixed;
    config
}

/// The defaults with quick reconnections.
pub(crate) fn producer_config() -> ProducerConfig {
    let mut config = ProducerConfig::new();
    config.connection.reconnect_min = Duration::from_millis(1);
    config.connection.reconnect_max = Duration::from_millis(10);
    config.publish_timeout = DEADLINE;
    config
}

/// Has everything that a connection waits for last a [`MINUTE`]: whoever ends sooner did not wait for it.
pub(crate) fn waits_a_minute(connection: &mut ConnectionConfig) {
    connection.connect_timeout = MINUTE;
    connection.handshake_timeout = MINUTE;
    connection.write_timeout = MINUTE;
    connection.heartbeat_interval = MINUTE;
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

/// One connection, seen from nsqd.
pub(crate) struct Peer {
    stream: TcpStream,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Reads magic and IDENTIFY.
    pub(crate) fn identify(&mut self) -> IdentifyRequest {
        self.expect(b"  V2IDENTIFY\n");
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).unwrap();
        let mut json = vec![0; u32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut json).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    /// Reads exactly `want`.
    #[track_caller]
    pub(crate) fn expect(&mut self, want: &[u8]) {
        let mut got = vec![0; want.len()];
        let mut len = 0;
        while len < want.len() && want.starts_with(&got[..len]) {
            match self.stream.read(&mut got[len..]) {
                Ok(0) => break,
                Ok(count) => len += count,
                Err(error) => panic!("{error} after {:?}", got[..len].escape_ascii().to_string()),
            }
        }
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        assert_eq!(text(&got[..len]), text(want));
    }

    /// Reads one line, its end included.
    fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("a line before the deadline");
            line.push(byte[0]);
        }
        line
    }

    /// Reads lines up to `want`, which lets any number of RDYs pass.
    #[track_caller]
    pub(crate) fn expect_last(&mut self, want: &[u8]) {
        loop {
            let line = self.line();
            if line == want {
                return;
            }
            let other = line.escape_ascii();
            assert!(line.starts_with(b"RDY ") || line.starts_with(b"FIN "), "{other}");
        }
    }

    /// Reads lines up to `want`; the last RDY before it, or else `rdy`.
    #[track_caller]
    pub(crate) fn expect_fin(&mut self, want: &str, mut rdy: u64) -> u64 {
        loop {
            let line = String::from_utf8(self.line()).unwrap();
            if line == want {
                return rdy;
            }
            let told = line.strip_prefix("RDY ").and_then(|rdy| rdy.trim_end().parse().ok());
            rdy = told.unwrap_or_else(|| panic!("{line:?} instead of {want:?}"));
        }
    }

    /// Reads to the end of the stream and says what came; a reset is an end, too.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("no end of the stream: {error}"),
        }
        rest
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.read_to_end().escape_ascii().to_string(), "");
    }

    /// The bare connection, for a test that wraps it into TLS.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Writes bytes as they are; the client may be gone.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn frame(&mut self, frame: Frame<'_>) {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        self.send(&wire);
    }

    pub(crate) fn respond(&mut self, data: &[u8]) {
        self.frame(Frame::Response(data));
    }

    pub(crate) fn error(&mut self, data: &[u8]) {
        self.frame(Frame::Error(data));
    }

    /// Delivers a message.
    pub(crate) fn message(&mut self, number: u64, attempts: u16, body: &[u8]) {
        let message = MessageRef { timestamp_ns: 7, attempts, id: id(number), body, skipped: 0 };
        self.frame(Frame::Message(message));
    }

    /// Agrees to CLS and closes once the client has, as nsqd does.
    #[track_caller]
    pub(crate) fn close_in_order(mut self) {
        self.expect(b"CLS\n");
        self.respond(b"CLOSE_WAIT");
        self.expect_end();
    }
}
