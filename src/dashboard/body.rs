//! Reads the JSON of a write (pure).

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answer::CallError;
use crate::model::video::MAX_PLAYS;

/// Reads a body that must be one JSON object.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    // serde would also take an array of the fields in their order.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(CallError::bad_request("the body must be one JSON object"));
    }
    serde_json::from_slice(body).or_else(|error| from_loose(body).ok_or(error)).map_err(|error| {
        // The text may quote what was sent: nothing of it may act on a terminal.
        let text: String =
            error.to_string().chars().filter(|character| !character.is_control()).collect();
        CallError::bad_request(format!("the body does not fit: {text}"))
    })
}

/// Reads a body that has whole numbers written as 3.0, which are integers to JSON Schema.
fn from_loose<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    fn whole(value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(whole),
            Value::Object(fields) => fields.values_mut().for_each(whole),
            Value::Number(number) => {
                let whole = number.as_f64().filter(|float| {
                    number.is_f64()
                        && float.fract() == 0.0
                        && (0.0..=MAX_PLAYS as f64).contains(float)
                });
                if let Some(float) = whole {
                    *number = (float as u64).into();
                }
            }
            _ => {}
        }
    }
    let mut value = serde_json::from_slice(body).ok()?;
    whole(&mut value);
    serde_json::from_value(value).ok()
}
