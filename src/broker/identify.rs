//! IDENTIFY: what a client may ask for, and what it is answered (pure). Ranges and texts are nsqd's.

use std::time::Duration;

use nsq_protocol::{CommandError, Compression, ErrorCode, IdentifyRequest, IdentifyResponse, OK};

use super::config::{BrokerConfig, MIN_INTERVAL, MIN_OUTPUT_BUFFER, NSQD_VERSION};
use super::core::Identity;

/// What IDENTIFY may say of the client, in characters each: `/stats` shows it, and it stays for the connection.
const IDENTITY_MAX: usize = 256;

/// The deflate level of clients that ask for none, and which is announced also where nothing is deflated; nsqd's.
const DEFLATE_LEVEL: i64 = 6;

/// nsqd's output buffer where the client names none, in bytes.
const OUTPUT_BUFFER_SIZE: i64 = 16 << 10;

/// What becomes of a connection behind the answer to IDENTIFY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Upgrade {
    pub(super) tls: bool,
    pub(super) compression: Compression,
}

/// What holds for a connection: what its client asked for, or else the defaults.
pub(super) struct Negotiated {
    /// `None`: off.
    pub(super) heartbeat: Option<Duration>,
    msg_timeout: Duration,
    output_buffer_size: i64,
    output_buffer_timeout: Duration,
    /// What IDENTIFY agreed on and has yet to be done.
    upgrade: Option<Upgrade>,
    /// Something was agreed on before: nothing is offered twice.
    upgraded: bool,
}

impl Negotiated {
    /// The defaults.
    pub(super) fn new(config: &BrokerConfig) -> Self {
        Self {
            heartbeat: Some(config.heartbeat_interval),
            msg_timeout: config.msg_timeout,
            output_buffer_size: OUTPUT_BUFFER_SIZE,
            output_buffer_timeout: config.output_buffer_timeout,
            upgrade: None,
            upgraded: false,
        }
    }

    /// Whether the next bytes of the client pass through something that is not there yet.
    pub(super) fn wants_upgrade(&self) -> bool {
        self.upgrade.is_some()
    }

    /// What IDENTIFY agreed on, once: to be done behind its answer.
    pub(super) fn take_upgrade(&mut self) -> Option<Upgrade> {
        self.upgrade.take()
    }

    /// Takes over what the client asks for; returns who it is, and the answer. What comes before the first bad value
    /// has been taken over, as in nsqd; nobody can see it, as the connection closes.
    pub(super) fn identify(
        &mut self,
        config: &BrokerConfig,
        body: &[u8],
    ) -> Result<(Identity, Vec<u8>), CommandError> {
        // serde would also take an array for the fields in their order.
        let is_array = body.trim_ascii_start().starts_with(b"[");
        // Boxed: else it would lie on the stack as often as it is moved.
        let request: Option<Box<IdentifyRequest>> =
            (!is_array).then(|| serde_json::from_slice(body).ok()).flatten();
        let request = request.ok_or_else(|| bad("failed to decode JSON body".into()))?;
        self.take_heartbeat(config, request.heartbeat_interval)?;
        self.take_output_buffer(config, &request)?;
        let sample_rate = u8::try_from(request.sample_rate)
            .ok()
            .filter(|rate| *rate <= 99)
            .ok_or_else(|| bad(format!("sample rate ({}) is invalid", request.sample_rate)))?;
        if request.msg_timeout != 0 {
            self.msg_timeout = in_range(request.msg_timeout, MIN_INTERVAL, config.max_msg_timeout)
                .ok_or_else(|| bad(format!("msg timeout ({}) is invalid", request.msg_timeout)))?;
        }
        let answer = if request.feature_negotiation {
            self.answer(config, &request, sample_rate)?
        } else {
            OK.to_vec()
        };
        let identity = Identity {
            client_id: cut(request.client_id),
            hostname: cut(request.hostname),
            user_agent: cut(request.user_agent),
            sample_rate,
            msg_timeout: self.msg_timeout,
        };
        Ok((identity, answer))
    }

    fn take_heartbeat(&mut self, config: &BrokerConfig, ms: i64) -> Result<(), CommandError> {
        match ms {
            0 => {}
            -1 => self.heartbeat = None,
            value => {
                let interval = in_range(value, MIN_INTERVAL, config.max_heartbeat_interval)
                    .ok_or_else(|| bad(format!("heartbeat interval ({value}) is invalid")))?;
                self.heartbeat = Some(interval);
            }
        }
        Ok(())
    }

    fn take_output_buffer(
        &mut self,
        config: &BrokerConfig,
        request: &IdentifyRequest,
    ) -> Result<(), CommandError> {
        match request.output_buffer_timeout {
            0 => {}
            -1 => self.output_buffer_timeout = Duration::ZERO,
            value => {
                let (min, max) =
                    (config.min_output_buffer_timeout, config.max_output_buffer_timeout);
                self.output_buffer_timeout = in_range(value, min, max)
                    .ok_or_else(|| bad(format!("output buffer timeout ({value}) is invalid")))?;
            }
        }
        let max_size = i64::try_from(config.max_output_buffer_size).unwrap_or(i64::MAX);
        match request.output_buffer_size {
            0 => {}
            -1 => {
                self.output_buffer_size = 1;
                self.output_buffer_timeout = Duration::ZERO;
            }
            value if (MIN_OUTPUT_BUFFER..=max_size).contains(&value) => {
                self.output_buffer_size = value;
            }
            value => return Err(bad(format!("output buffer size ({value}) is invalid"))),
        }
        Ok(())
    }

    /// The answer to `feature_negotiation`: what of that which is asked for will be done. The rest is answered with false,
    /// and the client decides. Never inlined: it would lie on the stack, 4 KiB a page for each connection, while JSON is parsed.
    #[inline(never)]
    fn answer(
        &mut self,
        config: &BrokerConfig,
        request: &IdentifyRequest,
        sample_rate: u8,
    ) -> Result<Vec<u8>, CommandError> {
        let tls = request.tls_v1 && config.tls.is_some() && !self.upgraded;
        let snappy = request.snappy && config.snappy && !self.upgraded;
        let deflate = request.deflate && config.deflate && !self.upgraded;
        if snappy && deflate {
            let text = "cannot enable both deflate and snappy compression";
            return Err(CommandError::new(ErrorCode::IdentifyFailed, text));
        }
        let asked = if deflate { request.deflate_level } else { 0 };
        let max_level = config.max_deflate_level;
        let level = if asked > 0 { asked } else { DEFLATE_LEVEL }.min(i64::from(max_level));
        let compression = match (snappy, deflate) {
            (true, _) => Compression::Snappy,
            // At most the largest, which fits.
            (_, true) => Compression::Deflate { level: u8::try_from(level).unwrap_or(max_level) },
            _ => Compression::None,
        };
        if tls || compression != Compression::None {
            (self.upgrade, self.upgraded) = (Some(Upgrade { tls, compression }), true);
        }
        // By default nothing is offered.
        let mut answer = IdentifyResponse::default();
        answer.max_rdy_count = i64::from(config.max_rdy_count);
        answer.version = NSQD_VERSION.into();
        answer.max_msg_timeout = millis(config.max_msg_timeout);
        answer.msg_timeout = millis(self.msg_timeout);
        (answer.tls_v1, answer.snappy, answer.deflate) = (tls, snappy, deflate);
        (answer.deflate_level, answer.max_deflate_level) = (level, i64::from(max_level));
        answer.auth_required = config.auth.is_some();
        answer.sample_rate = i64::from(sample_rate);
        answer.output_buffer_size = self.output_buffer_size;
        answer.output_buffer_timeout = millis(self.output_buffer_timeout);
        Ok(serde_json::to_vec(&answer).expect("numbers, flags and one constant text"))
    }
}

fn bad(text: String) -> CommandError {
    CommandError::new(ErrorCode::BadBody, format!("IDENTIFY {text}"))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// `value` in milliseconds, if it is neither shorter nor longer.
fn in_range(value: i64, min: Duration, max: Duration) -> Option<Duration> {
    (millis(min)..=millis(max))
        .contains(&value)
        .then(|| Duration::from_millis(value.unsigned_abs()))
}

/// The first [`IDENTITY_MAX`] characters of `text`.
fn cut(text: String) -> String {
    if text.len() <= IDENTITY_MAX { text } else { text.chars().take(IDENTITY_MAX).collect() }
}
