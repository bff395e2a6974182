//! The play: one view of one video, and how it stands in the body of a message (pure). `body` has what it is and writes it,
//! `decoder` reads it, with `json` and `words` for whatever JSON anyone's producer writes; `value` is what an
//! optional field says, `ignored` which could not be read; `reference` has the last word on what is a play.

mod body;
mod decoder;
mod ignored;
mod json;
mod reference;
mod rejection;
#[cfg(test)]
mod tests;
mod value;
mod words;

pub use body::{Play, PlayIdentity};
pub use decoder::PlayDecoder;
pub use ignored::{IgnoredField, IgnoredFields, PlayField};
pub use rejection::Rejection;
