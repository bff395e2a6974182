//! One connection's conversation: what its commands do and what it is answered. Pure, but for an authorization server, which
//! reading a command may ask where there is one.
//!
//! Two steps, because the core is locked for the second only. [`Session::read`] checks a command against the
//! state, copies its body, and makes a [`CheckedCommand`]; [`Session::apply`] carries the request out and writes the
//! answer. All requests of one read of the socket are applied under one lock.
//!
//! ```text
//! INIT --SUB--> SUBSCRIBED --CLS--> CLOSING
//! ```

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nsq_protocol::{
    CLOSE_WAIT, ChannelName, Command, CommandError, CommandHead, ErrorCode, Frame, MessageId, OK,
    TopicName,
};

use super::auth::{AuthFacts, ClientAuth, check_secret};
use super::config::{BrokerConfig, TlsRequired};
use super::core::{ClientId, Core, Identity, InFlightError, NewBatch};
use super::identify::{Negotiated, Upgrade};

/// The largest IDENTIFY of a client that may do nothing else yet, in bytes: anybody can send it, and without heartbeats take any
/// time for it. nsqd takes one as large as an MPUB.
const STRANGER_IDENTIFY_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientState {
    Init,
    Subscribed,
    Closing,
}

/// A checked command that owns its bytes.
pub(super) enum CheckedCommand {
    Identify(Box<(Identity, Vec<u8>)>),
    Authenticate(Box<(AuthFacts, Vec<u8>)>),
    Subscribe(Box<(TopicName, ChannelName)>),
    Publish(Box<Publish>),
    Ready(u32),
    Finish(MessageId),
    Requeue(MessageId, Duration),
    Touch(MessageId),
    StartClose,
    Nothing,
}

impl CheckedCommand {
    /// The topic that it creates, unless it is there.
    pub(super) fn topic(&self) -> Option<&TopicName> {
        match self {
            Self::Publish(publish) => Some(&publish.topic),
            Self::Subscribe(names) => Some(&names.0),
            _ => None,
        }
    }
}

/// A PUB, MPUB or DPUB.
pub(super) struct Publish {
    pub(super) topic: TopicName,
    pub(super) batch: NewBatch,
    pub(super) delay: Duration,
    pub(super) name: &'static str,
    pub(super) code: ErrorCode,
}

/// One connection's conversation.
pub(super) struct Session {
    id: ClientId,
    config: Arc<BrokerConfig>,
    state: ClientState,
    negotiated: Negotiated,
    /// Nothing but IDENTIFY is taken before TLS.
    needs_tls: bool,
    /// Where there are authorization servers.
    auth: Option<Box<ClientAuth>>,
}

impl Session {
    /// Whose it is.
    pub(super) fn id(&self) -> ClientId {
        self.id
    }

    /// A connection from there that has sent its magic.
    pub(super) fn new(id: ClientId, remote_ip: IpAddr, config: Arc<BrokerConfig>) -> Self {
        let needs_tls = config.tls_required != TlsRequired::No;
        let negotiated = Negotiated::new(&config);
        let auth = config.auth.clone().map(|servers| Box::new(ClientAuth::new(servers, remote_ip)));
        Self { id, state: ClientState::Init, negotiated, needs_tls, auth, config }
    }

    /// How often the client gets a heartbeat; twice that long it may be silent.
    pub(super) fn heartbeat(&self) -> Option<Duration> {
        self.negotiated.heartbeat
    }

    /// Whether the connection is a consumer.
    pub(super) fn is_subscribed(&self) -> bool {
        self.state != ClientState::Init
    }

    /// Whether what comes next from the client passes through something that is not there yet: nothing may be decoded before
    /// [`Session::take_upgrade`] was asked and its answer done.
    pub(super) fn wants_upgrade(&self) -> bool {
        self.negotiated.wants_upgrade()
    }

    /// What is to be done behind the answer to IDENTIFY.
    pub(super) fn take_upgrade(&mut self) -> Option<Upgrade> {
        self.negotiated.take_upgrade()
    }

    /// What comes from now on is encrypted, from a client with that certificate.
    pub(super) fn set_encrypted(&mut self, certificate: Option<&[u8]>) {
        self.needs_tls = false;
        if let Some(auth) = &mut self.auth {
            auth.set_encrypted(certificate);
        }
    }

    /// Whether commands are refused for who sends them, or how: if so, their heads must be checked.
    pub(super) fn is_guarded(&self) -> bool {
        self.needs_tls || self.auth.is_some()
    }

    /// Whether an authorization server may have to be asked before a command is taken: see [`asks`].
    pub(super) fn may_ask(&self) -> bool {
        self.auth.as_ref().is_some_and(|auth| auth.may_ask())
    }

    /// Checks a command whose body is still under way or, where `is_bad`, cannot be taken: what is refused is not kept until it is
    /// whole. The error is fatal.
    pub(super) fn check_head(
        &mut self,
        head: &CommandHead,
        is_bad: bool,
    ) -> Result<(), CommandError> {
        self.check_tls(&head.command)?;
        // As nsqd, which reads any body but an MPUB's before it looks who sends it.
        if !is_bad || matches!(head.command, Command::Mpub(..)) {
            self.check_auth(&head.command)?;
        }
        match head.body_size.and_then(|size| usize::try_from(size).ok()) {
            Some(size) if !is_bad => self.check_size(&head.command, size),
            _ => Ok(()),
        }
    }

    /// Checks a command. The error is fatal: answer it and close.
    pub(super) fn read(&mut self, command: Command<'_>) -> Result<CheckedCommand, CommandError> {
        let in_state = |allowed: bool| {
            let text = || format!("cannot {} in current state", command.name());
            if allowed { Ok(()) } else { Err(CommandError::new(ErrorCode::Invalid, text())) }
        };
        self.check_tls(&command)?;
        self.check_auth(&command)?;
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
            Command::Dpub(topic, delay_ms, body) => self.publish_deferred(topic, delay_ms, body)?,
            Command::Rdy(count) => {
                // After CLS it is ignored without a word.
                if self.state == ClientState::Closing {
                    return Ok(CheckedCommand::Nothing);
                }
                in_state(self.state == ClientState::Subscribed)?;
                CheckedCommand::Ready(self.ready_count(count)?)
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
                self.subscribe(topic, channel)?
            }
            Command::Identify(body) => {
                in_state(self.state == ClientState::Init)?;
                self.check_size(&command, body.len())?;
                let (identity, answer) = self.negotiated.identify(&self.config, body)?;
                CheckedCommand::Identify(Box::new((identity, answer)))
            }
            Command::Auth(secret) => {
                in_state(self.state == ClientState::Init)?;
                self.authenticate(secret)?
            }
        })
    }

    /// Asks what the secret allows.
    fn authenticate(&mut self, secret: &[u8]) -> Result<CheckedCommand, CommandError> {
        let Some(auth) = &mut self.auth else {
            return Err(CommandError::new(ErrorCode::AuthDisabled, "AUTH disabled"));
        };
        Ok(CheckedCommand::Authenticate(Box::new(auth.authenticate(secret)?)))
    }

    /// Whether the client may do that, where there are authorization servers.
    fn check_auth(&mut self, command: &Command<'_>) -> Result<(), CommandError> {
        let Some(auth) = &mut self.auth else { return Ok(()) };
        let (topic, channel) = match command {
            Command::Pub(topic, _) | Command::Mpub(topic, _) | Command::Dpub(topic, ..) => {
                (topic, "")
            }
            // In another state, it is refused for that.
            Command::Sub(topic, channel) if self.state == ClientState::Init => {
                (topic, channel.as_str())
            }
            _ => return Ok(()),
        };
        auth.check(command.name(), topic.as_str(), channel)
    }

    fn check_tls(&self, command: &Command<'_>) -> Result<(), CommandError> {
        if !self.needs_tls || matches!(command, Command::Identify(_)) {
            return Ok(());
        }
        let text = format!("cannot {} in current state (TLS required)", command.name());
        Err(CommandError::new(ErrorCode::Invalid, text))
    }

    /// Whether the bodies of those who may do nothing yet are as small as they must be.
    fn check_size(&self, command: &Command<'_>, size: usize) -> Result<(), CommandError> {
        let is_unknown = self.auth.as_ref().is_some_and(|auth| !auth.is_known());
        match command {
            Command::Identify(_)
                if (self.needs_tls || is_unknown) && size > STRANGER_IDENTIFY_MAX =>
            {
                let text = format!("IDENTIFY body too big {size} > {STRANGER_IDENTIFY_MAX}");
                Err(CommandError::new(ErrorCode::BadBody, text))
            }
            Command::Auth(_) if is_unknown => check_secret(size),
            _ => Ok(()),
        }
    }

    /// Never inlined, as [`publish`].
    #[inline(never)]
    fn subscribe(
        &mut self,
        topic: TopicName,
        channel: ChannelName,
    ) -> Result<CheckedCommand, CommandError> {
        if self.negotiated.heartbeat.is_none() {
            let text = "cannot SUB with heartbeats disabled";
            return Err(CommandError::new(ErrorCode::Invalid, text));
        }
        self.state = ClientState::Subscribed;
        Ok(CheckedCommand::Subscribe(Box::new((topic, channel))))
    }

    fn publish_deferred(
        &self,
        topic: TopicName,
        delay_ms: u64,
        body: &[u8],
    ) -> Result<CheckedCommand, CommandError> {
        let max = self.config.max_req_timeout;
        let delay = Duration::from_millis(delay_ms);
        if delay > max {
            let max = max.as_millis();
            let text = format!("DPUB timeout {delay_ms} out of range 0-{max}");
            return Err(CommandError::new(ErrorCode::Invalid, text));
        }
        Ok(publish(topic, NewBatch::one(body), delay, "DPUB", ErrorCode::DpubFailed))
    }

    fn ready_count(&self, count: u64) -> Result<u32, CommandError> {
        let max = self.config.max_rdy_count;
        u32::try_from(count).ok().filter(|count| *count <= max).ok_or_else(|| {
            let text = format!("RDY count {count} out of range 0-{max}");
            CommandError::new(ErrorCode::Invalid, text)
        })
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
            core.finish(self.id, timestamp_ns, messages, |message, why| {
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
            CheckedCommand::Authenticate(both) => {
                let (facts, answer) = *both;
                core.authenticate(id, facts);
                Frame::Response(&answer).encode(out);
            }
            CheckedCommand::Identify(both) => {
                let (identity, answer) = *both;
                core.identify(id, identity);
                Frame::Response(&answer).encode(out);
            }
        }
        ControlFlow::Continue(())
    }
}

/// Whether that is a command for which an authorization server is asked.
pub(super) fn asks(command: &Command<'_>) -> bool {
    use Command::{Auth, Dpub, Mpub, Pub, Sub};
    matches!(command, Auth(_) | Pub(..) | Mpub(..) | Dpub(..) | Sub(..))
}

/// Appends an error frame.
pub(super) fn encode_error(error: &CommandError, out: &mut Vec<u8>) {
    let text = if error.text.is_empty() { error.code.to_string() } else { error.to_string() };
    Frame::Error(text.as_bytes()).encode(out);
}

/// Appends the error frame of what is refused.
pub(super) fn refuse(out: &mut Vec<u8>, code: ErrorCode, text: String) {
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

/// Never inlined: the caller's frame lies under the deepest that a reader calls, which is IDENTIFY's JSON.
#[inline(never)]
fn publish(
    topic: TopicName,
    batch: NewBatch,
    delay: Duration,
    name: &'static str,
    code: ErrorCode,
) -> CheckedCommand {
    CheckedCommand::Publish(Box::new(Publish { topic, batch, delay, name, code }))
}
