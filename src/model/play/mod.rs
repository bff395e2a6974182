//! The play: one view of one video, and how it stands in the body of a message (pure). `body` has what it is and writes it,
//! `decoder` reads it, with `json` and `words` for whatever JSON anyone's producer writes; `value` is what an
//! optional field says, `ignored` which could not be read; `reference` has the last word on what is a play. `bodies` reads what
//! messages hold: one play or an array of them, gzip'd or not, of the default shape or of one of a site's own (`shape`).

mod bodies;
mod body;
mod body_play;
mod decoder;
mod gzip;
mod ignored;
mod json;
mod play_id;
mod pointer;
mod reference;
mod rejection;
mod shape;
#[cfg(test)]
mod tests;
mod title;
mod value;
mod words;

pub use bodies::{BodyDecoder, BodyPart};
pub use body::{Play, PlayIdentity};
pub use body_play::{BodyPlay, NoPlay};
pub use decoder::PlayDecoder;
pub use ignored::{IgnoredField, IgnoredFields, PlayField};
pub use play_id::SitePlayId;
pub use pointer::{JsonPointer, NoPointer};
pub use rejection::Rejection;
pub use shape::PlayShape;
pub use title::{PLAY_TITLE_MAX, read_title};
