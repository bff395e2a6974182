//! What is a play and what is none, by examples and against serde_json.

mod fields;
mod ids;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use uuid::Uuid;

use super::value::EARLIEST_NS;
use super::{IgnoredFields, Play, PlayDecoder, PlayField, PlayIdentity, Rejection};
use crate::model::video_id::VideoId;

const VIDEO: &str = "0b9e9f0e-6b07-4c12-8a70-6a8f6f6c2f11";
const PRODUCER: &str = "7d3f1c52-90ab-4cde-8f01-23456789abcd";

/// Decodes it, and checks that serde_json says the same, by a decoder that knows a producer already, too.
#[track_caller]
fn decode_all(body: &[u8]) -> Result<(Play, IgnoredFields), Rejection> {
    let by_serde = Play::decode_by_serde(body);
    let play = by_serde.clone().map(|(play, _)| play);
    let shown = body[..body.len().min(300)].escape_ascii();
    assert_eq!(Play::decode(body), play, "{shown}");
    let mut decoder = PlayDecoder::default();
    assert_eq!(decoder.decode(body), play, "{shown}");
    let ignored = by_serde.as_ref().map(|(_, ignored)| ignored.clone()).unwrap_or_default();
    assert_eq!(decoder.clone().take_ignored(), ignored, "{shown}");
    assert_eq!(decoder.decode(body), play, "known by now: {shown}");
    let other = format!(r#"{{"video_id":"{VIDEO}","producer":"{PRODUCER}","seq":1}}"#);
    assert!(decoder.scan(other.as_bytes()).is_some());
    assert_eq!(decoder.decode(body), play, "another known: {shown}");
    let mut three = ignored.clone();
    (0..2).for_each(|_| three.merge(ignored.clone()));
    assert_eq!(decoder.take_ignored(), three, "{shown}");
    by_serde
}

#[track_caller]
fn decode(body: &[u8]) -> Result<Play, Rejection> {
    decode_all(body).map(|(play, _)| play)
}

#[track_caller]
fn accepts(body: impl AsRef<[u8]>) -> Play {
    let body = body.as_ref();
    decode(body).unwrap_or_else(|reason| panic!("{}: {reason}", body.escape_ascii()))
}

#[track_caller]
fn rejects(body: impl AsRef<[u8]>, reason: &str) {
    let got = decode(body.as_ref()).expect_err("no play");
    assert!(got.as_str().contains(reason), "{got} does not say {reason:?}");
    assert!(got.as_str().chars().count() <= Rejection::MAX_LEN);
    assert!(!got.as_str().contains(['\n', '\x1b']));
}

fn plain() -> Play {
    let video_id = VIDEO.parse().unwrap();
    Play { video_id, enqueued_at_ns: None, identity: None, resent: false }
}

#[test]
fn a_video_id_is_enough() {
    let play = plain();
    assert_eq!(accepts(format!(r#"{{"video_id":"{VIDEO}"}}"#)), play);
    assert_eq!(
        accepts(format!(r#" {{"more":[1,{{}}],"video_id":"{VIDEO}","enqueued_at":null}} "#)),
        play
    );
    // Half an identity identifies nothing.
    assert_eq!(accepts(format!(r#"{{"video_id":"{VIDEO}","seq":3}}"#)), play);
    assert_eq!(accepts(format!(r#"{{"video_id":"{VIDEO}","producer":"{PRODUCER}"}}"#)), play);
    assert_eq!(
        accepts(format!(r#"{{"seq":3,"producer":null,"video_id":"{VIDEO}","resent":false}}"#)),
        play
    );
}

#[test]
fn a_uuid_is_read_in_all_its_forms() {
    let play = plain();
    let same: Uuid = VIDEO.parse().unwrap();
    let simple = VIDEO.replace('-', "");
    let forms = [
        VIDEO.to_uppercase(),
        simple.clone(),
        format!("{{{VIDEO}}}"),
        format!("urn:uuid:{VIDEO}"),
        format!("URN:UUID:{VIDEO}"),
        format!("\\u0030{}", &VIDEO[1..]),
    ];
    for form in forms {
        assert_eq!(accepts(format!(r#"{{"video_id":"{form}"}}"#)), play);
        // With a quote where the hyphenated form would have its own.
        for behind in ["", r#","a":1"#, r#","abc":1"#, r#","abcdefghijk":"""#] {
            let body = format!(r#"{{"video_id":"{VIDEO}","seq":7,"producer":"{form}"{behind}}}"#);
            let identity = PlayIdentity { producer: same, seq: 7 };
            assert_eq!(accepts(body), Play { identity: Some(identity), ..play });
        }
    }
    for form in ["", "x", &VIDEO[1..], &format!("{VIDEO}0"), &format!("{{{simple}}}"), "ü"] {
        // Any other text is an id of its own.
        let body = format!(r#"{{"video_id":"{form}"}}"#);
        match form {
            "" => rejects(body, "a video id has at least one character"),
            _ => assert_eq!(accepts(body).video_id.to_string(), form),
        }
        let body = format!(r#"{{"video_id":"{VIDEO}","producer":"{form}"}}"#);
        fields::ignores(body, PlayField::Producer, &format!("\"{form}\""));
    }
}

#[test]
fn what_is_no_play_is_rejected_with_its_reason() {
    rejects("", "expected a JSON object");
    rejects("not json", "expected");
    rejects("\u{feff}{}", "expected");
    rejects("{}", "missing field `video_id`");
    rejects(format!(r#"["{VIDEO}",null,null,null]"#), "expected a JSON object");
    rejects(r#"{"video_id""#, "EOF");
    rejects(r#"{"video_id":{"<img src=x onerror=alert(1)>":1}}"#, "<img src=x onerror=alert(1)>");
    rejects(format!(r#"{{"video_id":"{VIDEO}","video_id":"{VIDEO}"}}"#), "duplicate field");
    rejects(format!(r#"{{"video_id":"{VIDEO}"}} trailing"#), "trailing");
    rejects("[".repeat(100_000), "expected");
    rejects(format!(r#"{{"x":{}"#, "[".repeat(100_000)), "EOF");
    rejects(b"{\"video_id\":\"\xff\xfe\"}", "");
}

/// What follows `{"video_id":"…",`, and whether it is a play.
#[test]
fn an_unknown_field_is_any_json() {
    let deep = |levels| format!(r#""a":{}1{}"#, "[".repeat(levels), "]".repeat(levels));
    for (rest, good) in [
        (r#""a":"\"\\\/\b\f\n\r\t\u00Fc\ud83d\ude00""#, true),
        (r#""a":"\ud800","b":"\udc00\ud800","c":"\ud800x""#, true),
        (r#""a":["\ud800",{"\ud800":1}]"#, true),
        (r#""a":"\u12"#, false),
        (r#""a":"\u12g4""#, false),
        (r#""a":"\x""#, false),
        (r#""a":"\"#, false),
        ("\"a\":\"\x00\"", false),
        ("\"a\":\"12345678\x1f\"", false),
        ("\"a\":\"\t\"", false),
        ("\"a\":\"\x7f\"", true),
        ("\"a\":[0,-0,1,-1,0.5,-0.0,1e400,1E+4,1e-4,-1.25e0,123456789012345678901234567890]", true),
        (r#""a":01"#, false),
        (r#""a":-"#, false),
        (r#""a":-01"#, false),
        (r#""a":1."#, false),
        (r#""a":.5"#, false),
        (r#""a":1e"#, false),
        (r#""a":1e+"#, false),
        (r#""a":+1"#, false),
        (r#""a":0x1"#, false),
        (r#""a":NaN"#, false),
        (r#""a":[true,false,null,{},[],[[]],{"b":{}}]"#, true),
        (r#""a":True"#, false),
        (r#""a":nul"#, false),
        (r#""a":truefalse"#, false),
        (r#""a":[1,]"#, false),
        (r#""a":[,1]"#, false),
        (r#""a":[1 2]"#, false),
        (r#""a":{"b":1,}"#, false),
        (r#""a":{"b"}"#, false),
        (r#""a":{b:1}"#, false),
        (r#""a":{1:1}"#, false),
        (r#""a":[}"#, false),
        (r#""a":{]"#, false),
        (r#""a":[1}"#, false),
        (r#""a":{"b":1]"#, false),
        (r#""a":[{"b":[{"c":[1,{"d":[]}]}]}]"#, true),
        (r#""a":[{"b":[{"c":[1,{"d":[}]}]}]"#, false),
        (r#""a":1,"#, false),
        (r#""a":1,,"b":1"#, false),
        (r#""a" 1"#, false),
        (r#""a"::1"#, false),
        (r#""a":"#, false),
        (r#""a""#, false),
        (r#""":1,"":2"#, true),
        (r#""a":1,"a":2,"A":3,"\u0061":4"#, true),
        (r#""a\ud800":1"#, false),
        (r#""größe":1,"a":"ü""#, true),
        ("\"a\u{7f}\u{2028}\":1 , \t\r\n \"b\" : [ 1 , 2 ]", true),
        ("\"a\":\x0c1", false),
        ("\"a\":\u{a0}1", false),
        ("\"a\tb\":1", false),
        (&deep(63), true),
        (&deep(64), true),
        (&deep(65), true),
        (&deep(10_000), true),
    ] {
        let body = format!(r#"{{"video_id":"{VIDEO}",{rest}}}"#);
        assert_eq!(decode(body.as_bytes()).is_ok(), good, "{rest}");
    }
    // Bytes that are no UTF-8 are seen in a key only.
    let behind = |rest: &[u8]| [b"{\"video_id\":\"", VIDEO.as_bytes(), b"\",", rest, b"}"].concat();
    assert_eq!(accepts(behind(b"\"a\":\"\xff\xc0\",\"b\":{\"\xff\":1}")), plain());
    rejects(behind(b"\"\xff\":1"), "");
    rejects(behind(b"\"long enough \xe2\x28\xa1\":1"), "");
}

/// What the world writes is not left to serde_json, which costs several times as much.
#[test]
fn usual_bodies_are_read_in_one_go() {
    let deep = format!(r#""a":{}{}"#, "[".repeat(64), "]".repeat(64));
    for body in [
        format!(r#"{{"video_id":"{VIDEO}"}}"#),
        format!(
            r#"{{"video_id":"{VIDEO}","enqueued_at":1790000000000000000,"producer":"{PRODUCER}","seq":0,"resent":true}}"#
        ),
        format!(
            r#"{{"user_id":"u-1","video_id":"{VIDEO}","ms":-1.5e3,"device":{{"os":"x","tags":[]}},"seq":null}}"#
        ),
        format!(
            r#"{{"user": 1, "ok": true, "video_id": "{VIDEO}", "tags": ["a", "b"], "none": null}}"#
        ),
        format!(
            "\r\n{{\n\t\"video_id\": \"{VIDEO}\",\n\t\"größe\": {{\n\t\t\"a\": [\n\t\t]\n\t}}\n}}\n"
        ),
        format!(
            r#"{{"title":"\"\u00fc\" \u0026 \ud83d\n","video_id":"{}"}}"#,
            VIDEO.to_uppercase()
        ),
        format!(
            r#"{{"id":"{PRODUCER}","producer":"{{{PRODUCER}}}","video_id":"{}"}}"#,
            VIDEO.replace('-', "")
        ),
        format!(r#"{{"video_id":"{VIDEO}",{deep}}}"#),
        format!(
            r#"{{"video_id":"{VIDEO}","enqueued_at":1790000000.25,"producer":"web-1","seq":"7"}}"#
        ),
        r#"{"video_id":"dQw4w9WgXcQ","seq":7}"#.to_owned(),
        r#"{"video_id" : -12345 }"#.to_owned(),
        format!(r#"{{"video_id": "{VIDEO}", "enqueued_at": "2026-11-26T05:00:00Z", "resent": 0}}"#),
    ] {
        let play = PlayDecoder::default().scan(body.as_bytes());
        assert_eq!(play, Some(accepts(&body)), "{body}");
    }
}

/// Every byte of a body replaced by every other, left out, and everything cut behind it.
#[test]
fn each_byte_counts_as_it_does_for_serde_json() {
    let bodies = [
        format!(
            r#"{{"video_id":"{VIDEO}","enqueued_at":1,"producer":"{PRODUCER}","seq":20,"resent":true}}"#
        ),
        format!(r#"{{"seq":"4","enqueued_at":1790000000.5,"resent":[0],"video_id":"{VIDEO}"}}"#),
        format!(r#"{{"a":[1,-2.5e-3,{{"b":"\u00fc\n"}}],"ü":null, "video_id" : "{VIDEO}" }}"#),
    ];
    let agree = |body: &[u8]| {
        let mut decoder = PlayDecoder::default();
        let mine = decoder.decode(body).map(|play| (play, decoder.take_ignored()));
        assert_eq!(mine, Play::decode_by_serde(body), "{}", body.escape_ascii());
    };
    for body in bodies {
        accepts(&body);
        for at in 0..body.len() {
            let (head, tail) = body.as_bytes().split_at(at);
            agree(head);
            agree(&[head, &tail[1..]].concat());
            for byte in 0..=u8::MAX {
                agree(&[head, &[byte], &tail[1..]].concat());
            }
        }
    }
}

/// Bytes between tokens: mostly nothing.
fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 4 => Just(" "), 1 => select(vec!["\n", "\t", "\r\n   ", "  ", "\x0c"])]
}

/// A string with its quotes: mostly a good one.
fn string() -> impl Strategy<Value = Vec<u8>> {
    let good = vec![
        "a",
        "video_id",
        "0123456789",
        " ",
        "ü",
        "\\n",
        "\\\"",
        "\\u00e9",
        "\\\\",
        "{",
        "]",
        ":",
        ",",
        "\x7f",
    ];
    let odd: Vec<&[u8]> = vec![
        b"\\ud800",
        b"\\udc00",
        b"\\ud83d\\ude00",
        b"\\x",
        b"\\u12",
        b"\n",
        b"\x00",
        b"\xff",
        b"\xc3",
        b"\"",
    ];
    let piece = prop_oneof![
        30 => select(good).prop_map(str::as_bytes),
        1 => select(odd),
    ];
    vec(piece, 0..5).prop_map(|pieces| [b"\"", pieces.concat().as_slice(), b"\""].concat())
}

/// A UUID with its quotes, in one of its forms.
fn uuid() -> impl Strategy<Value = Vec<u8>> {
    let forms = vec!["V", "V", "V", "S", "{V}", "urn:uuid:V", "U", "Vx", ""];
    (select(forms), select(vec![VIDEO, PRODUCER])).prop_map(|(form, id)| {
        let simple = id.replace('-', "");
        let text = form.replace('V', id).replace('S', &simple).replace('U', &id.to_uppercase());
        format!("\"{text}\"").into_bytes()
    })
}

/// Any value, mostly a good one.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let words = "true false null 0 -0 7 -12 18446744073709551615 18446744073709551616 4611686018427387905 1.5 -2e3 1E-400 \
        1e400 12345678 1790000000000000000 0.00000001";
    let odd = "01 1. .5 1e - + nul True NaN \u{fc}";
    let leaf = prop_oneof![
        20 => select(words.split(' ').collect::<Vec<_>>()).prop_map(|word| word.as_bytes().to_vec()),
        1 => select(odd.split(' ').collect::<Vec<_>>()).prop_map(|word| word.as_bytes().to_vec()),
        10 => string(),
        5 => uuid(),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let member =
            (string(), inner.clone()).prop_map(|(key, value)| [key, value].join(&b":"[..]));
        prop_oneof![
            (vec(inner, 0..4), space()).prop_map(|(values, space)| {
                let comma = [space, ",", space].concat();
                [b"[", values.join(comma.as_bytes()).as_slice(), b"]"].concat()
            }),
            (vec(member, 0..4), space()).prop_map(|(members, space)| {
                let comma = [",", space].concat();
                [b"{", space.as_bytes(), members.join(comma.as_bytes()).as_slice(), b"}"].concat()
            }),
        ]
    })
}

/// A GUID or a text.
fn video_id() -> impl Strategy<Value = VideoId> {
    prop_oneof![
        any::<u128>().prop_map(VideoId::from_u128),
        r#"[^\pC]{1,30}"#.prop_map(|text| VideoId::parse(&text).unwrap()),
        r#"["\\a]{1,20}"#.prop_map(|text| VideoId::parse(&text).unwrap()),
    ]
}

/// What stands in a body as the id of a video, mostly a good one.
fn video_id_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => uuid(),
        3 => select(vec!["7", "-7", "0", "\"dQw4w9WgXcQ\"", "\"a\\u0062\"", "\"a\\\"\""])
            .prop_map(|value| value.as_bytes().to_vec()),
        2 => value(),
    ]
}

/// A member of the outermost object: mostly of a field that is ours and of its type.
fn member() -> impl Strategy<Value = Vec<u8>> {
    let number = select(vec![
        "0",
        "7",
        "1790000000000000000",
        "1790000000.5",
        "\"1790000000000\"",
        "4611686018427387904",
        "null",
        "-1",
        "1.0",
        "\"7\"",
    ]);
    let number = number.prop_map(|number| number.as_bytes().to_vec());
    let flag = select(vec!["true", "false"]).prop_map(|flag| flag.as_bytes().to_vec());
    let text = |key: &'static str| Just(format!("\"{key}\"").into_bytes());
    let field = prop_oneof![
        4 => (text("enqueued_at"), number.clone()),
        4 => (text("producer"), uuid()),
        4 => (text("seq"), number),
        2 => (text("resent"), flag),
        1 => (text("video\\u005fid"), uuid()),
        12 => (string(), value()),
        2 => (select(vec!["\"video_id\"", "\"seq\"", "\"resent\"", "\"producer\""]).prop_map(|key| key.as_bytes().to_vec()), value()),
    ];
    (field, space(), space(), space()).prop_map(|((key, value), a, b, c)| {
        [a.as_bytes(), &key, b.as_bytes(), b":", c.as_bytes(), &value, a.as_bytes()].concat()
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![9 => Just(true), 1 => Just(false)];
    (vec(member(), 0..6), id, any::<Index>(), video_id_value(), space()).prop_map(
        |(mut members, id, at, video, space)| {
            if id {
                let at = at.index(members.len() + 1);
                members.insert(at, [b"\"video_id\":", video.as_slice()].concat());
            }
            let space = space.as_bytes();
            [space, b"{", members.join(&b","[..]).as_slice(), b"}", space].concat()
        },
    )
}

/// What is done to a body: a byte replaced, put in or left out, a stretch doubled, the end cut off.
fn broken(mut body: Vec<u8>, changes: &[(u8, Index, u8)]) -> Vec<u8> {
    for (what, at, byte) in changes {
        let at = at.index(body.len().max(1)).min(body.len());
        match what {
            _ if body.is_empty() => {}
            0 => body[at] = *byte,
            1 => body[at] = b"\"\\{}[]:,0-.eutf \n"[usize::from(*byte) % 17],
            2 => body.insert(at, *byte),
            3 => drop(body.remove(at)),
            4 => body.extend_from_within(at..(at + usize::from(*byte) % 60).min(body.len())),
            _ => body.truncate(at),
        }
    }
    body
}

proptest! {
    #[test]
    fn a_play_survives_its_encoding(
        video in video_id(),
        enqueued_at_ns in proptest::option::of(EARLIEST_NS..),
        identity in proptest::option::of((any::<u128>(), 0..=PlayIdentity::MAX_SEQ)),
        resent in any::<bool>(),
    ) {
        let play = Play {
            video_id: video,
            enqueued_at_ns,
            identity: identity.map(|(producer, seq)| PlayIdentity { producer: Uuid::from_u128(producer), seq }),
            resent,
        };
        let mut body = Vec::new();
        play.encode(&mut body);
        // What is escaped in a key is left to serde_json, in an id it is not.
        prop_assert_eq!(PlayDecoder::default().scan(&body), Some(play));
        prop_assert_eq!(Play::decode_by_serde(&body), Ok((play, IgnoredFields::default())));
    }

    /// Whoever's body it is, whole or broken.
    #[test]
    fn serde_json_says_the_same(
        body in body(),
        changes in vec((0..6u8, any::<Index>(), any::<u8>()), 0..3),
    ) {
        let _ = decode(&broken(body, &changes));
    }

    /// What a decoder knows of the bodies before changes nothing.
    #[test]
    fn a_decoder_that_reads_many_says_what_a_new_one_says(bodies in vec(body(), 1..6)) {
        let (mut decoder, mut sum) = (PlayDecoder::default(), IgnoredFields::default());
        for body in bodies {
            let by_serde = Play::decode_by_serde(&body);
            prop_assert_eq!(decoder.decode(&body), by_serde.clone().map(|(play, _)| play));
            by_serde.into_iter().for_each(|(_, ignored)| sum.merge(ignored));
        }
        prop_assert_eq!(decoder.take_ignored(), sum);
    }

    #[test]
    fn any_bytes_are_a_play_or_a_rejection(body in vec(any::<u8>(), 0..300)) {
        let _ = decode(&body);
    }
}
