//! One connection's conversation: what its commands do and what it is answered (pure).
//!
//! Two steps, because the core is locked for the second only. [`Session::read`] checks a command against the
//! state, copies its body, and makes a [`CheckedCommand`]; [`Session::apply`] carries the request out and writes the
//! answer. All requests of one read of the socket are applied under one lock.
//!
//! ```text
//! INIT --SUB--> SUBSCRIBED --CLS--> CLOSING
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nsq_protocol::{
    CLOSE_WAIT, ChannelName, Command, CommandError, ErrorCode, Frame, IdentifyRequest,
    IdentifyResponse, MessageId, OK, TopicName,
};

use super::config::{BrokerConfig, MIN_INTERVAL, MIN_OUTPUT_BUFFER, NSQD_VERSION};
use super::core::{ClientId, Core, Identity, InFlightError, NewBatch};

/// What IDENTIFY may say of the client, in characters each: `/stats` shows it, and it stays for the connection.
const IDENTITY_MAX: usize = 256;

/// The deflate level that nsqd announces, whether or not it deflates.
const DEFLATE_LEVEL: i64 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientState {
    Init,
    Subscribed,
    Closing,
}

/// A checked command that owns its bytes.
pub(super) enum CheckedCommand {
    Identify(Box<(Identity, Vec<u8>)>),
    Subscribe(Box<(TopicName, ChannelName)>),
    Publish(Box<Publish>),
    Ready(u32),
    Finish(MessageId),
    Requeue(MessageId, Duration),
    Touch(MessageId),
    StartClose,
    Nothing,
}

/// A PUB, MPUB or DPUB.
pub(super) struct Publish {
    topic: TopicName,
    batch: NewBatch,
    delay: Duration,
    name: &'static str,
    code: ErrorCode,
}

/// See the module.
pub(super) struct Session {
    id: ClientId,
    config: Arc<BrokerConfig>,
    state: ClientState,
    /// `None`: off.
    heartbeat: Option<Duration>,
    msg_timeout: Duration,
    output_buffer_size: i64,
    output_buffer_timeout: Duration,
}

impl Session {
    /// A connection that has sent its magic.
    pub(super) fn new(id: ClientId, config: Arc<BrokerConfig>) -> Self {
        Self {
            id,
            state: ClientState::Init,
            heartbeat: Some(config.heartbeat_interval),
            msg_timeout: config.msg_timeout,
            output_buffer_size: 16 << 10,
            output_buffer_timeout: config.output_buffer_timeout,
            config,
        }
    }

    /// How often the client gets a heartbeat; twice that long it may be silent.
    pub(super) fn heartbeat(&self) -> Option<Duration> {
        self.heartbeat
    }

    /// Whether the connection is a consumer.
    pub(super) fn is_subscribed(&self) -> bool {
        self.state != ClientState::Init
    }

    /// Checks a command. The error is fatal: answer it and close.
    pub(super) fn read(&mut self, command: Command<'_>) -> Result<CheckedCommand, CommandError> {
        let in_state = |allowed: bool| {
            let text = || format!("cannot {} in current state", command.name());
            if allowed { Ok(()) } else { Err(CommandError::new(ErrorCode::Invalid, text())) }
        };
        Ok(match command {
            Command::Fin(id) => {
                in_state(self.state != ClientState::Init)?;
                CheckedCommand::Finish(id)
            }
            Command::Pub(topic, body) => {
                publish(topic, NewBatch::one(body), Duration::ZERO, "PUB", ErrorCode::PubFailed)
            }
            Command::Mpub(topic, bodies) => publish(
                topic,
                NewBatch::many(bodies),
                Duration::ZERO,
                "MPUB",
                ErrorCode::MpubFailed,
            ),
            Command::Dpub(topic, delay_ms, body) => {
                let max = self.config.max_req_timeout;
                let delay = Duration::from_millis(delay_ms);
                if delay > max {
                    let max = max.as_millis();
                    let text = format!("DPUB timeout {delay_ms} out of range 0-{max}");
                    return Err(CommandError::new(ErrorCode::Invalid, text));
                }
                publish(topic, NewBatch::one(body), delay, "DPUB", ErrorCode::DpubFailed)
            }
            Command::Rdy(count) => {
                // After CLS it is ignored without a word.
                if self.state == ClientState::Closing {
                    return Ok(CheckedCommand::Nothing);
                }
                in_state(self.state == ClientState::Subscribed)?;
                let max = self.config.max_rdy_count;
                let in_range = u32::try_from(count).ok().filter(|count| *count <= max);
                CheckedCommand::Ready(in_range.ok_or_else(|| {
                    let text = format!("RDY count {count} out of range 0-{max}");
                    CommandError::new(ErrorCode::Invalid, text)
                })?)
            }
            Command::Req(id, delay_ms) => {
                in_state(self.state != ClientState::Init)?;
                let delay = Duration::from_millis(delay_ms);
                CheckedCommand::Requeue(id, delay.min(self.config.max_req_timeout))
            }
            Command::Touch(id) => {
                in_state(self.state != ClientState::Init)?;
                CheckedCommand::Touch(id)
            }
            Command::Nop => CheckedCommand::Nothing,
            Command::Cls => {
                in_state(self.state == ClientState::Subscribed)?;
                self.state = ClientState::Closing;
                CheckedCommand::StartClose
            }
            Command::Sub(topic, channel) => {
                in_state(self.state == ClientState::Init)?;
                if self.heartbeat.is_none() {
                    let text = "cannot SUB with heartbeats disabled";
                    return Err(CommandError::new(ErrorCode::Invalid, text));
                }
                self.state = ClientState::Subscribed;
                CheckedCommand::Subscribe(Box::new((topic, channel)))
            }
            Command::Identify(body) => {
                in_state(self.state == ClientState::Init)?;
                let (identity, answer) = self.identify(body)?;
                CheckedCommand::Identify(Box::new((identity, answer)))
            }
            Command::Auth(_) => {
                in_state(self.state == ClientState::Init)?;
                return Err(CommandError::new(ErrorCode::AuthDisabled, "AUTH disabled"));
            }
        })
    }

    /// Takes over the client's wishes and makes the answer. Ranges and texts are nsqd's; so is that what
    /// came before the first bad value has been taken over, which nobody can see, as the connection closes.
    fn identify(&mut self, body: &[u8]) -> Result<(Identity, Vec<u8>), CommandError> {
        let bad = |text: String| CommandError::new(ErrorCode::BadBody, format!("IDENTIFY {text}"));
        // serde would also take an array for the fields in their order.
        let is_array = body.trim_ascii_start().starts_with(b"[");
        let request: Option<IdentifyRequest> =
            (!is_array).then(|| serde_json::from_slice(body).ok()).flatten();
        let wish = request.ok_or_else(|| bad("failed to decode JSON body".into()))?;
        let config = Arc::clone(&self.config);

        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let in_range = |value: i64, min: Duration, max: Duration| {
            (ms(min)..=ms(max))
                .contains(&value)
                .then(|| Duration::from_millis(value.unsigned_abs()))
        };
        match wish.heartbeat_interval {
            0 => {}
            -1 => self.heartbeat = None,
            value => {
                let interval = in_range(value, MIN_INTERVAL, config.max_heartbeat_interval)
                    .ok_or_else(|| bad(format!("heartbeat interval ({value}) is invalid")))?;
                self.heartbeat = Some(interval);
            }
        }
        match wish.output_buffer_timeout {
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
        match wish.output_buffer_size {
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
        let sample_rate = u8::try_from(wish.sample_rate)
            .ok()
            .filter(|rate| *rate <= 99)
            .ok_or_else(|| bad(format!("sample rate ({}) is invalid", wish.sample_rate)))?;
        if wish.msg_timeout != 0 {
            self.msg_timeout = in_range(wish.msg_timeout, MIN_INTERVAL, config.max_msg_timeout)
                .ok_or_else(|| bad(format!("msg timeout ({}) is invalid", wish.msg_timeout)))?;
        }

        let identity = Identity {
            client_id: cut(wish.client_id),
            hostname: cut(wish.hostname),
            user_agent: cut(wish.user_agent),
            sample_rate,
            msg_timeout: self.msg_timeout,
        };
        if !wish.feature_negotiation {
            return Ok((identity, OK.to_vec()));
        }
        // Neither TLS nor compression: what is asked for is answered with false, and the client decides.
        let answer = IdentifyResponse {
            max_rdy_count: i64::from(config.max_rdy_count),
            version: NSQD_VERSION.into(),
            max_msg_timeout: ms(config.max_msg_timeout),
            msg_timeout: ms(self.msg_timeout),
            tls_v1: false,
            deflate: false,
            deflate_level: DEFLATE_LEVEL,
            max_deflate_level: DEFLATE_LEVEL,
            snappy: false,
            sample_rate: i64::from(sample_rate),
            auth_required: false,
            output_buffer_size: self.output_buffer_size,
            output_buffer_timeout: ms(self.output_buffer_timeout),
        };
        let answer = serde_json::to_vec(&answer).expect("numbers, flags and one constant text");
        Ok((identity, answer))
    }

    /// Carries all requests out and appends their answers to `out`. `Break`: the last answer is a fatal error; the
    /// requests behind it were dropped, close behind it.
    pub(super) fn apply(
        &self,
        requests: &mut Vec<CheckedCommand>,
        core: &mut Core,
        now: Instant,
        timestamp_ns: i64,
        out: &mut Vec<u8>,
    ) -> ControlFlow<()> {
        let mut requests = requests.drain(..).peekable();
        while let Some(request) = requests.next() {
            let CheckedCommand::Finish(first) = request else {
                self.apply_one(request, core, now, timestamp_ns, out)?;
                continue;
            };
            // By far the most frequent, and in rows.
            let next = || match requests.next_if(|next| matches!(next, CheckedCommand::Finish(_))) {
                Some(CheckedCommand::Finish(message)) => Some(message),
                _ => None,
            };
            let messages = std::iter::once(first).chain(std::iter::from_fn(next));
            core.finish(self.id, messages, |message, why| {
                not_yours(out, ErrorCode::FinFailed, "FIN", message, why);
            });
        }
        ControlFlow::Continue(())
    }

    fn apply_one(
        &self,
        request: CheckedCommand,
        core: &mut Core,
        now: Instant,
        timestamp_ns: i64,
        out: &mut Vec<u8>,
    ) -> ControlFlow<()> {
        let id = self.id;
        let ok = |out: &mut Vec<u8>| Frame::Response(OK).encode(out);
        match request {
            // In rows, by `apply`.
            CheckedCommand::Finish(_) | CheckedCommand::Nothing => {}
            CheckedCommand::Requeue(message, delay) => {
                if let Err(why) = core.requeue(id, message, delay, now) {
                    not_yours(out, ErrorCode::ReqFailed, "REQ", message, why);
                }
            }
            CheckedCommand::Touch(message) => {
                if let Err(why) = core.touch(id, message, now) {
                    not_yours(out, ErrorCode::TouchFailed, "TOUCH", message, why);
                }
            }
            CheckedCommand::Publish(publish) => {
                let Publish { topic, batch, delay, name, code } = *publish;
                match core.publish(Some(id), &topic, batch, delay, now, timestamp_ns) {
                    Ok(()) => ok(out),
                    Err(why) => {
                        refuse(out, code, format!("{name} {why}"));
                        return ControlFlow::Break(());
                    }
                }
            }
            CheckedCommand::Ready(count) => core.set_ready(id, count),
            CheckedCommand::StartClose => {
                core.start_close(id);
                Frame::Response(CLOSE_WAIT).encode(out);
            }
            CheckedCommand::Subscribe(names) => match core.subscribe(id, &names.0, &names.1, now) {
                Ok(()) => ok(out),
                Err(why) => {
                    refuse(out, ErrorCode::SubFailed, format!("SUB {why}"));
                    return ControlFlow::Break(());
                }
            },
            CheckedCommand::Identify(both) => {
                let (identity, answer) = *both;
                core.identify(id, identity);
                Frame::Response(&answer).encode(out);
            }
        }
        ControlFlow::Continue(())
    }
}

/// Appends an error frame.
pub(super) fn encode_error(error: &CommandError, out: &mut Vec<u8>) {
    let text = if error.text.is_empty() { error.code.to_string() } else { error.to_string() };
    Frame::Error(text.as_bytes()).encode(out);
}

fn refuse(out: &mut Vec<u8>, code: ErrorCode, text: String) {
    encode_error(&CommandError::new(code, text), out);
}

fn not_yours(
    out: &mut Vec<u8>,
    code: ErrorCode,
    name: &str,
    message: MessageId,
    why: InFlightError,
) {
    refuse(out, code, format!("{name} {message} failed {why}"));
}

fn publish(
    topic: TopicName,
    batch: NewBatch,
    delay: Duration,
    name: &'static str,
    code: ErrorCode,
) -> CheckedCommand {
    CheckedCommand::Publish(Box::new(Publish { topic, batch, delay, name, code }))
}

/// The first [`IDENTITY_MAX`] characters of `text`.
fn cut(text: String) -> String {
    if text.len() <= IDENTITY_MAX { text } else { text.chars().take(IDENTITY_MAX).collect() }
}
