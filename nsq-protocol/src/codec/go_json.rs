//! JSON as Go writes and reads it (pure).

use serde::{Deserialize, Deserializer};

/// A field that may be `null`: so Go writes an empty list or a value that is not there, and its decoder leaves a field
/// alone that is.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
