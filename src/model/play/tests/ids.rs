//! What may stand as the id of a video.

use super::*;

#[test]
fn a_video_id_is_any_text_or_whole_number() {
    let id_of = |value: &str| accepts(format!(r#"{{"video_id":{value}}}"#)).video_id.to_string();
    let longest = "x".repeat(VideoId::MAX_LEN);
    for text in ["dQw4w9WgXcQ", "https://example.org/v?id=7&t=1", "größe", "<b>", " ", &longest] {
        assert_eq!(id_of(&format!("\"{text}\"")), text);
    }
    for (value, text) in [
        (r#""a\"b\\""#, "a\"b\\"),
        (r#""\u0064Qw4w9WgXcQ""#, "dQw4w9WgXcQ"),
        (r#""\ud83d\ude00""#, "\u{1f600}"),
        ("7", "7"),
        ("0", "0"),
        ("-0", "-0"),
        ("-12", "-12"),
        (" 123456789012345678901234567890 ", "123456789012345678901234567890"),
    ] {
        assert_eq!(id_of(value), text);
    }
    // A number is the text of its digits.
    assert_eq!(accepts(r#"{"video_id":42}"#), accepts(r#"{"video_id":"42"}"#));
    for (value, reason) in [
        ("\"\"", "video_id is \"\": a video id has at least one character"),
        (&format!("\"{longest}x\""), "at most 128 bytes, not 129"),
        (&format!("\"{}\"", "x".repeat(1 << 20)), "at most 128 bytes, not 1048576"),
        (&"1".repeat(129), "at most 128 bytes, not 129"),
        (r#""ab\u001b[31m""#, "no control characters; there is one at byte 2"),
        (r#""a\n""#, "no control characters; there is one at byte 1"),
        ("\"ab\u{7f}\"", "no control characters; there is one at byte 2"),
        ("\"\u{85}\"", "no control characters; there is one at byte 0"),
        (r#""\ud800""#, "no Unicode text"),
        ("7.5", "video_id is 7.5: a whole number has no fraction and no exponent"),
        ("7.0", "a whole number has no fraction"),
        ("1e3", "a whole number has no fraction and no exponent"),
        ("null", "a text or a whole number is expected, not null"),
        ("true", "a text or a whole number is expected, not true or false"),
        ("{}", "a text or a whole number is expected, not an object"),
        ("[\"a\"]", "a text or a whole number is expected, not an array"),
        ("01", ""),
        ("-", ""),
        ("+1", ""),
        ("1x", ""),
        ("NaN", ""),
    ] {
        rejects(format!(r#"{{"video_id":{value}}}"#), reason);
        rejects(format!(r#"{{"a":1,"video_id": {value} ,"seq":7}}"#), reason);
    }
    for value in ["a".repeat(61), "\u{1f600}".repeat(60), format!("{}\u{fc}", "x".repeat(59))] {
        rejects(format!(r#"{{"video_id":["{value}"]}}"#), "\u{2026}: a text or a whole number");
    }
}
