//! The play: one view of one video, and how it stands in the body of a message (pure). `body` has what it is and writes it,
//! `decoder` reads it, with `json` and `words` for whatever JSON anyone's producer writes; `reference` has the last word on
//! what is a play.

mod body;
mod decoder;
mod json;
mod reference;
mod rejection;
#[cfg(test)]
mod tests;
mod words;

pub use body::{Play, PlayIdentity};
pub use decoder::PlayDecoder;
pub use rejection::Rejection;
