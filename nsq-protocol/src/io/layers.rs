//! What lies between a connection's socket and its frames or commands: TLS and compression, without IO. The client and the
//! broker of the same repository have it in common.
//!
//! What is encrypted or compressed passes in pieces, so that a connection keeps a few hundred KiB, however large the message.

use std::sync::Arc;

#[cfg(any(feature = "snappy", feature = "deflate"))]
use crate::codec::compression::Compression;
use crate::codec::compression::{Compressor, Decompressor, PACK_MAX};
use crate::error::Error;
use crate::io::tls::{Decrypted, TlsReader, TlsWriter};

/// What is compressed and encrypted at a time, bytes.
const PIECE: usize = PACK_MAX;

/// What received bytes pass through.
#[derive(Default)]
pub struct Inbound {
    tls: Option<TlsReader>,
    decompressor: Option<Decompressor>,
}

impl Inbound {
    /// Gives decoded bytes, taking new ones by `fetch` only when none are left that can be decoded. 0 when
    /// [`Inbound::take_flush`] must be asked before more can be waited for.
    ///
    /// # Errors
    /// Those of `fetch`, behind which it can be called again, and what is wrong with the bytes, behind which it cannot.
    pub fn read<E: From<Error>>(
        &mut self,
        addr: &str,
        out: &mut [u8],
        mut fetch: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let Some(decompressor) = &mut self.decompressor else {
            return decrypt(&mut self.tls, addr, out, &mut fetch);
        };
        loop {
            let failed = |source| Error::Decompress { addr: addr.to_owned(), source };
            let count = decompressor.read(out).map_err(failed)?;
            if count > 0 {
                return Ok(count);
            }
            let count = decrypt(&mut self.tls, addr, decompressor.space(), &mut fetch)?;
            if count == 0 {
                return Ok(0);
            }
            decompressor.advance(count);
        }
    }

    /// Whether what was read calls for an [`Outbound::write`], be it of nothing; once.
    pub fn take_flush(&mut self) -> bool {
        self.tls.as_mut().is_some_and(TlsReader::take_flush)
    }
}

/// As [`Inbound::read`], below the compression.
fn decrypt<E: From<Error>>(
    tls: &mut Option<TlsReader>,
    addr: &str,
    out: &mut [u8],
    fetch: &mut impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<usize, E> {
    let Some(tls) = tls else { return fetch(out) };
    loop {
        match tls.read(out)? {
            Decrypted::Bytes(count) => return Ok(count),
            Decrypted::Closed => return Err(Error::Closed { addr: addr.to_owned() }.into()),
            Decrypted::Starved if tls.wants_flush() => return Ok(0),
            Decrypted::Starved => {
                let count = fetch(tls.space())?;
                tls.advance(count);
            }
        }
    }
}

/// What bytes to be sent pass through.
#[derive(Default)]
pub struct Outbound {
    tls: Option<TlsWriter>,
    compressor: Option<Compressor>,
}

impl Outbound {
    /// Whether nothing is encrypted or compressed.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && self.compressor.is_none()
    }

    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// What TLS has agreed on; `None` where nothing is encrypted.
    #[cfg(feature = "tls")]
    pub fn with_tls<R>(&self, ask: impl FnOnce(&rustls::Connection) -> R) -> Option<R> {
        Some(self.tls.as_ref()?.with_session(ask))
    }

    /// Hands `bytes` to `emit` as they go over the wire, and behind them nothing is left here. Without `bytes`,
    /// only what TLS has to say for itself.
    ///
    /// # Errors
    /// Those of `emit`, and what TLS or the compressor refuse. It cannot be used any more.
    pub fn write<E: From<Error>>(
        &mut self,
        addr: &str,
        bytes: &[u8],
        mut emit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.is_plain() {
            return emit(bytes);
        }
        let mut rest = bytes;
        loop {
            let (mut piece, behind) = rest.split_at(rest.len().min(PIECE));
            rest = behind;
            if let (Some(compressor), false) = (&mut self.compressor, piece.is_empty()) {
                let failed = |source| Error::Io {
                    addr: addr.to_owned(),
                    doing: "compressing for",
                    source: Arc::new(source),
                };
                piece = compressor.pack(piece, rest.is_empty()).map_err(failed)?;
            }
            if let Some(tls) = &mut self.tls {
                piece = tls.encrypt(piece)?;
            }
            emit(piece)?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Hands the last words of TLS to `emit`: that no more will come.
    ///
    /// # Errors
    /// As [`Outbound::write`].
    pub fn finish<E: From<Error>>(
        &mut self,
        emit: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.tls.as_mut().map_or(Ok(()), |tls| emit(tls.close()?))
    }
}

/// Agrees with the peer on keys; what follows is encrypted. The peer is told also of a failure.
///
/// # Errors
/// Those of `fetch` and `emit`, and what is wrong with what came.
pub fn start_tls<E: From<Error>>(
    inbound: &mut Inbound,
    outbound: &mut Outbound,
    (mut reader, mut writer): (TlsReader, TlsWriter),
    mut fetch: impl FnMut(&mut [u8]) -> Result<usize, E>,
    mut emit: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let done = reader.shake_hands();
        // Also when it failed: the alert tells the peer's log why.
        let flushed = writer.encrypt(b"").map_err(E::from).and_then(&mut emit);
        if done? {
            flushed?;
            break;
        }
        flushed?;
        if !reader.has_input() {
            let count = fetch(reader.space())?;
            reader.advance(count);
        }
    }
    (inbound.tls, outbound.tls) = (Some(reader), Some(writer));
    Ok(())
}

/// What follows is compressed, each way on its own; with [`Compression::None`] nothing changes.
#[cfg(any(feature = "snappy", feature = "deflate"))]
pub fn start_compression(inbound: &mut Inbound, outbound: &mut Outbound, compression: Compression) {
    (outbound.compressor, inbound.decompressor) = match compression {
        Compression::None => return,
        #[cfg(feature = "snappy")]
        Compression::Snappy => (Some(Compressor::snappy()), Some(Decompressor::snappy())),
        #[cfg(feature = "deflate")]
        Compression::Deflate { level } => {
            (Some(Compressor::deflate(level)), Some(Decompressor::deflate()))
        }
    };
}
