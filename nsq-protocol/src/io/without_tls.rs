//! What stands in the place of TLS where the feature `tls` is off: nothing is encrypted, and what asks for it is refused.

use crate::error::Error;

/// The error of what needs TLS.
fn off(what: &str) -> Error {
    Error::Config { what: format!("{what}: nsq-protocol is built without its feature `tls`") }
}

/// In the place of the settings.
pub(crate) mod tls_config {
    pub(crate) use NoTlsConfig as TlsConfig;

    use super::{Error, off};

    /// Nothing can be set.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct NoTlsConfig;

    impl NoTlsConfig {
        pub(crate) fn new() -> Self {
            Self
        }

        /// Asked where something is to be encrypted.
        pub(crate) fn check(&self) -> Result<(), Error> {
            Err(off("TLS is asked for"))
        }
    }
}

/// In the place of sessions, of which there are none.
pub(crate) mod tls {
    pub(crate) use NoTlsReader as TlsReader;
    pub(crate) use NoTlsWriter as TlsWriter;
    pub(crate) use NothingDecrypted as Decrypted;

    use super::tls_config::TlsConfig;
    use super::{Error, off};

    #[allow(dead_code, reason = "there is no session that decrypts")]
    pub(crate) enum NothingDecrypted {
        Bytes(usize),
        Starved,
        Closed,
    }

    pub(crate) enum NoTlsReader {}

    pub(crate) enum NoTlsWriter {}

    pub(crate) fn session(_: &TlsConfig, addr: &str) -> Result<(TlsReader, TlsWriter), Error> {
        Err(off(addr))
    }

    impl NoTlsReader {
        pub(crate) fn space(&mut self) -> &mut [u8] {
            match *self {}
        }

        pub(crate) fn advance(&mut self, _: usize) {
            match *self {}
        }

        pub(crate) fn read(&mut self, _: &mut [u8]) -> Result<Decrypted, Error> {
            match *self {}
        }

        pub(crate) fn shake_hands(&mut self) -> Result<bool, Error> {
            match *self {}
        }

        pub(crate) fn has_input(&self) -> bool {
            match *self {}
        }

        pub(crate) fn wants_flush(&self) -> bool {
            match *self {}
        }

        pub(crate) fn take_flush(&mut self) -> bool {
            match *self {}
        }
    }

    impl NoTlsWriter {
        pub(crate) fn encrypt(&mut self, _: &[u8]) -> Result<&[u8], Error> {
            match *self {}
        }

        pub(crate) fn close(&mut self) -> Result<&[u8], Error> {
            match *self {}
        }
    }
}

/// In the place of TLS under the HTTP client.
#[cfg(feature = "http")]
pub(crate) mod http_tls {
    pub(crate) use NoTlsConnector as TlsConnector;
    use std::io;

    use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

    use super::off;
    use super::tls_config::TlsConfig;
    use crate::io::tls_fault::TlsFault;

    /// Refuses an address that begins with `https://`, before anything is sent to it.
    #[derive(Debug)]
    pub(crate) struct NoTlsConnector(
        #[allow(dead_code, reason = "as with TLS")] pub(crate) TlsConfig,
    );

    impl<In: Transport> Connector<In> for NoTlsConnector {
        type Out = In;

        fn connect(
            &self,
            details: &ConnectionDetails<'_>,
            chained: Option<In>,
        ) -> Result<Option<In>, ureq::Error> {
            if details.needs_tls() {
                let error = off("the address begins with https://");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, error).into());
            }
            Ok(chained)
        }
    }

    pub(crate) fn tls_fault(_: &ureq::Error) -> Option<TlsFault> {
        None
    }
}
