//! TLS under the HTTP client, as a [`TlsConfig`] says. Runs on the thread that makes the request.
//!
//! `ureq`'s own TLS knows neither a server name nor an oldest version, and reads its authorities once; with this one a
//! `TlsConfig` means the same for nsqd's TCP port and its HTTPS port. A connection is verified before a byte of a request
//! goes over it.

use std::fmt;
use std::io::{self, Read, Write};

use rustls::{ClientConnection, StreamOwned};
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

use crate::io::tls_config::TlsConfig;
use crate::io::tls_fault::TlsFault;

/// Encrypts what goes to an address that begins with `https://`.
#[derive(Debug)]
pub(crate) struct TlsConnector(pub(crate) TlsConfig);

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default();
        let refused = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let mut session = self.0.connection(host).map_err(refused)?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(left_to_connect(details));
        session.complete_io(&mut socket)?;
        let stream = StreamOwned::new(session, socket);
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream })))
    }
}

/// The connection's time, without what the steps before this one took of it.
fn left_to_connect(details: &ConnectionDetails<'_>) -> NextTimeout {
    let mut timeout = details.timeout;
    let now = (details.current_time)();
    if let (Duration::Exact(all), Instant::Exact(begun), Instant::Exact(now)) =
        (timeout.after, details.now, now)
    {
        timeout.after = Duration::Exact(all.saturating_sub(now.saturating_duration_since(begun)));
    }
    timeout
}

/// An encrypted connection of the HTTP client.
pub(crate) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(self.stream.flush()?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let count = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsTransport({:?})", self.stream.sock.get_ref())
    }
}

/// What is wrong with the TLS of a call that failed; `None` where it failed otherwise.
pub fn tls_fault(error: &ureq::Error) -> Option<TlsFault> {
    let ureq::Error::Io(error) = error else { return None };
    error.get_ref()?.downcast_ref::<rustls::Error>().map(TlsFault::of)
}
