//! What a call may carry in its path and its query: each parameter is declared once, is read by what is declared, and
//! stands in the OpenAPI document as declared (pure).
//!
//! An id is a UUID in any spelling that people use: with hyphens or without, in upper case, in braces, as a URN; a video's
//! id may be any other text, too. A number
//! is decimal digits, with a minus before them where its range goes below zero.

use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::{CallError, quote};
use crate::http::Request;
use crate::model::unix_time::UnixMs;
use crate::model::video::MAX_PLAYS;
use crate::model::video_id::{NoVideoId, VideoId};

/// A request, and what its path has in the place of the route's parameter.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) request: &'a Request,
    /// Empty where the route has none.
    pub(super) path_value: &'a str,
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Path,
    Query,
}

/// What the OpenAPI document says of a parameter.
pub(super) trait Parameter: Sync {
    fn name(&self) -> &'static str;
    fn about(&self) -> &'static str;
    /// Its JSON Schema.
    fn schema(&self) -> Value;
    fn location(&self) -> Location {
        Location::Query
    }
    fn is_required(&self) -> bool {
        false
    }
}

/// A UUID, which must be there.
pub(super) struct IdParam {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) location: Location,
    /// The refusal, with `{}` for what was sent.
    pub(super) refusal: &'static str,
}

impl IdParam {
    pub(super) fn read(&self, call: Call<'_>) -> Result<Uuid, CallError> {
        let text = match self.location {
            Location::Path => call.path_value,
            Location::Query => call.request.get(self.name).unwrap_or_default(),
        };
        Uuid::try_parse(text)
            .map_err(|_| CallError::bad_request(self.refusal.replace("{}", &quote(text))))
    }
}

impl Parameter for IdParam {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "format": "uuid" })
    }
    fn location(&self) -> Location {
        self.location
    }
    fn is_required(&self) -> bool {
        true
    }
}

/// A video's id, which must be there.
pub(super) struct VideoIdParam {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) location: Location,
}

impl VideoIdParam {
    /// The id; a text that no part has come across is of no video.
    pub(super) fn read(&self, call: Call<'_>) -> Result<VideoId, CallError> {
        let text = match self.location {
            Location::Path => call.path_value,
            Location::Query => call.request.get(self.name).unwrap_or_default(),
        };
        match VideoId::find(text) {
            Ok(Some(id)) => Ok(id),
            Ok(None) => Err(CallError::no_video(quote(text))),
            Err(why) => Err(Self::refusal(text, why)),
        }
    }

    /// The id of the path, which may be one that no part has come across yet.
    pub(super) fn read_new(&self, call: Call<'_>) -> Result<VideoId, CallError> {
        let text = call.path_value;
        VideoId::parse(text).map_err(|why| Self::refusal(text, why))
    }

    fn refusal(text: &str, why: NoVideoId) -> CallError {
        CallError::bad_request(format!("{} is not a video id: {why}", quote(text)))
    }
}

impl Parameter for VideoIdParam {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "minLength": 1, "maxLength": VideoId::MAX_LEN })
    }
    fn location(&self) -> Location {
        self.location
    }
    fn is_required(&self) -> bool {
        true
    }
}

/// A whole number.
pub(super) struct NumberParam {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// The lowest and the highest, both allowed.
    pub(super) range: (i64, i64),
    /// What holds where the call does not say.
    pub(super) default: Option<i64>,
}

impl NumberParam {
    /// What the call says, else the default.
    pub(super) fn read(&self, call: Call<'_>) -> Result<Option<i64>, CallError> {
        let Some(text) = call.request.get(self.name) else { return Ok(self.default) };
        let (min, max) = self.range;
        let number = integer(text, self.range).ok_or_else(|| {
            let (name, sent) = (self.name, quote(text));
            CallError::bad_request(format!(
                "{name} must be a number from {min} to {max}, not {sent}"
            ))
        })?;
        Ok(Some(number))
    }

    /// The same, as a `u32`; the lowest where there is no default.
    pub(super) fn read_u32(&self, call: Call<'_>) -> Result<u32, CallError> {
        let number = self.read(call)?.unwrap_or(self.range.0);
        u32::try_from(number).map_err(|_| CallError::bad_request("the number is out of range"))
    }
}

impl Parameter for NumberParam {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
    fn schema(&self) -> Value {
        let (min, max) = self.range;
        let mut schema = json!({ "type": "integer", "minimum": min, "maximum": max });
        if let Some(default) = self.default {
            schema["default"] = default.into();
        }
        schema
    }
}

/// A moment, in ms since the Unix epoch.
pub(super) struct MomentParam {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
}

/// The moments that a call may tell: not before the epoch, and exact in a browser.
const MOMENTS: (i64, i64) = (0, MAX_PLAYS as i64);

impl MomentParam {
    pub(super) fn read(&self, call: Call<'_>) -> Result<Option<UnixMs>, CallError> {
        let Some(text) = call.request.get(self.name) else { return Ok(None) };
        let ms = integer(text, MOMENTS).ok_or_else(|| {
            let (name, sent) = (self.name, quote(text));
            CallError::bad_request(format!("{name} must be ms since the Unix epoch, not {sent}"))
        })?;
        Ok(Some(UnixMs(ms)))
    }
}

impl Parameter for MomentParam {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
    fn schema(&self) -> Value {
        let (min, max) = MOMENTS;
        json!({ "type": "integer", "minimum": min, "maximum": max, "description": "ms since the Unix epoch" })
    }
}

/// Rising moments, as ms since the Unix epoch with a comma between two; they must be there, and are taken as whole minutes.
pub(super) struct MomentsParam {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// How many there are at least and at most.
    pub(super) count: (usize, usize),
}

impl MomentsParam {
    pub(super) fn read(&self, call: Call<'_>) -> Result<Vec<UnixMs>, CallError> {
        let (name, (least, most)) = (self.name, self.count);
        let text = call.request.get(name).unwrap_or_default();
        let minute = |part: &str| Some(UnixMs(integer(part, MOMENTS)? / 60_000 * 60_000));
        let moments: Option<Vec<UnixMs>> = text.split(',').take(most + 1).map(minute).collect();
        let moments = moments.filter(|moments| (least..=most).contains(&moments.len()));
        moments.filter(|moments| moments.is_sorted_by(|one, next| one < next)).ok_or_else(|| {
            CallError::bad_request(format!(
                "{name} must be {least} to {most} moments in ms since the Unix epoch, each a minute or more behind the one before, with a comma \
                 between two, not {}",
                quote(text)
            ))
        })
    }
}

impl Parameter for MomentsParam {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "pattern": "^[0-9]{1,16}(,[0-9]{1,16})+$", "maxLength": self.count.1 * 17 })
    }
    fn is_required(&self) -> bool {
        true
    }
}

/// One of a few words.
pub(super) struct ChoiceParam<T: 'static> {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Each word and what it means; the first holds where the call does not say.
    pub(super) values: &'static [(&'static str, T)],
    /// The words, as a refusal tells them.
    pub(super) allowed: &'static str,
}

impl<T: Copy> ChoiceParam<T> {
    pub(super) fn read(&self, call: Call<'_>) -> Result<T, CallError> {
        call.request.get(self.name).map_or(Ok(self.values[0].1), |text| self.find(text))
    }

    fn find(&self, text: &str) -> Result<T, CallError> {
        let found = self.values.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let Self { name, allowed, .. } = self;
            CallError::bad_request(format!("{name} must be {allowed}, not {}", quote(text)))
        })
    }

    fn words(&self) -> Vec<&'static str> {
        self.values.iter().map(|(word, _)| *word).collect()
    }
}

impl<T: Copy + Sync> Parameter for ChoiceParam<T> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "enum": self.words(), "default": self.values[0].0 })
    }
}

/// Any of a few words, each as a parameter of its own; all of them where the call names none.
pub(super) struct ChoicesParam<T: 'static>(pub(super) ChoiceParam<T>);

impl<T: Copy> ChoicesParam<T> {
    pub(super) fn read(&self, call: Call<'_>) -> Result<Vec<T>, CallError> {
        let named = call.request.query.iter().filter(|(key, _)| key == self.0.name);
        let found = named.map(|(_, text)| self.0.find(text)).collect::<Result<Vec<_>, _>>()?;
        if found.is_empty() {
            return Ok(self.0.values.iter().map(|(_, value)| *value).collect());
        }
        Ok(found)
    }
}

impl<T: Copy + Sync> Parameter for ChoicesParam<T> {
    fn name(&self) -> &'static str {
        self.0.name
    }
    fn about(&self) -> &'static str {
        self.0.about
    }
    fn schema(&self) -> Value {
        json!({ "type": "array", "items": { "type": "string", "enum": self.0.words() } })
    }
}

/// Text whose rules only its reader knows.
pub(super) struct TextParam {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// The longest, in characters.
    pub(super) max_length: usize,
    /// What it matches, as a regular expression of JSON Schema.
    pub(super) pattern: &'static str,
}

impl TextParam {
    /// What the call says, if it does.
    ///
    /// # Errors
    /// It is longer than the longest.
    pub(super) fn read<'a>(&self, call: Call<'a>) -> Result<Option<&'a str>, CallError> {
        let Some(text) = call.request.get(self.name) else { return Ok(None) };
        let (name, most, length) = (self.name, self.max_length, text.chars().count());
        if length > most {
            let reason = format!("{name} has at most {most} characters, not {length}");
            return Err(CallError::bad_request(reason));
        }
        Ok(Some(text))
    }
}

impl Parameter for TextParam {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "maxLength": self.max_length, "pattern": self.pattern })
    }
}

/// Digits, with a minus before them where `range` goes below zero; `None` if they are none or out of it.
fn integer(text: &str, (min, max): (i64, i64)) -> Option<i64> {
    let digits = text.strip_prefix('-').filter(|_| min < 0).unwrap_or(text);
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_plain)?;
    (min..=max).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, value: &str) -> Request {
        Request { query: vec![(name.to_owned(), value.to_owned())], ..Request::default() }
    }

    #[test]
    fn numbers_are_plain_digits() {
        let range = (-5, 500);
        for (text, want) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("-5", Some(-5)),
            ("500", Some(500)),
            ("501", None),
            ("-6", None),
            ("+5", None),
            ("", None),
            ("-", None),
            ("--5", None),
            ("-+5", None),
            (" 5", None),
            ("5 ", None),
            ("5.0", None),
            ("1e2", None),
            ("0x5", None),
            ("٥", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(integer(text, range), want, "{text:?}");
        }
        assert_eq!(integer("-0", (0, 5)), None);
    }

    #[test]
    fn an_id_is_a_uuid_in_any_spelling() {
        let id =
            IdParam { name: "id", about: "", location: Location::Query, refusal: "{} is none" };
        let in_path = IdParam { location: Location::Path, ..id };
        let want = Uuid::from_u128(0x3fa8_5f64_5717_4562_b3fc_2c96_3f66_afa6);
        for text in [
            "3fa85f64-5717-4562-b3fc-2c963f66afa6",
            "3FA85F64-5717-4562-B3FC-2C963F66AFA6",
            "3fa85f6457174562b3fc2c963f66afa6",
            "{3fa85f64-5717-4562-b3fc-2c963f66afa6}",
            "urn:uuid:3fa85f64-5717-4562-b3fc-2c963f66afa6",
        ] {
            let request = request("id", text);
            let call = Call { request: &request, path_value: text };
            assert_eq!((id.read(call).unwrap(), in_path.read(call).unwrap()), (want, want));
        }
        for text in ["", "3fa85f64", "3fa85f64-5717-4562-b3fc-2c963f66afa6 ", "(x)", "é"] {
            let request = request("id", text);
            let call = Call { request: &request, path_value: text };
            assert!(id.read(call).is_err() && in_path.read(call).is_err(), "{text}");
        }
    }

    #[test]
    fn a_text_is_as_long_as_declared_at_most() {
        let param = TextParam { name: "x", about: "", max_length: 5, pattern: "" };
        let read = |name, value: &str| {
            let request = request(name, value);
            let read = param.read(Call { request: &request, path_value: "" });
            read.map(|text| text.map(str::to_owned)).map_err(|error| error.reason().to_owned())
        };
        assert_eq!((read("y", "a"), read("x", "")), (Ok(None), Ok(Some(String::new()))));
        // Characters, not bytes.
        assert_eq!(read("x", "é猫é猫é"), Ok(Some("é猫é猫é".to_owned())));
        assert_eq!(read("x", "é猫é猫é "), Err("x has at most 5 characters, not 6".to_owned()));
    }

    #[test]
    fn choices_without_a_name_are_all() {
        let choices = ChoicesParam(ChoiceParam {
            name: "x",
            about: "",
            values: &[("a", 1), ("b", 2)],
            allowed: "a or b",
        });
        let read = |name, value| {
            let request = request(name, value);
            choices.read(Call { request: &request, path_value: "" }).ok()
        };
        assert_eq!(read("y", "a"), Some(vec![1, 2]));
        assert_eq!(read("x", "b"), Some(vec![2]));
        assert_eq!(read("x", "c"), None);
    }
}
