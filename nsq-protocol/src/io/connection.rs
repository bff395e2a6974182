//! One connection that stands: its reader and its writer thread. Knows nothing of consumers and producers.
//!
//! The reader blocks on nothing but its socket: it answers heartbeats, and hands frames to a [`FrameSink`] that
//! must not wait. The writer sleeps on the outbox. Either one's end closes the outbox and the socket, and so ends
//! the other.

use std::sync::Arc;

use crate::codec::error_code::ErrorCode;
use crate::codec::frame::{Frame, FrameDecoder, HEARTBEAT};
use crate::codec::message::MessageRef;
use crate::error::Error;
use crate::io::config::ConnectionConfig;
use crate::io::outbox::Outbox;
use crate::io::transport::{Closer, ReadHalf, Transport, WriteHalf};
use crate::thread::Crew;

/// A connection whose writer thread runs; the caller runs the reader.
pub(crate) struct Running {
    pub(crate) connection: Arc<Connection>,
    pub(crate) reader: Reader,
    /// The writer, and where the caller starts one, the reader. Its end closes the connection, which ends both.
    pub(crate) threads: Crew<()>,
}

impl Running {
    /// Starts the writer, `nsq-write-N`.
    pub(super) fn start(
        transport: Transport,
        decoder: FrameDecoder,
        config: &ConnectionConfig,
        thread_number: usize,
    ) -> Result<Self, Error> {
        let addr = transport.addr().clone();
        let outbox = Outbox::new(transport.direct());
        let (read, write, closer) =
            transport.split(config.silence_limit(), config.write_timeout)?;
        let connection = Arc::new(Connection { addr, outbox, closer });
        let mut threads = Crew::new({
            let connection = connection.clone();
            move || connection.close()
        });
        let name = format!("nsq-write-{}", thread_number % 10_000);
        let writing = {
            let connection = connection.clone();
            move || connection.write_commands(write)
        };
        threads.spawn(&name, writing).map_err(Error::thread(&name))?;
        Ok(Self { connection, reader: Reader { read, decoder }, threads })
    }
}

/// What other threads see of a running connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) addr: Arc<str>,
    pub(crate) outbox: Outbox,
    closer: Closer,
}

impl Connection {
    /// One that leads nowhere: what would be sent stays in its outbox.
    #[cfg(feature = "test-util")]
    pub(crate) fn detached(addr: &str) -> Self {
        Self { addr: addr.into(), outbox: Outbox::new(None), closer: Closer::of_nothing() }
    }

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
