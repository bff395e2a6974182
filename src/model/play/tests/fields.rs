//! What an optional field may hold, and what becomes of it.

use super::*;

/// It is the plain play, with that field ignored and that sample of it.
#[track_caller]
pub(super) fn ignores(body: impl AsRef<[u8]>, field: PlayField, sample: &str) {
    let body = body.as_ref();
    let (play, ignored) =
        decode_all(body).unwrap_or_else(|reason| panic!("{}: {reason}", body.escape_ascii()));
    assert_eq!(play, plain());
    for other in PlayField::ALL {
        let found = ignored.of(other);
        let wanted = (u64::from(other == field), (other == field).then_some(sample));
        assert_eq!((found.count, found.sample.as_deref()), wanted, "{}", body.escape_ascii());
    }
}

/// Whatever stands in an optional field, the play counts; what stands there twice is no play.
#[test]
fn a_field_stands_there_once_and_says_what_it_can() {
    use PlayField::{EnqueuedAt, Producer, Resent, Seq};
    for (key, field, right, unreadable, wrong) in [
        (
            "enqueued_at",
            EnqueuedAt,
            "1790000000 1790000000.5 1.79e18 1790000000000000000 18446744073709551614 null \"1790000000000\" \
             \"2026-11-26T05:00:00Z\"",
            "7 0 -0 -1 1.0 1e3 1e400 18446744073709551616 17900000000000000000000 \"7\" \"\" true [] {} [{\"a\":[]}]",
            "01 00 7e 7. + nul - . 1790000000. 1790000000e 1790000000000000000x nulll tru",
        ),
        (
            "seq",
            Seq,
            "7 0 7.0 \"7\" 4611686018427387904 null",
            "-1 1.5 7e0 \"07\" 4611686018427387905 18446744073709551615 18446744073709551616 false [7] {}",
            "01 7. nulll \"7 7x",
        ),
        (
            "producer",
            Producer,
            "null",
            "7 true [] {} [[]] \"\" \"x\" \"web-1\" \"\\ud800\" \"\\u0077\"",
            "nul nulll \" web-1 \"\\x\"",
        ),
        (
            "resent",
            Resent,
            "true false null",
            "1 0 \"true\" \"false\" [] {} -1.5e3",
            "tru truee fals 01",
        ),
    ] {
        let has = |value| format!(r#"{{"video_id":"{VIDEO}","{key}":{value}}}"#);
        let has_first = |value| format!(r#"{{"{key}":{value} ,"video_id":"{VIDEO}"}}"#);
        for value in right.split_ascii_whitespace() {
            for body in [has(value), has_first(value)] {
                assert!(decode_all(body.as_bytes()).unwrap().1.is_empty(), "{body}");
            }
        }
        for value in unreadable.split_ascii_whitespace() {
            ignores(has(value), field, value);
            ignores(has_first(value), field, value);
        }
        for value in right.split_ascii_whitespace().chain(unreadable.split_ascii_whitespace()) {
            let twice = format!(r#"{{"{key}":{value},"video_id":"{VIDEO}","{key}":{value}}}"#);
            rejects(twice, "duplicate field");
        }
        for value in wrong.split_ascii_whitespace() {
            rejects(has(value), "");
            rejects(has_first(value), "");
        }
    }
    for value in ["null", "7.5", "true", "[]", "{}", "\"\""] {
        rejects(format!(r#"{{"video_id":{value}}}"#), "");
    }
    // Bytes that are no UTF-8 are no reason, either.
    let body = [b"{\"video_id\":\"", VIDEO.as_bytes(), b"\",\"producer\":\"m\xfcnchen\"}"].concat();
    ignores(body, Producer, "\"m\u{fffd}nchen\"");
    // The same key in other letters.
    let body = |key| format!(r#"{{"video_id":"{VIDEO}","{key}":1790000000}}"#);
    assert_eq!(accepts(body("\\u0065nqueued_at")).enqueued_at_ns, Some(1_790_000_000_000_000_000));
    assert_eq!(accepts(body("Enqueued_at")), plain());
    assert_eq!(accepts(body("enqueued_at ")), plain());
    assert_eq!(accepts(body("enqueued")), plain());
    rejects(body("video\\u005fid"), "duplicate field");
}

/// An identity of which one half cannot be read is none.
#[test]
fn half_an_identity_is_none() {
    let body = |producer: &str, seq: &str| {
        accepts(format!(r#"{{"video_id":"{VIDEO}","producer":{producer},"seq":{seq}}}"#)).identity
    };
    let producer = format!("\"{PRODUCER}\"");
    let whole = PlayIdentity { producer: PRODUCER.parse().unwrap(), seq: 7 };
    for seq in ["7", "7.0", "\"7\""] {
        assert_eq!(body(&producer, seq), Some(whole));
        assert_eq!(body("\"web-1\"", seq), None);
    }
    assert_eq!(body(&producer, "\"07\""), None);
    assert_eq!(body(&producer, &u64::MAX.to_string()), None);
    assert_eq!(
        body(&producer, &PlayIdentity::MAX_SEQ.to_string()).map(|id| id.seq),
        Some(PlayIdentity::MAX_SEQ)
    );
}
