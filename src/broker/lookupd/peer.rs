//! One connection to an nsqlookupd: commands out, answers back, each within a second, as nsqd has it.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nsq_protocol::resolve;

use super::wire::{LookupCommand, LookupdAnswers, LookupdInfo, MAGIC, Node, excerpt};
use crate::broker::socket::{is_transient, write_until};

/// The limit of a connection attempt, of one write and of the wait for one answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest name resolution.
const RESOLVE_WAIT: Duration = Duration::from_secs(5);

/// An nsqlookupd that knows who we are.
pub(super) struct Peer {
    stream: TcpStream,
    answers: LookupdAnswers,
    /// What it says of itself.
    pub(super) info: LookupdInfo,
}

impl Peer {
    /// Connects and says who we are. The error says what is wrong.
    pub(super) fn connect(address: &str, node: &Node) -> Result<Self, String> {
        let stream = connect(address)?;
        let options = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        options.map_err(|error| error.to_string())?;
        let (answers, info) = (LookupdAnswers::default(), LookupdInfo::default());
        let mut peer = Self { stream, answers, info };
        let mut out = MAGIC.to_vec();
        LookupCommand::Identify(node).encode(&mut out);
        peer.write(&out)?;
        peer.info = LookupdInfo::read(&peer.answer()?)?;
        Ok(peer)
    }

    /// Sends commands and waits until each is answered with OK.
    pub(super) fn send(&mut self, commands: &[LookupCommand<'_>]) -> Result<(), String> {
        let mut out = Vec::new();
        commands.iter().for_each(|command| command.encode(&mut out));
        self.write(&out)?;
        for _ in commands {
            let answer = self.answer()?;
            if answer != b"OK" {
                return Err(format!("it answers {}", excerpt(&answer)));
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        write_until(&self.stream, bytes, Some(Instant::now() + PATIENCE))
            .map_err(|error| format!("it takes nothing: {error}"))
    }

    fn answer(&mut self) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = [0; 4096];
        loop {
            if let Some(answer) = self.answers.next()? {
                return Ok(answer);
            }
            // A peer that sends a byte now and then is as slow as one that sends none.
            if Instant::now() >= deadline {
                return Err(format!("it does not answer within {PATIENCE:?}"));
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err("it has closed the connection".to_owned()),
                Ok(count) => self.answers.feed(&bytes[..count]),
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

fn connect(address: &str) -> Result<TcpStream, String> {
    let found = resolve(address, RESOLVE_WAIT).map_err(|error| error.to_string())?;
    let mut failed = "the name has no address".to_owned();
    let deadline = Instant::now() + PATIENCE;
    for address in found {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error.to_string(),
        }
    }
    Err(failed)
}
