//! What IDENTIFY agrees on is done: TLS, then compression, on the thread `broker-read`. No command is read meanwhile.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nsq_protocol::{
    CommandError, Compression, ErrorCode, Frame, OK, both_sides, start_compression, start_tls,
};
use rustls::{Connection, ProtocolVersion};

use super::core::{TlsFacts, Upgraded};
use super::identify::Upgrade;
use super::reader::{ConnectionReader, End};
use super::socket::{PEER, Unread, read_before, write_until};
use crate::http::ServerTls;

/// How long a client may take for its part of the TLS handshake; nsqd's.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);

impl ConnectionReader {
    /// Does what was agreed on, behind the answer to IDENTIFY, each with an OK inside of it. Never inlined: most connections ask
    /// for none of it, and should have no stack for it.
    #[inline(never)]
    pub(super) fn upgrade(&mut self, upgrade: Upgrade) -> Result<(), End> {
        let Upgrade { tls, compression } = upgrade;
        let certificate = self.hub.config.tls.clone().filter(|_| tls);
        if let Some(certificate) = &certificate {
            self.start_tls(certificate)?;
        }
        let upgraded = Upgraded {
            tls: self.outbound.with_tls(facts),
            snappy: compression == Compression::Snappy,
            deflate: matches!(compression, Compression::Deflate { .. }),
        };
        // Who has seen the last OK finds it in `/stats`.
        self.hub.with_core(|core| core.upgrade(self.id, upgraded));
        if tls {
            self.confirm()?;
        }
        if compression != Compression::None {
            start_compression(&mut self.inbound, &mut self.outbound, compression);
            self.confirm()?;
        }
        Ok(())
    }

    fn start_tls(&mut self, certificate: &Arc<ServerTls>) -> Result<(), End> {
        let deadline = Instant::now() + HANDSHAKE_WAIT;
        let failed = |why: String| {
            let text = format!("IDENTIFY failed {why}");
            End::Fatal(CommandError::new(ErrorCode::IdentifyFailed, text))
        };
        let session = certificate.unnamed_session().map_err(|error| failed(error.to_string()))?;
        self.stream.set_write_timeout(Some(HANDSHAKE_WAIT)).map_err(|_| End::Closed)?;
        let stream = &*self.stream;
        let done = start_tls(
            &mut self.inbound,
            &mut self.outbound,
            both_sides(session.into(), PEER),
            |space| read_before(stream, space, deadline),
            |bytes| write_until(stream, bytes, Some(deadline)).map_err(unwritten),
        );
        self.set_read_timeout(Some(HANDSHAKE_WAIT)).map_err(|_| End::Closed)?;
        done.map_err(|unread| match unread {
            Unread::Wait => {
                failed(format!("no TLS handshake within {} s", HANDSHAKE_WAIT.as_secs()))
            }
            Unread::Closed | Unread::Failed => End::Closed,
            // In clear, as nsqd has it: whoever speaks no TLS can read it.
            Unread::Damaged(error) => failed(error.text),
        })?;
        self.outbound.with_tls(|session| {
            let certificate = session.peer_certificates().and_then(<[_]>::first);
            self.session.set_encrypted(certificate.map(|certificate| &**certificate));
        });
        // The limits of writing as they were.
        self.restart_timers(Instant::now()).map_err(|_| End::Closed)
    }

    fn confirm(&mut self) -> Result<(), End> {
        let mut out = Vec::new();
        Frame::Response(OK).encode(&mut out);
        self.answer(&out).map_err(|_| End::Closed)
    }
}

fn unwritten(error: io::Error) -> Unread {
    if error.kind() == io::ErrorKind::TimedOut { Unread::Wait } else { Unread::Failed }
}

/// What `/stats` tells of a session.
fn facts(session: &Connection) -> TlsFacts {
    let suite = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    TlsFacts {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS1.3",
            _ => "TLS1.2",
        },
        // The names of the standard: without the version, which only the library's have.
        cipher_suite: suite.unwrap_or_default().replacen("TLS13_", "TLS_", 1),
    }
}
