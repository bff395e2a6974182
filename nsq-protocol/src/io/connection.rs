//! One connection to one nsqd: the typed handshake, the outbox that gathers commands for the writer thread, and
//! the loop of the reader thread. Knows nothing of consumers and producers.
//!
//! ```text
//! Fresh --identify--> Identified --subscribe--> Subscribed
//!                         |                         |
//!                         +--------- start ---------+--> Running: a reader and a writer thread
//! ```
//!
//! The reader blocks on nothing but its socket: it answers heartbeats, and hands frames to a [`FrameSink`] that
//! must not wait. The writer sleeps on the outbox. Either one's end closes the outbox and the socket, and so ends
//! the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::client::config::ConnectionConfig;
use crate::codec::auth::AuthResponse;
use crate::codec::command::{Command, MAGIC};
use crate::codec::compression::{Compression, Compressor, Decompressor};
use crate::codec::error_code::ErrorCode;
use crate::codec::frame::{Frame, FrameDecoder, HEARTBEAT, OK};
use crate::codec::identify::{IdentifyRequest, IdentifyResponse};
use crate::codec::message::MessageRef;
use crate::codec::names::{ChannelName, TopicName};
use crate::error::Error;
use crate::io::transport::{Closer, Direct, ReadHalf, Transport, WriteHalf};
use crate::thread::OwnedThread;

/// Bytes of a frame's size field.
const SIZE_LEN: usize = 4;

/// What an emptied outbox keeps allocated: a window of answers, not the odd 5 MiB MPUB.
const OUTBOX_AT_REST: usize = 256 << 10;

/// With more to send, bytes, it is the writer's: who has so much to say goes on with it while that is copied.
const DIRECT_MAX: usize = 64 << 10;

/// Touches that may wait to be written, bytes. Everything else is bounded by what is in flight or by the
/// producer's window; touches alone can be repeated at will. About 30,000 of them.
const TOUCHES_MAX: usize = 1 << 20;

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
        if response.snappy {
            self.transport.start_compression(Compressor::snappy(), Decompressor::snappy());
            self.upgraded("snappy", "waiting for OK inside snappy from")?;
        } else if response.deflate {
            let level = response.deflate_level.clamp(1, 9) as u8;
            self.transport.start_compression(Compressor::deflate(level), Decompressor::deflate());
            self.upgraded("deflate", "waiting for OK inside deflate from")?;
        } else if self.config.compression != Compression::None {
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
        let limit = self.config.handshake_timeout;
        let deadline = Instant::now() + limit;
        loop {
            let data = match self.frame(doing, deadline, limit)? {
                Ok(data) => data,
                Err((code, detail)) => {
                    let addr = self.transport.addr().to_string();
                    return Err(Error::Refused { addr, command, code, detail });
                }
            };
            if data != HEARTBEAT {
                return Ok(data);
            }
            let mut wire = Vec::new();
            Command::Nop.encode(&mut wire);
            self.transport.write(&wire, self.config.write_timeout)?;
        }
    }

    /// One response or error. Never reads past its end: behind it, the peer may speak TLS or snappy.
    fn frame(
        &mut self,
        doing: &'static str,
        deadline: Instant,
        limit: Duration,
    ) -> Result<Result<Vec<u8>, (ErrorCode, String)>, Error> {
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
            Some(Frame::Response(data)) => Ok(Ok(data.to_vec())),
            Some(Frame::Error(data)) => Ok(Err(ErrorCode::parse(data))),
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
        let addr = transport.addr().clone();
        let direct = transport.direct();
        let (read, write, closer) = transport.split(config.read_timeout(), config.write_timeout)?;
        let outbox = Outbox { direct, ..Outbox::default() };
        let connection = Arc::new(Connection { addr, outbox, closer });
        let name = format!("nsq-write-{}", thread_number % 10_000);
        let writer = OwnedThread::spawn(&name, {
            let connection = connection.clone();
            move || connection.write_commands(write)
        })
        .map_err(|source| Error::Thread { name, source: Arc::new(source) })?;
        Ok(Running { connection, reader: Reader { read, decoder }, writer })
    }
}

impl Subscribed<'_> {
    /// What nsqd agreed to.
    pub(crate) fn response(&self) -> &IdentifyResponse {
        &self.identified.response
    }

    /// Gives the connection to its threads, for consuming.
    pub(crate) fn start(self, thread_number: usize) -> Result<Running, Error> {
        self.identified.start(thread_number)
    }
}

/// A connection whose writer thread runs; the caller runs the reader. Close the connection before `writer` drops.
pub(crate) struct Running {
    pub(crate) connection: Arc<Connection>,
    pub(crate) reader: Reader,
    pub(crate) writer: OwnedThread<()>,
}

/// What other threads see of a running connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) addr: Arc<str>,
    pub(crate) outbox: Outbox,
    closer: Closer,
}

impl Connection {
    /// Ends both threads now; what is not yet written is lost.
    pub(crate) fn close(&self) {
        self.outbox.close(None);
        self.closer.shutdown();
    }

    fn write_commands(&self, mut write: WriteHalf) {
        let mut bytes = Vec::new();
        while self.outbox.take(&mut bytes) {
            if let Err(error) = write.write(&bytes) {
                self.outbox.close(Some(error));
                self.closer.shutdown();
                return;
            }
        }
        write.finish();
    }
}

/// Commands on their way out. Who appends some sends them, as far as the socket takes them at once: that costs less than
/// waking another thread, and they leave sooner. What is left, and all that gathers while somebody sends, is the writer
/// thread's.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<OutboxState>,
    /// Wakes the writer.
    work: Condvar,
    /// Where commands may be sent by who appends them.
    direct: Option<Direct>,
}

#[derive(Debug, Default)]
struct OutboxState {
    /// Bounded by what callers may have pending: see [`TOUCHES_MAX`].
    bytes: Vec<u8>,
    /// Kept apart so that nothing can stand in a heartbeat's way.
    nop: bool,
    /// TLS has something to say for itself.
    flush: bool,
    /// No more is taken; `true` from the start of an orderly end.
    ended: bool,
    /// What is left is not to be written any more.
    aborted: bool,
    /// Who appended commands is sending them.
    sending: bool,
    /// The writer is writing.
    writing: bool,
    failure: Option<Error>,
}

impl Outbox {
    /// Lets `encode` append commands and sends them; false, without calling it, when the connection is gone.
    pub(crate) fn append(&self, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let is_open = self.put(encode);
        self.push();
        is_open
    }

    /// As [`Outbox::append`], under a lock: they are sent by the next [`Outbox::push`], which must follow.
    pub(crate) fn put(&self, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state.lock();
        if !state.ended {
            encode(&mut state.bytes);
        }
        !state.ended
    }

    /// Sends what was put here, or has it sent. Never waits for the socket.
    pub(crate) fn push(&self) {
        let mut state = self.state.lock();
        // Who sends or writes looks again when done. Nothing is there when somebody has sent ours with their own.
        if state.sending || state.writing || state.bytes.is_empty() {
            return;
        }
        let direct = match &self.direct {
            Some(direct) if !state.ended && state.bytes.len() <= DIRECT_MAX => direct,
            _ => {
                drop(state);
                self.work.notify_one();
                return;
            }
        };
        state.sending = true;
        let mut bytes = std::mem::take(&mut state.bytes);
        drop(state);
        let sent = direct.send(&bytes);
        bytes.drain(..sent);
        let mut state = self.state.lock();
        state.sending = false;
        if !state.aborted {
            // In front of what has gathered meanwhile; and the buffer is used again.
            bytes.append(&mut state.bytes);
            state.bytes = bytes;
        }
        let is_done = state.bytes.is_empty() && !state.nop && !state.flush && !state.ended;
        drop(state);
        if !is_done {
            self.work.notify_one();
        }
    }

    /// As [`Outbox::append`], but refuses while too much waits: for commands that the caller may repeat at will.
    pub(crate) fn append_optional(&self, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let full = self.state.lock().bytes.len() > TOUCHES_MAX;
        !full && self.append(encode)
    }

    fn nop(&self) {
        self.state.lock().nop = true;
        self.work.notify_one();
    }

    /// Makes the writer write, be it nothing but what TLS has to say for itself.
    fn flush(&self) {
        self.state.lock().flush = true;
        self.work.notify_one();
    }

    /// Whether commands are still taken.
    pub(crate) fn is_open(&self) -> bool {
        !self.state.lock().ended
    }

    /// No more commands; those that wait are written, then the peer is told that it was all.
    pub(crate) fn finish(&self) {
        self.state.lock().ended = true;
        self.work.notify_one();
    }

    /// No more commands, and those that wait are dropped.
    fn close(&self, failure: Option<Error>) {
        let mut state = self.state.lock();
        state.ended = true;
        state.aborted = true;
        state.bytes = Vec::new();
        if state.failure.is_none() {
            state.failure = failure;
        }
        drop(state);
        self.work.notify_one();
    }

    fn failure(&self) -> Option<Error> {
        self.state.lock().failure.clone()
    }

    /// Waits for commands and swaps them into `bytes`, perhaps none for a flush; false when there will be none.
    fn take(&self, bytes: &mut Vec<u8>) -> bool {
        bytes.clear();
        if bytes.capacity() > OUTBOX_AT_REST {
            *bytes = Vec::new();
        }
        let mut state = self.state.lock();
        state.writing = false;
        while !state.aborted
            && (state.sending
                || (state.bytes.is_empty() && !state.nop && !state.flush && !state.ended))
        {
            self.work.wait(&mut state);
        }
        if state.aborted {
            return false;
        }
        if std::mem::take(&mut state.nop) && state.bytes.is_empty() {
            // Otherwise what follows answers the heartbeat: for nsqd, any command does.
            Command::Nop.encode(&mut state.bytes);
        }
        std::mem::swap(&mut state.bytes, bytes);
        // Every write flushes.
        state.writing = std::mem::take(&mut state.flush) || !bytes.is_empty();
        state.writing
    }
}

/// Where the frames of a connection go. Runs on the reader thread and must not wait for anything.
///
/// An error from any of these closes the connection.
pub(crate) trait FrameSink {
    /// A message was delivered.
    fn message(&mut self, message: MessageRef<'_>) -> Result<(), Error>;
    /// A response other than a heartbeat.
    fn response(&mut self, data: &[u8]) -> Result<(), Error>;
    /// An error frame.
    fn error(&mut self, code: ErrorCode, detail: String) -> Result<(), Error>;
    /// A heartbeat came; it is answered already.
    fn heartbeat(&mut self);
    /// Every frame that one read brought has been handed over.
    fn read_done(&mut self) -> Result<(), Error>;
}

/// The receiving side of a running connection.
pub(crate) struct Reader {
    read: ReadHalf,
    decoder: FrameDecoder,
}

impl Reader {
    /// Reads until the connection ends, and says why it did. The connection is closed then.
    pub(crate) fn run(mut self, connection: &Connection, sink: &mut impl FrameSink) -> Error {
        let ended = loop {
            if let Err(error) = self.read_once(connection, sink) {
                break error;
            }
        };
        // When the writer failed first, its reason is the reason; ours is only the echo.
        let error = connection.outbox.failure().unwrap_or(ended);
        connection.close();
        error
    }

    fn read_once(
        &mut self,
        connection: &Connection,
        sink: &mut impl FrameSink,
    ) -> Result<(), Error> {
        let count = self.read.read(self.decoder.space())?;
        self.decoder.advance(count);
        if self.read.take_flush() {
            connection.outbox.flush();
        }
        // What came before an undecodable frame still counts.
        let decoded = self.hand_over(connection, sink);
        sink.read_done().and(decoded)
    }

    fn hand_over(
        &mut self,
        connection: &Connection,
        sink: &mut impl FrameSink,
    ) -> Result<(), Error> {
        let undecodable = |source| Error::Decode { addr: connection.addr.to_string(), source };
        while let Some(frame) = self.decoder.next_frame().map_err(undecodable)? {
            match frame {
                Frame::Message(message) => sink.message(message)?,
                Frame::Response(data) if data == HEARTBEAT => {
                    connection.outbox.nop();
                    sink.heartbeat();
                }
                Frame::Response(data) => sink.response(data)?,
                Frame::Error(data) => {
                    let (code, detail) = ErrorCode::parse(data);
                    sink.error(code, detail)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream};

    fn push(outbox: &Outbox, command: Command<'_>) -> bool {
        outbox.append(|out| command.encode(out))
    }

    #[test]
    fn what_gathers_goes_out_together_and_answers_the_heartbeat() {
        let (outbox, mut bytes) = (Outbox::default(), Vec::new());
        assert!(push(&outbox, Command::Rdy(1)));
        outbox.nop();
        assert!(push(&outbox, Command::Cls));
        assert!(outbox.take(&mut bytes));
        assert_eq!(bytes, b"RDY 1\nCLS\n");
        outbox.nop();
        assert!(outbox.take(&mut bytes));
        assert_eq!(bytes, b"NOP\n");
    }

    #[test]
    fn a_flush_wakes_the_writer_once_and_also_with_nothing_to_write() {
        let (outbox, mut bytes) = (Outbox::default(), vec![7]);
        outbox.flush();
        assert!(outbox.take(&mut bytes));
        assert_eq!(bytes, b"");
        outbox.flush();
        assert!(push(&outbox, Command::Cls));
        assert!(outbox.take(&mut bytes));
        assert_eq!(bytes, b"CLS\n");
        outbox.finish();
        assert!(!outbox.take(&mut bytes));
    }

    #[test]
    fn an_orderly_end_writes_what_is_left_and_an_abort_does_not() {
        let (outbox, mut bytes) = (Outbox::default(), Vec::new());
        assert!(push(&outbox, Command::Cls));
        outbox.finish();
        assert!(!push(&outbox, Command::Cls));
        assert!(outbox.take(&mut bytes));
        assert!(!outbox.take(&mut bytes));

        let outbox = Outbox::default();
        assert!(push(&outbox, Command::Cls));
        outbox.close(None);
        assert!(!outbox.take(&mut bytes));
        assert!(!outbox.is_open());
    }

    /// Two ends of a connection, the first as commands are sent through it.
    fn connected() -> (Direct, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Direct::new(Arc::new(near.into())), listener.accept().unwrap().0)
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_socket_takes_is_sent_at_once_and_the_rest_in_its_order() {
        let (direct, mut far) = connected();
        let outbox = Outbox { direct: Some(direct), ..Outbox::default() };
        assert!(push(&outbox, Command::Rdy(1)));
        let mut got = [0; 6];
        far.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"RDY 1\n");
        // Until the socket is full, and something is left for the writer.
        let mut sent = 0;
        while outbox.state.lock().bytes.is_empty() {
            assert!(outbox.append(|out| out.extend((0..DIRECT_MAX).map(|n| (n % 251) as u8))));
            sent += 1;
        }
        assert!(push(&outbox, Command::Cls));
        outbox.finish();
        let mut left = Vec::new();
        assert!(outbox.take(&mut left));
        let whole = sent * DIRECT_MAX;
        let mut all = vec![0; whole + 4 - left.len()];
        far.read_exact(&mut all).unwrap();
        all.extend(left);
        let is_whole = (0..whole).all(|n| all[n] == (n % DIRECT_MAX % 251) as u8);
        assert!(is_whole && all.ends_with(b"CLS\n"));
        assert!(!outbox.take(&mut Vec::new()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nothing_is_sent_past_the_writer_and_much_is_left_to_it() {
        let (direct, far) = connected();
        far.set_nonblocking(true).unwrap();
        let nothing_came = || (&far).read(&mut [0; 1]).unwrap_err().kind() == ErrorKind::WouldBlock;
        let outbox = Outbox { direct: Some(direct), ..Outbox::default() };
        assert!(outbox.append(|out| out.resize(DIRECT_MAX + 1, b'x')));
        let mut bytes = Vec::new();
        assert!(outbox.take(&mut bytes));
        assert_eq!(bytes.len(), DIRECT_MAX + 1);
        // The writer has them, and has not said that it is done.
        assert!(push(&outbox, Command::Cls));
        assert!(nothing_came());
        assert!(outbox.take(&mut bytes));
        assert_eq!(bytes, b"CLS\n");
        outbox.close(None);
        assert!(!push(&outbox, Command::Cls) && !outbox.take(&mut bytes));
        assert!(nothing_came());
    }

    #[test]
    fn touches_have_a_limit_and_answers_have_not() {
        let outbox = Outbox::default();
        assert!(outbox.append(|out| out.resize(TOUCHES_MAX + 1, b'x')));
        assert!(!outbox.append_optional(|_| {}));
        assert!(outbox.append(|_| {}));
    }
}
