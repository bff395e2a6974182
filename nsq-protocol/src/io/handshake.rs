//! The handshake of one connection, typed so that no step can be left out. Runs on the thread that connects.
//!
//! ```text
//! Fresh --identify--> Identified --subscribe--> Subscribed
//!                         |                         |
//!                         +--------- start ---------+--> Running: a reader and a writer thread
//! ```

use std::sync::Arc;
use std::time::Instant;

use crate::codec::auth::AuthResponse;
use crate::codec::command::{Command, MAGIC};
use crate::codec::compression::Compression;
use crate::codec::error_code::ErrorCode;
use crate::codec::frame::{Frame, FrameDecoder, HEARTBEAT, OK};
use crate::codec::identify::{IdentifyRequest, IdentifyResponse};
use crate::codec::names::{ChannelName, TopicName};
use crate::error::Error;
use crate::io::config::ConnectionConfig;
use crate::io::connection::Running;
use crate::io::transport::{Closer, Transport};

/// Bytes of a frame's size field.
const SIZE_LEN: usize = 4;

/// A connected socket on which nothing was said yet.
pub(crate) struct Fresh<'a> {
    transport: Transport,
    decoder: FrameDecoder,
    config: &'a ConnectionConfig,
}

/// nsqd knows who we are: publishing is possible, or SUB.
pub(crate) struct Identified<'a> {
    fresh: Fresh<'a>,
    response: IdentifyResponse,
}

/// SUB was answered with OK.
pub(crate) struct Subscribed<'a> {
    identified: Identified<'a>,
}

impl<'a> Fresh<'a> {
    /// Connects; see [`Transport::dial`] for `watch`.
    pub(crate) fn connect(
        addr: &Arc<str>,
        config: &'a ConnectionConfig,
        watch: &dyn Fn(Closer) -> bool,
    ) -> Result<Self, Error> {
        let transport = Transport::dial(addr, config, watch)?;
        Ok(Self { transport, decoder: FrameDecoder::new(config.max_frame()), config })
    }

    /// Sends the magic and IDENTIFY and reads nsqd's side of the negotiation.
    pub(crate) fn identify(mut self, request: &IdentifyRequest) -> Result<Identified<'a>, Error> {
        let json = serde_json::to_vec(request).expect("strings, integers and flags only");
        let mut wire = MAGIC.to_vec();
        Command::Identify(&json).encode(&mut wire);
        self.transport.write(&wire, self.config.write_timeout)?;
        let answer = self.answer("IDENTIFY", "waiting for the answer to IDENTIFY from")?;
        let response: IdentifyResponse = if answer == OK {
            IdentifyResponse::default()
        } else {
            // An array, too, would read as a struct: one with every field at its default.
            let object = if answer.starts_with(b"{") { &answer[..] } else { b"" };
            serde_json::from_slice(object).map_err(|error| {
                self.protocol(format!("the answer to IDENTIFY is no such JSON object: {error}"))
            })?
        };
        if response.max_rdy_count < 1 {
            let count = response.max_rdy_count;
            return Err(self.protocol(format!("max_rdy_count is {count}: nothing can be received")));
        }
        self.upgrade(request, &response)?;
        if response.auth_required {
            self.authenticate()?;
        }
        Ok(Identified { fresh: self, response })
    }

    /// TLS, then compression, each with an OK of nsqd inside it.
    fn upgrade(
        &mut self,
        request: &IdentifyRequest,
        response: &IdentifyResponse,
    ) -> Result<(), Error> {
        let unasked = (response.tls_v1 && !request.tls_v1)
            || (response.snappy && !request.snappy)
            || (response.deflate && !request.deflate);
        if unasked {
            return Err(self.protocol("TLS or compression without being asked for it".to_owned()));
        }
        if let Some(tls) = &self.config.tls {
            if !response.tls_v1 {
                // Going on in clear is what go-nsq, pynsq and nsqjs do, and the secret goes with it.
                return Err(Error::TlsDeclined { addr: self.transport.addr().to_string() });
            }
            let limit = self.config.handshake_timeout;
            self.transport.start_tls(tls, Instant::now() + limit, limit)?;
            self.upgraded("TLS", "waiting for OK inside TLS from")?;
        }
        #[cfg(feature = "snappy")]
        if response.snappy {
            self.transport.start_compression(Compression::Snappy);
            return self.upgraded("snappy", "waiting for OK inside snappy from");
        }
        #[cfg(feature = "deflate")]
        if response.deflate {
            let level = response.deflate_level.clamp(1, 9) as u8;
            self.transport.start_compression(Compression::Deflate { level });
            return self.upgraded("deflate", "waiting for OK inside deflate from");
        }
        if self.config.compression != Compression::None {
            let addr = self.transport.addr();
            log::warn!(
                "{addr} does not offer the compression that was asked for; going on without"
            );
        }
        Ok(())
    }

    fn upgraded(&mut self, to: &str, doing: &'static str) -> Result<(), Error> {
        let answer = self.answer("IDENTIFY", doing)?;
        if answer != OK {
            let answer = answer.escape_ascii();
            return Err(
                self.protocol(format!("the first answer inside {to} is {answer:.64}, not OK"))
            );
        }
        Ok(())
    }

    /// Behind every upgrade, so that the secret is encrypted where TLS was asked for.
    fn authenticate(&mut self) -> Result<(), Error> {
        let addr = self.transport.addr().clone();
        let Some(secret) = &self.config.auth_secret else {
            return Err(Error::AuthRequired { addr: addr.to_string() });
        };
        let mut wire = Vec::new();
        Command::Auth(secret.as_bytes()).encode(&mut wire);
        self.transport.write(&wire, self.config.write_timeout)?;
        let answer = self.answer("AUTH", "waiting for the answer to AUTH from")?;
        let AuthResponse { identity, permission_count } =
            serde_json::from_slice(&answer).map_err(|error| {
                self.protocol(format!("the answer to AUTH is no such JSON object: {error}"))
            })?;
        log::debug!("{addr} knows us as {identity:?}, with {permission_count} permissions");
        Ok(())
    }

    /// The response to `command`, with heartbeats answered on the way.
    fn answer(&mut self, command: &'static str, doing: &'static str) -> Result<Vec<u8>, Error> {
        let deadline = Instant::now() + self.config.handshake_timeout;
        loop {
            let data = self.frame(command, doing, deadline)?;
            if data != HEARTBEAT {
                return Ok(data);
            }
            let mut wire = Vec::new();
            Command::Nop.encode(&mut wire);
            self.transport.write(&wire, self.config.write_timeout)?;
        }
    }

    /// One response; an error frame refuses `command`. Never reads past its end: behind it, the peer may speak TLS or
    /// snappy.
    fn frame(
        &mut self,
        command: &'static str,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<Vec<u8>, Error> {
        let limit = self.config.handshake_timeout;
        let mut size = [0; SIZE_LEN];
        let mut got = 0;
        while got < SIZE_LEN {
            got += self.transport.read(&mut size[got..], doing, deadline, limit)?;
        }
        let addr = self.transport.addr().clone();
        let undecodable = |source| Error::Decode { addr: addr.to_string(), source };
        self.decoder.push(&size);
        // The decoder checks the size before the frame is waited for.
        self.decoder.next_frame().map_err(undecodable)?;
        let mut left = u32::from_be_bytes(size) as usize;
        while left > 0 {
            let space = self.decoder.space();
            let len = space.len().min(left);
            let count = self.transport.read(&mut space[..len], doing, deadline, limit)?;
            self.decoder.advance(count);
            left -= count;
        }
        match self.decoder.next_frame().map_err(undecodable)? {
            Some(Frame::Response(data)) => Ok(data.to_vec()),
            Some(Frame::Error(data)) => {
                let (code, detail) = ErrorCode::parse(data);
                Err(Error::Refused { addr: addr.to_string(), command, code, detail })
            }
            Some(Frame::Message(_)) | None => Err(Error::Protocol {
                addr: addr.to_string(),
                what: "a message during the handshake".to_owned(),
            }),
        }
    }

    fn protocol(&self, what: String) -> Error {
        Error::Protocol { addr: self.transport.addr().to_string(), what }
    }
}

impl<'a> Identified<'a> {
    /// Makes this connection a consumer; no message comes before RDY.
    pub(crate) fn subscribe(
        mut self,
        topic: TopicName,
        channel: ChannelName,
    ) -> Result<Subscribed<'a>, Error> {
        let mut wire = Vec::new();
        Command::Sub(topic, channel).encode(&mut wire);
        self.fresh.transport.write(&wire, self.fresh.config.write_timeout)?;
        let answer = self.fresh.answer("SUB", "waiting for the answer to SUB from")?;
        if answer != OK {
            let answer = answer.escape_ascii();
            return Err(self.fresh.protocol(format!("the answer to SUB is {answer:.64}, not OK")));
        }
        Ok(Subscribed { identified: self })
    }

    /// Gives the connection to its threads, for publishing.
    pub(crate) fn start(self, thread_number: usize) -> Result<Running, Error> {
        let Fresh { transport, decoder, config } = self.fresh;
        Running::start(transport, decoder, config, thread_number)
    }
}

impl Subscribed<'_> {
    /// What nsqd agreed to.
    pub(crate) fn response(&self) -> &IdentifyResponse {
        &self.identified.response
    }

    /// Gives the connection to its threads, for consuming; of an oversized message `kept` bytes are.
    pub(crate) fn start(mut self, thread_number: usize, kept: usize) -> Result<Running, Error> {
        self.identified.fresh.decoder.skip_oversized(kept);
        self.identified.start(thread_number)
    }
}
