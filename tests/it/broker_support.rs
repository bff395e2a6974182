//! An NSQ client over a raw socket, with the shared codec and nothing else, and plain HTTP. Unlike the client
//! crate it sends what it is told, in whatever order, and sees every frame.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nsq_protocol::{
    BodiesBuf, ChannelName, Command, Frame, FrameDecoder, MAGIC, MessageId, TopicName,
};

use crate::timing::DEADLINE;

/// Within it, what must not come would have come.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

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
    decoder: FrameDecoder,
}

impl Client {
    /// Connects without a word.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, decoder: FrameDecoder::new(16 << 20) }
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

    /// A consumer with that RDY.
    pub(crate) fn consumer(address: SocketAddr, topic: &str, channel: &str, rdy: u64) -> Self {
        let mut client = Self::connect(address);
        client.sub(topic, channel);
        client.send(Command::Rdy(rdy));
        client
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        // A server that has closed is seen by the next read.
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
            match self.stream.read(self.decoder.space()) {
                Ok(0) => return Got::Closed,
                Ok(count) => self.decoder.advance(count),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
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
