//! Bodies that are gzip'd (pure): they are read into a buffer with a limit.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;

use super::rejection::Rejection;

/// The most that a body may be when it is inflated, in bytes: 16 times the default of `--max-msg-size`. A longer one is no play.
pub(super) const INFLATED_MAX: usize = 16 << 20;

/// A buffer that has grown beyond this is given back behind its body, in bytes.
pub(super) const KEPT_MAX: usize = 1 << 20;

/// Whether a body is gzip'd: no JSON begins so.
pub(super) fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(&[0x1f, 0x8b])
}

/// Gives `read` what a body holds, which is in `buffer` meanwhile.
///
/// # Errors
/// [`Rejection`]: it is damaged, or too long; or `read`'s.
pub(super) fn read_inflated(
    body: &[u8],
    buffer: &mut Vec<u8>,
    read: impl FnOnce(&[u8]) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    let done = inflate(body, buffer).and_then(|()| read(buffer));
    buffer.clear();
    buffer.shrink_to(KEPT_MAX);
    done
}

/// Appends what a body holds, or some of it where that is too long.
fn inflate(body: &[u8], out: &mut Vec<u8>) -> Result<(), Rejection> {
    let mut inflated = MultiGzDecoder::new(body).take(INFLATED_MAX as u64 + 1);
    inflated
        .read_to_end(out)
        .map_err(|error| Rejection::new(format_args!("the gzip'd body is damaged: {error}")))?;
    if out.len() > INFLATED_MAX {
        return Err(Rejection::new(format_args!(
            "the gzip'd body is longer than {INFLATED_MAX} bytes"
        )));
    }
    Ok(())
}
