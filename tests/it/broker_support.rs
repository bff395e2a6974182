//! An NSQ client over a raw socket, with the shared codec and nothing else, and plain HTTP. Unlike the client
//! crate it sends what it is told, in whatever order, and sees every frame.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nsq_protocol::{
    BodiesBuf, ChannelName, Command, Compression, Error, Frame, FrameDecoder, Inbound, MAGIC,
    MessageId, Outbound, TopicName, both_sides, start_compression, start_tls,
};

use playcounts::broker::{Broker, BrokerConfig};
use serde_json::Value;

use crate::timing::DEADLINE;

/// Within it, what must not come would have come.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

/// An embedded broker on a free port, without HTTP; `change` says what else is to be so.
pub(crate) fn start(change: impl FnOnce(&mut BrokerConfig)) -> Broker {
    let mut config = BrokerConfig {
        tcp_address: "127.0.0.1:0".into(),
        http_address: None,
        ..BrokerConfig::default()
    };
    change(&mut config);
    Broker::start(config).unwrap()
}

/// A frame that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Got {
    Response(String),
    Error(String),
    Message(Message),
    /// The connection was closed or reset.
    Closed,
    /// Nothing came in time.
    Nothing,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: MessageId,
    pub(crate) attempts: u16,
    pub(crate) timestamp_ns: i64,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// What was agreed on with the server, each way.
    inbound: Inbound,
    outbound: Outbound,
    decoder: FrameDecoder,
}

/// Why nothing was read or written.
struct Stop(ErrorKind);

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self(error.kind())
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::Closed { .. } => Self(ErrorKind::UnexpectedEof),
            // An alert of TLS.
            Error::Tls { .. } => Self(ErrorKind::ConnectionAborted),
            error => panic!("{}", nsq_protocol::chain(&error)),
        }
    }
}

impl Client {
    /// Connects without a word.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let (inbound, outbound) = Default::default();
        Self { stream, inbound, outbound, decoder: FrameDecoder::new(16 << 20) }
    }

    /// Connects and sends the magic.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut client = Self::silent(address);
        client.raw(MAGIC);
        client
    }

    /// Connects, identifies with that JSON, and checks the OK.
    pub(crate) fn identified(address: SocketAddr, json: &str) -> Self {
        let mut client = Self::connect(address);
        client.send(Command::Identify(json.as_bytes()));
        client.ok();
        client
    }

    /// Connects and asks for what the JSON says besides feature negotiation; the answer.
    pub(crate) fn negotiated(address: SocketAddr, json: &str) -> (Self, Value) {
        let mut client = Self::connect(address);
        let json = format!(r#"{{"feature_negotiation":true,{json}}}"#);
        client.send(Command::Identify(json.as_bytes()));
        let answer = client.response_alone();
        (client, serde_json::from_str(&answer).unwrap())
    }

    /// The next response, and not a byte behind it: there, something else may be spoken.
    #[track_caller]
    pub(crate) fn response_alone(&mut self) -> String {
        let mut exactly = |bytes: &mut [u8]| {
            let Self { stream, inbound, .. } = self;
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut got = 0;
            while got < bytes.len() {
                let read = inbound.read("the server", &mut bytes[got..], |buffer| {
                    Ok::<_, Stop>(stream.read(buffer)?)
                });
                got += read.unwrap_or_else(|Stop(kind)| panic!("{kind} where an answer was due"));
            }
        };
        let mut head = [0; 8];
        exactly(&mut head);
        let mut data = vec![0; u32::from_be_bytes(head[..4].try_into().unwrap()) as usize - 4];
        exactly(&mut data);
        assert_eq!(head[4..], [0; 4], "no response: {}", text(&data));
        text(&data)
    }

    /// Connects and begins TLS, which the server says OK to.
    pub(crate) fn encrypted(address: SocketAddr, session: rustls::ClientConnection) -> Self {
        let (mut client, answer) = Self::negotiated(address, r#""tls_v1":true"#);
        assert_eq!(answer["tls_v1"], true);
        client.encrypt(session).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(client.response_alone(), "OK");
        client
    }

    /// What follows is encrypted; the error is why not.
    pub(crate) fn encrypt(&mut self, session: rustls::ClientConnection) -> Result<(), String> {
        struct Failed(String);
        impl From<Error> for Failed {
            fn from(error: Error) -> Self {
                Self(nsq_protocol::chain(&error))
            }
        }
        let failed = |error: std::io::Error| Failed(error.to_string());
        let (mut reading, mut writing) = (&self.stream, &self.stream);
        reading.set_read_timeout(Some(DEADLINE)).unwrap();
        start_tls(
            &mut self.inbound,
            &mut self.outbound,
            both_sides(session.into(), "the server"),
            |space| match reading.read(space).map_err(failed)? {
                0 => Err(Failed("closed".into())),
                count => Ok(count),
            },
            |bytes| writing.write_all(bytes).map_err(failed),
        )
        .map_err(|Failed(error)| error)
    }

    /// What follows is compressed, which the server says OK to.
    #[track_caller]
    pub(crate) fn compress(&mut self, compression: Compression) {
        start_compression(&mut self.inbound, &mut self.outbound, compression);
        assert_eq!(self.response_alone(), "OK");
    }

    /// Connects and has its stream compressed.
    #[track_caller]
    pub(crate) fn compressed(address: SocketAddr, compression: Compression) -> Self {
        let asked = match compression {
            Compression::Snappy => r#""snappy":true"#.to_owned(),
            Compression::Deflate { level } => {
                format!(r#""deflate":true,"deflate_level":{level}"#)
            }
            _ => panic!("no compression"),
        };
        let (mut client, _) = Self::negotiated(address, &asked);
        client.compress(compression);
        client
    }

    /// A consumer with that RDY.
    pub(crate) fn consumer(address: SocketAddr, topic: &str, channel: &str, rdy: u64) -> Self {
        let mut client = Self::connect(address);
        client.sub(topic, channel);
        client.send(Command::Rdy(rdy));
        client
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let Self { stream, outbound, .. } = self;
        // A server that has closed is seen by the next read.
        let _ =
            outbound.write("the server", bytes, |piece| Ok::<_, Stop>(stream.write_all(piece)?));
    }

    /// As they are, past what was agreed on.
    pub(crate) fn below(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn send(&mut self, command: Command<'_>) {
        let mut out = Vec::new();
        command.encode(&mut out);
        self.raw(&out);
    }

    pub(crate) fn sub(&mut self, topic: &str, channel: &str) {
        self.send(Command::Sub(self::topic(topic), ChannelName::new(channel).unwrap()));
        self.ok();
    }

    pub(crate) fn publish(&mut self, topic: &str, body: &[u8]) {
        self.send(Command::Pub(self::topic(topic), body));
        self.ok();
    }

    pub(crate) fn publish_many(&mut self, topic: &str, bodies: &[&[u8]]) {
        let mut buf = BodiesBuf::new();
        bodies.iter().for_each(|body| buf.push(body));
        self.send(Command::Mpub(self::topic(topic), buf.as_bodies()));
        self.ok();
    }

    pub(crate) fn finish(&mut self, message: &Message) {
        self.send(Command::Fin(message.id));
    }

    /// The next frame, within `wait`.
    pub(crate) fn next(&mut self, wait: Duration) -> Got {
        let deadline = Instant::now() + wait;
        loop {
            match self.decoder.next_frame().unwrap() {
                Some(Frame::Response(data)) => return Got::Response(text(data)),
                Some(Frame::Error(data)) => return Got::Error(text(data)),
                Some(Frame::Message(message)) => {
                    return Got::Message(Message {
                        id: message.id,
                        attempts: message.attempts,
                        timestamp_ns: message.timestamp_ns,
                        body: message.body.to_vec(),
                    });
                }
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Got::Nothing;
            }
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            let Self { stream, inbound, decoder, .. } = self;
            let read = inbound.read("the server", decoder.space(), |buffer| {
                match stream.read(buffer)? {
                    0 => Err(Stop(ErrorKind::UnexpectedEof)),
                    count => Ok(count),
                }
            });
            match read {
                Ok(count) => self.decoder.advance(count),
                Err(Stop(ErrorKind::WouldBlock | ErrorKind::TimedOut)) => {}
                Err(_) => return Got::Closed,
            }
        }
    }

    #[track_caller]
    pub(crate) fn ok(&mut self) {
        self.response("OK");
    }

    #[track_caller]
    pub(crate) fn response(&mut self, want: &str) {
        assert_eq!(self.next(DEADLINE), Got::Response(want.into()));
    }

    #[track_caller]
    pub(crate) fn error(&mut self, want: &str) {
        assert_eq!(self.next(DEADLINE), Got::Error(want.into()));
    }

    /// An error that ends the connection.
    #[track_caller]
    pub(crate) fn fatal(&mut self, want: &str) {
        self.error(want);
        self.closed();
    }

    #[track_caller]
    pub(crate) fn closed(&mut self) {
        assert_eq!(self.next(DEADLINE), Got::Closed);
    }

    #[track_caller]
    pub(crate) fn quiet(&mut self) {
        assert_eq!(self.next(QUIET), Got::Nothing);
    }

    #[track_caller]
    pub(crate) fn message(&mut self) -> Message {
        match self.next(DEADLINE) {
            Got::Message(message) => message,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// The next message must have that body and be the `attempts`-th delivery.
    #[track_caller]
    pub(crate) fn delivery(&mut self, body: &[u8], attempts: u16) -> Message {
        let message = self.message();
        assert_eq!((text(&message.body), message.attempts), (text(body), attempts));
        message
    }
}

/// Where a broker's clients connect to.
pub(crate) fn tcp(broker: &crate::support::Broker) -> SocketAddr {
    broker.tcp().parse().unwrap()
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One HTTP request; the status, the head and the body.
pub(crate) fn http(
    address: SocketAddr,
    method: &str,
    target: &str,
    body: &[u8],
) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A refusal may come, and the connection go, before the whole body is out.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = text(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    // Go sends what is over 2 KiB in chunks.
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { unchunked(body) } else { body.into() };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{method} {target}: {answer}")), head.into(), body)
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, behind)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&behind[..size]);
        rest = behind[size..].strip_prefix("\r\n").unwrap_or_default();
    }
    body
}
