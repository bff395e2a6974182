//! An nsqd that a test drives step by step: expect these bytes, then send that frame. Runs on the test's thread.
//!
//! No delays: every wait ends with the bytes it is for, or fails at the deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::codec::frame::Frame;
use crate::codec::identify::IdentifyRequest;
use crate::codec::message::{MessageId, MessageRef};

/// How long each step may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// The largest IDENTIFY that is read, bytes.
const MAX_IDENTIFY: usize = 1 << 20;

/// An nsqd on a port of its own, of 127.0.0.1, which says what a test has it say.
///
/// # Example
/// ```
/// use nsq_protocol::testing::ScriptedNsqd;
/// use nsq_protocol::{Producer, ProducerConfig};
///
/// let nsqd = ScriptedNsqd::listen();
/// // The client waits for its answers: it runs beside the script.
/// let config = ProducerConfig::new().nsqd(nsqd.addr());
/// std::thread::scope(|scope| {
///     let publishing = scope.spawn(|| {
///         let producer = Producer::connect(config).expect("it identifies");
///         producer.publish(&"plays".parse().expect("a name"), b"x")
///     });
///     let mut connection = nsqd.accept_identified();
///     connection.expect(b"PUB plays\n\0\0\0\x01x");
///     connection.error(b"E_BAD_TOPIC no such topic here");
///     let error = publishing.join().expect("no panic").expect_err("it is refused");
///     assert!(format!("{error:?}").contains("no such topic here"));
/// });
/// ```
#[derive(Debug)]
pub struct ScriptedNsqd {
    listener: TcpListener,
}

/// One connection of a client, seen from a [`ScriptedNsqd`].
///
/// Each of its steps panics when something else comes, or nothing within 20 s.
///
/// # Example
/// ```no_run
/// use nsq_protocol::testing::ScriptedNsqd;
///
/// let nsqd = ScriptedNsqd::listen();
/// let mut connection = nsqd.accept_subscribed("plays", "count");
/// connection.expect_last(b"RDY 1\n");
/// connection.message(7, 1, b"body");
/// connection.expect(b"FIN 0000000000000007\n");
/// connection.close_in_order();
/// ```
#[derive(Debug)]
pub struct ScriptedConnection {
    stream: TcpStream,
}

impl ScriptedNsqd {
    /// What [`ScriptedNsqd::accept_identified`] answers to IDENTIFY.
    pub const IDENTIFIED: &[u8] = br#"{"max_rdy_count":2500,"version":"1.3.0"}"#;

    /// On a port that was free.
    pub fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        socket2::SockRef::from(&listener).set_read_timeout(Some(DEADLINE)).unwrap();
        Self { listener }
    }

    /// Its address, `host:port`, for the configuration of a client.
    pub fn addr(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// The next connection, of which nothing is read yet.
    pub fn accept(&self) -> ScriptedConnection {
        let (stream, _) = self.listener.accept().expect("a connection before the deadline");
        ScriptedConnection::new(stream)
    }

    /// The next connection, after IDENTIFY.
    pub fn accept_identified(&self) -> ScriptedConnection {
        self.accept().identified()
    }

    /// As [`ScriptedNsqd::accept_identified`], or nothing when no connection comes within `timeout`.
    pub fn try_accept_identified(&self, timeout: Duration) -> Option<ScriptedConnection> {
        let listener = socket2::SockRef::from(&self.listener);
        listener.set_read_timeout(Some(timeout)).unwrap();
        let accepted = self.listener.accept().ok();
        listener.set_read_timeout(Some(DEADLINE)).unwrap();
        Some(ScriptedConnection::new(accepted?.0).identified())
    }

    /// The next connection, after SUB for that topic and channel.
    pub fn accept_subscribed(&self, topic: &str, channel: &str) -> ScriptedConnection {
        let mut connection = self.accept_identified();
        connection.expect(format!("SUB {topic} {channel}\n").as_bytes());
        connection.respond(b"OK");
        connection
    }
}

impl ScriptedConnection {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    fn identified(mut self) -> Self {
        self.identify();
        self.respond(ScriptedNsqd::IDENTIFIED);
        self
    }

    /// Reads the magic and IDENTIFY.
    pub fn identify(&mut self) -> IdentifyRequest {
        self.expect(b"  V2IDENTIFY\n");
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).expect("IDENTIFY's size");
        let size = u32::from_be_bytes(size) as usize;
        assert!(size <= MAX_IDENTIFY, "an IDENTIFY of {size} bytes");
        let mut json = vec![0; size];
        self.stream.read_exact(&mut json).expect("IDENTIFY's body");
        serde_json::from_slice(&json).expect("IDENTIFY's JSON")
    }

    /// Reads exactly `want`.
    #[track_caller]
    pub fn expect(&mut self, want: &[u8]) {
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
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("a line before the deadline");
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Reads lines up to `want`, which lets any number of RDYs and FINs pass.
    #[track_caller]
    pub fn expect_last(&mut self, want: &[u8]) {
        loop {
            let line = self.line();
            if line.as_bytes() == want {
                return;
            }
            assert!(line.starts_with("RDY ") || line.starts_with("FIN "), "{line:?}");
        }
    }

    /// Reads to the end of the stream and says what came; a reset is an end, too.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("no end of the stream: {error}"),
        }
        rest
    }

    /// Reads the end of the stream, and nothing before it.
    #[track_caller]
    pub fn expect_end(&mut self) {
        assert_eq!(self.read_to_end().escape_ascii().to_string(), "");
    }

    /// The bare connection, for a test that wraps it into TLS.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Writes bytes as they are; the client may be gone.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a frame.
    pub fn frame(&mut self, frame: Frame<'_>) {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        self.send(&wire);
    }

    /// Sends a response, such as `OK`.
    pub fn respond(&mut self, data: &[u8]) {
        self.frame(Frame::Response(data));
    }

    /// Sends an error, such as `E_BAD_TOPIC no such topic here`.
    pub fn error(&mut self, data: &[u8]) {
        self.frame(Frame::Error(data));
    }

    /// Delivers a message, whose ID is that of `number`.
    pub fn message(&mut self, number: u64, attempts: u16, body: &[u8]) {
        let id = MessageId::from_u64(number);
        self.frame(Frame::Message(MessageRef { timestamp_ns: 7, attempts, id, body, skipped: 0 }));
    }

    /// Agrees to CLS and closes once the client has, as nsqd does.
    #[track_caller]
    pub fn close_in_order(mut self) {
        self.expect(b"CLS\n");
        self.respond(b"CLOSE_WAIT");
        self.expect_end();
    }
}
