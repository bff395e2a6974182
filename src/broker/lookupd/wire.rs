//! What is said to an nsqlookupd over TCP, and what it answers (pure). Commands are lines as nsqd's clients send them; an
//! answer is `size: i32 | data`, without the type that a frame of nsqd has.

use nsq_protocol::ChannelName;
use serde::{Deserialize, Serialize};

use crate::broker::core::Registration;

/// What a connection begins with.
pub(super) const MAGIC: &[u8; 4] = b"  V1";

/// The largest answer that is read, bytes. The longest that nsqlookupd has tells its own addresses.
pub(super) const MAX_ANSWER: usize = 64 << 10;

/// How a broker says where it is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::broker) struct Node {
    pub(in crate::broker) version: String,
    pub(in crate::broker) tcp_port: u16,
    pub(in crate::broker) http_port: u16,
    pub(in crate::broker) hostname: String,
    pub(in crate::broker) broadcast_address: String,
}

/// What an nsqlookupd says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct LookupdInfo {
    http_port: u16,
    version: String,
    broadcast_address: String,
}

impl LookupdInfo {
    /// Reads the answer to IDENTIFY; what is wrong with it.
    pub(super) fn read(answer: &[u8]) -> Result<Self, String> {
        let info: Self = serde_json::from_slice(answer)
            .map_err(|_| format!("it answers IDENTIFY with {}", excerpt(answer)))?;
        let missing = |what| Err(format!("it answers IDENTIFY without {what}"));
        match () {
            () if info.broadcast_address.is_empty() => missing("a broadcast_address"),
            () if info.http_port == 0 => missing("an http_port"),
            () => Ok(info),
        }
    }

    /// Its version.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// `host:port` of its HTTP API.
    pub(super) fn http_address(&self) -> String {
        match self.broadcast_address.contains(':') {
            true => format!("[{}]:{}", self.broadcast_address, self.http_port),
            false => format!("{}:{}", self.broadcast_address, self.http_port),
        }
    }
}

/// A command to an nsqlookupd.
pub(super) enum LookupCommand<'a> {
    Identify(&'a Node),
    Register(&'a Registration),
    Unregister(&'a Registration),
    Ping,
}

impl LookupCommand<'_> {
    /// Appends its bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Identify(node) => {
                // Strings and numbers always have a form in JSON.
                let body = serde_json::to_vec(node).unwrap_or_default();
                out.extend_from_slice(b"IDENTIFY\n");
                out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
                out.extend_from_slice(&body);
            }
            Self::Register(what) => line(out, "REGISTER", what),
            Self::Unregister(what) => line(out, "UNREGISTER", what),
            Self::Ping => out.extend_from_slice(b"PING\n"),
        }
    }
}

fn line(out: &mut Vec<u8>, command: &str, what: &Registration) {
    out.extend_from_slice(command.as_bytes());
    let names = [Some(what.topic.as_str()), what.channel.as_ref().map(ChannelName::as_str)];
    for name in names.into_iter().flatten() {
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
    }
    out.push(b'\n');
}

/// Cuts what is read into answers.
#[derive(Debug, Default)]
pub(super) struct LookupdAnswers {
    bytes: Vec<u8>,
}

impl LookupdAnswers {
    /// Takes what was read.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next answer, if it is whole; what is wrong with it.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some((size, _)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let size = i32::from_be_bytes(*size);
        let Some(size) = usize::try_from(size).ok().filter(|size| *size <= MAX_ANSWER) else {
            return Err(format!(
                "it announces an answer of {size} bytes, and the limit is {MAX_ANSWER}: is this nsqlookupd's TCP port, 4160 by default?"
            ));
        };
        if self.bytes.len() < 4 + size {
            return Ok(None);
        }
        let rest = self.bytes.split_off(4 + size);
        let answer = std::mem::replace(&mut self.bytes, rest);
        Ok(Some(answer[4..].to_vec()))
    }
}

/// The beginning of an answer, for an error.
pub(super) fn excerpt(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(&answer[..answer.len().min(400)]);
    format!("\"{}\"", text.escape_debug().take(100).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nsq_protocol::TopicName;

    fn registration(topic: &str, channel: Option<&str>) -> Registration {
        let channel = channel.map(|name| ChannelName::new(name).unwrap());
        Registration { topic: TopicName::new(topic).unwrap(), channel }
    }

    #[test]
    fn commands_are_lines_and_identify_has_a_body() {
        let encoded = |command: LookupCommand<'_>| {
            let mut out = Vec::new();
            command.encode(&mut out);
            out
        };
        let topic = registration("t.1", None);
        let channel = registration("t.1", Some("c#ephemeral"));
        assert_eq!(encoded(LookupCommand::Register(&topic)), b"REGISTER t.1\n");
        assert_eq!(encoded(LookupCommand::Register(&channel)), b"REGISTER t.1 c#ephemeral\n");
        assert_eq!(encoded(LookupCommand::Unregister(&channel)), b"UNREGISTER t.1 c#ephemeral\n");
        assert_eq!(encoded(LookupCommand::Ping), b"PING\n");
        let node = Node {
            version: "1.3.0".into(),
            tcp_port: 4150,
            http_port: 4151,
            hostname: "h".into(),
            broadcast_address: "b".into(),
        };
        let body = br#"{"version":"1.3.0","tcp_port":4150,"http_port":4151,"hostname":"h","broadcast_address":"b"}"#;
        let want = [b"IDENTIFY\n\0\0\0".as_slice(), &[body.len() as u8], body].concat();
        assert_eq!(encoded(LookupCommand::Identify(&node)), want);
    }

    #[test]
    fn answers_are_cut_wherever_the_bytes_are_and_have_a_limit() {
        let bytes = b"\0\0\0\x02OK\0\0\0\0\0\0\0\x03abc";
        for step in 1..bytes.len() {
            let mut answers = LookupdAnswers::default();
            let mut found = Vec::new();
            for part in bytes.chunks(step) {
                answers.feed(part);
                while let Some(answer) = answers.next().unwrap() {
                    found.push(String::from_utf8(answer).unwrap());
                }
            }
            assert_eq!(found, ["OK", "", "abc"], "{step}");
        }
        // A size below 0, one over the limit, and HTTP.
        for wrong in [b"\xff\xff\xff\xff", b"\0\x01\0\x01", b"HTTP"] {
            let mut answers = LookupdAnswers::default();
            answers.feed(wrong);
            assert!(answers.next().unwrap_err().contains("4160"), "{wrong:?}");
        }
        let mut answers = LookupdAnswers::default();
        answers.feed(b"\0\x01\0\0");
        assert_eq!(answers.next(), Ok(None));
    }

    #[test]
    fn an_nsqlookupd_says_where_its_http_api_is() {
        let read = |text: &str| LookupdInfo::read(text.as_bytes()).map(|info| info.http_address());
        let address = |text: &str| Ok(text.to_owned());
        let own = r#"{"tcp_port":4160,"http_port":4161,"version":"1.3.0","broadcast_address":"l","hostname":"h"}"#;
        assert_eq!(read(own), address("l:4161"));
        assert_eq!(read(r#"{"http_port":1,"broadcast_address":"::1"}"#), address("[::1]:1"));
        for wrong in [
            "",
            "E_INVALID",
            "[]",
            "{}",
            r#"{"http_port":1}"#,
            r#"{"broadcast_address":"l"}"#,
            r#"{"http_port":70000,"broadcast_address":"l"}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
