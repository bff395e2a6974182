//! Bodies of other shapes, by examples and against serde_json.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use super::super::{BodyDecoder, BodyPart, JsonPointer, Play, PlayField, SitePlayId};
use super::play_shape::PlayShape;
use crate::model::video_id::VideoId;

fn pointer(text: &str) -> JsonPointer {
    text.parse().unwrap()
}

fn nested() -> PlayShape {
    PlayShape {
        video: pointer("/event/video/hashed_id"),
        time: pointer("/event/at"),
        id: Some(pointer("/id")),
        title: Some(pointer("/event/video/title")),
        ..PlayShape::default()
    }
}

/// A play as a body has it: video, time in ms, id, JSON of the title.
type Read = (String, Option<u64>, Option<SitePlayId>, Option<String>);

/// The plays and what is no play, in order; or why there is none.
fn read(shape: &PlayShape, body: &[u8]) -> Result<Vec<Result<Read, String>>, String> {
    let mut parts = Vec::new();
    let mut decoder = BodyDecoder::new(shape);
    let end = decoder.decode(body, |part| {
        parts.push(match part {
            BodyPart::Alone(play) | BodyPart::Element(play) => Ok((
                play.play.video_id.to_string(),
                play.play.enqueued_at_ns.map(|ns| ns / 1_000_000),
                play.id,
                play.title.map(|raw| String::from_utf8_lossy(raw).into_owned()),
            )),
            BodyPart::NoPlay(no_play) => Err(no_play.reason.to_string()),
        });
    });
    match end {
        Ok(()) => Ok(parts),
        Err(reason) => Err(reason.to_string()),
    }
}

#[track_caller]
fn rejects(shape: &PlayShape, body: &str, why: &str) {
    let reason = read(shape, body.as_bytes()).expect_err("none of this shape");
    assert!(reason.contains(why), "{reason} does not say {why:?}");
}

#[test]
fn fields_are_found_wherever_they_are() {
    let body = r#" {"v":2, "event" : {"type":"play","video":{"tags":["a",{}], "title":"Caf\u00e9","hashed_id":"abc123DEF0"},
        "at":1790000000500},"id":77,"more":[[1],{"event":{"video":1}}]} "#;
    let want = (
        "abc123DEF0".to_owned(),
        Some(1_790_000_000_500),
        Some(SitePlayId::of(b"77")),
        Some("\"Caf\\u00e9\"".to_owned()),
    );
    assert_eq!(read(&nested(), body.as_bytes()), Ok(vec![Ok(want)]));
    // A text and a number of the same digits are one id, as of a video.
    assert_eq!(SitePlayId::of(b"77"), SitePlayId::read(b"\"77\"").unwrap());
    let of = |video: &str, body: &str| {
        let shape = PlayShape { video: pointer(video), ..PlayShape::default() };
        let mut parts = read(&shape, body.as_bytes())?;
        assert_eq!(parts.len(), 1);
        parts.remove(0).map(|play| play.0)
    };
    for (video, body) in [
        ("", "\"x\""),
        ("/0", r#"{"0":"x"}"#),
        ("/a/1", r#"{"a":["y","x",{}]}"#),
        ("/a/1", r#"{"a":{"1":"x","01":"y"}}"#),
        ("/a~1b", r#"{"a":1,"a/b":"x"}"#),
        ("/a~1b", r#"{"a\/b":"x"}"#),
        ("/", r#"{"":"x"}"#),
        ("/größe", r#"{"gr\u00f6\u00dfe":"x"}"#),
        ("/a", r#"{"\ud800":1,"a\\":2,"a":"x"}"#),
    ] {
        assert_eq!(of(video, body).as_deref(), Ok("x"), "{video} {body}");
    }
    for (video, body) in [
        ("/a/01", r#"{"a":["y","x"]}"#),
        ("/a/-", r#"{"a":["y"]}"#),
        ("/a/2", r#"{"a":["y","x"]}"#),
        ("/a/b", r#"{"a":"b"}"#),
        ("/A", r#"{"a":"x"}"#),
    ] {
        assert_eq!(of(video, body), Err(format!("nothing is at {video}, --video-field")));
    }
}

#[test]
fn what_is_no_play_is_told_with_its_place() {
    let shape = nested();
    let with = |id: &str, video: &str| {
        format!(r#"{{"id":{id},"event":{{"video":{{"hashed_id":{video}}}}}}}"#)
    };
    assert!(read(&shape, with("\"p1\"", "\"x\"").as_bytes()).is_ok());
    assert!(read(&shape, with("null", "7").as_bytes()).unwrap()[0].as_ref().unwrap().2.is_none());
    let long = format!("\"{}\"", "x".repeat(129));
    for (id, video, why) in [
        ("1", "null", "what is at /event/video/hashed_id, --video-field, is null: a text or"),
        ("1", "1.5", "a whole number has no fraction"),
        ("1", &long, "at most 128 bytes, not 129"),
        ("{}", "1", "what is at /id, --id-field, is {}: a text or a whole number is expected"),
        ("\"\"", "1", "a play's id has at least one character"),
        (&long, "1", "a play's id has at most 128 bytes, not 129"),
        ("1.5", "1", "a whole number has no fraction"),
    ] {
        rejects(&shape, &with(id, video), why);
    }
    rejects(&shape, "{}", "nothing is at /event/video/hashed_id, --video-field");
    rejects(&shape, "7", "nothing is at /event/video/hashed_id");
    rejects(&shape, r#"{"event":{},"event":{}}"#, "twice");
    rejects(&shape, r#"{"event":{"video":{"hashed_id":1,"hashed_i\u0064":1}}}"#, "twice");
    rejects(&shape, "", "EOF");
    rejects(&shape, r#"{"event":{"video":{"hashed_id":"x"}}"#, "line 1 column 36");
    rejects(&shape, r#"{"event":{"video":{"hashed_id":"x"}}}}"#, "trailing characters");
    rejects(&shape, &format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100)), "too deep");
    rejects(&shape, &"[".repeat(100_000), "EOF");
}

#[test]
fn an_array_is_several_plays() {
    let shape = PlayShape { plays: Some(pointer("/batch/plays")), ..nested() };
    let element = |n| format!(r#"{{"id":"p{n}","event":{{"video":{{"hashed_id":"v{n}"}}}}}}"#);
    let elements = format!("{}, {} ,{{}},{}", element(0), element(1), element(2));
    for body in
        [format!("[{elements}]"), format!(r#"{{"a":[],"batch":{{"plays":[ {elements} ]}},"b":1}}"#)]
    {
        let parts = read(&shape, body.as_bytes()).unwrap();
        let videos: Vec<_> =
            parts.iter().map(|part| part.as_ref().map(|play| play.0.as_str()).ok()).collect();
        assert_eq!(videos, [Some("v0"), Some("v1"), None, Some("v2")]);
        let reason = parts[2].as_ref().unwrap_err();
        assert_eq!(reason, "element 2: nothing is at /event/video/hashed_id, --video-field");
    }
    rejects(&shape, "{}", "no array is at /batch/plays, --plays-field");
    rejects(&shape, r#"{"batch":{"plays":{}}}"#, "no array is at /batch/plays");
    rejects(&shape, r#"{"batch":{"plays":[]}}"#, "an array without a play");
    rejects(&shape, &format!("[{elements}"), "EOF");
    rejects(&shape, &format!("[{elements},]"), "line 1");
    let at_top = PlayShape { plays: Some(pointer("")), ..PlayShape::default() };
    rejects(&at_top, r#"{"video_id":"x"}"#, "no array is at the top, --plays-field");
    assert_eq!(read(&at_top, br#"[{"video_id":"x"}]"#).unwrap().len(), 1);
}

/// What the default has besides the pointers is read of other shapes, too, unless the play has an id of its own: those of
/// `produce`, which have none, may stand on one topic with those of a site.
#[test]
fn a_producer_and_its_numbers_are_read_without_an_id() {
    let producer = "7d3f1c52-90ab-4cde-8f01-23456789abcd";
    let body = format!(r#"{{"v":"x","producer":"{producer}","seq":7,"resent":true,"id":"a"}}"#);
    let play = |shape: &PlayShape| {
        let mut play = None::<Play>;
        let mut decoder = BodyDecoder::new(shape);
        let each = |part: BodyPart<'_>| match part {
            BodyPart::Alone(alone) => play = Some(alone.play),
            other => panic!("{other:?}"),
        };
        decoder.decode(body.as_bytes(), each).unwrap();
        play.unwrap()
    };
    let shape = PlayShape { video: pointer("/v"), ..PlayShape::default() };
    let with_identity = play(&shape);
    assert_eq!(with_identity.identity.map(|identity| identity.seq), Some(7));
    assert!(with_identity.resent);
    let by_id = play(&PlayShape { id: Some(pointer("/id")), ..shape.clone() });
    assert_eq!((by_id.identity, by_id.resent), (None, false));
    let has_none = play(&PlayShape { id: Some(pointer("/event/id")), ..shape });
    assert_eq!(has_none, with_identity);
}

#[test]
fn a_time_that_cannot_be_read_is_told_and_the_play_counts() {
    let mut decoder = BodyDecoder::new(&nested());
    let mut plays = 0;
    let body = br#"{"event":{"at":"soon","video":{"hashed_id":"x"}}}"#;
    decoder.decode(body, |_| plays += 1).unwrap();
    let ignored = decoder.take_ignored();
    let time = ignored.of(PlayField::EnqueuedAt);
    assert_eq!((plays, time.count, time.sample.as_deref()), (1, 1, Some("\"soon\"")));
    assert!(decoder.take_ignored().is_empty());
}

/// What serde_json says is at a pointer; `None` also where a key on the way stands twice, as far as that can be seen.
fn at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    value.pointer(pointer)
}

/// The id that a value is, by serde_json.
fn id_of(value: Option<&Value>) -> Option<String> {
    let text = match value? {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        _ => return None,
    };
    VideoId::parse(&text).ok().map(|id| id.to_string())
}

/// JSON as text, each key of an object once.
fn json(depth: u32) -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => select(vec!["\"x\"", "\"y\\u0041\"", "7", "-3", "1.5", "null", "true", "\"\"", "\"a\\nb\"", "\"\\\"\""])
            .prop_map(str::to_owned),
        1 => (1..200usize).prop_map(|len| format!("\"{}\"", "z".repeat(len))),
    ];
    leaf.prop_recursive(depth, 40, 5, |inner| {
        let key = select(vec![
            "a",
            "b",
            "c",
            "0",
            "1",
            "a/b",
            "",
            "\\u0061",
            "long_key_of_many_bytes",
            "ü",
        ]);
        let space = select(vec!["", "", "", " ", "\n\t"]);
        prop_oneof![
            (vec((key, inner.clone()), 0..5), space.clone()).prop_map(|(members, space)| {
                let mut seen = HashSet::new();
                let members = members
                    .into_iter()
                    .filter(|(key, _)| seen.insert(if *key == "\\u0061" { "a" } else { key }));
                let members: Vec<_> = members
                    .map(|(key, value)| format!("{space}\"{key}\"{space}:{space}{value}"))
                    .collect();
                format!("{{{}{space}}}", members.join(","))
            }),
            (vec(inner, 0..4), space).prop_map(|(elements, space)| {
                format!("[{space}{}{space}]", elements.join(&format!("{space},")))
            }),
        ]
    })
}

fn any_pointer() -> impl Strategy<Value = String> {
    let tokens = vec!["a", "b", "c", "0", "1", "a~1b", "", "ü", "long_key_of_many_bytes"];
    vec(select(tokens), 0..4)
        .prop_map(|tokens| tokens.iter().map(|token| format!("/{token}")).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// Of every body: what serde_json has at the pointers is what is read.
    #[test]
    fn serde_json_says_the_same(
        body in json(5),
        video in any_pointer(),
        title in any_pointer(),
        plays in proptest::option::of(any_pointer()),
    ) {
        let shape = PlayShape {
            plays: plays.as_deref().map(pointer),
            video: pointer(&video),
            title: Some(pointer(&title)),
            ..PlayShape::default()
        };
        let value: Value = serde_json::from_str(&body).unwrap();
        let element = |value: &Value| {
            let title = at(value, &title).cloned();
            id_of(at(value, &video)).map(|id| (id, title))
        };
        let array = match (&value, &plays) {
            (Value::Array(elements), _) => Some(Some(elements)),
            (_, Some(plays)) => Some(at(&value, plays).and_then(Value::as_array)),
            (_, None) => None,
        };
        let want = match array {
            None => element(&value).map(|play| vec![Some(play)]),
            Some(elements) => elements
                .filter(|elements| !elements.is_empty())
                .map(|elements| elements.iter().map(element).collect()),
        };
        let got = read(&shape, body.as_bytes()).ok().map(|parts| {
            parts
                .into_iter()
                .map(|part| part.ok().map(|(id, _, _, title)| (id, title.map(|raw| serde_json::from_str(&raw).unwrap()))))
                .collect::<Vec<_>>()
        });
        prop_assert_eq!(got, want, "{}", body);
    }

    /// Whatever is cut or replaced: it is read only where serde_json takes it for JSON.
    #[test]
    fn what_is_no_json_is_no_play(body in json(4), at in any::<proptest::sample::Index>(), byte: u8, cut: bool) {
        let shape = PlayShape { video: pointer("/a"), plays: Some(pointer("/b")), ..PlayShape::default() };
        let mut body = body.into_bytes();
        let at = at.index(body.len());
        if cut { body.truncate(at) } else { body[at] = byte }
        if read(&shape, &body).is_ok() {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok(), "{}", body.escape_ascii());
        }
    }
}
