//! Bodies that are gzip'd (pure): they are read into a buffer with a limit.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;

use super::rejection::Rejection;

/// The most that a body may be when it is inflated, in bytes: 16 times the default of `--max-msg-size`. A longer one is no play.
pub(super) const INFLATED_MAX: usize = 16 << 20;

/// A buffer that has grown beyond this is given back behind its body, in bytes.
const KEPT_MAX: usize = 1 << 20;

/// Whether a body is gzip'd: no JSON begins so.
pub(super) fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(&[0x1f, 0x8b])
}

/// Reads a body into `out`, in place of what is there.
///
/// # Errors
/// [`Rejection`]: it is damaged, or too long.
pub(super) fn inflate(body: &[u8], out: &mut Vec<u8>) -> Result<(), Rejection> {
    out.clear();
    out.shrink_to(KEPT_MAX);
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
