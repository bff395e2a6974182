//! What the bodies of a site's own look like: where in them a play's fields are (pure). `tree` makes of it what `walk` looks
//! for in one go from the front to the end; `fields` says what was found.

mod fields;
mod play_shape;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

pub(super) use fields::CustomDecoder;
pub use play_shape::PlayShape;
