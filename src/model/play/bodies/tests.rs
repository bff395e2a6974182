//! Arrays, gzip'd bodies, and their limits.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::model::play::gzip::{INFLATED_MAX, KEPT_MAX};

const VIDEO: &str = "0b9e9f0e-6b07-4c12-8a70-6a8f6f6c2f11";

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// The videos of the plays, and the reasons of what is none.
fn read(body: &[u8]) -> Result<Vec<Result<String, String>>, String> {
    let mut parts = Vec::new();
    let mut decoder = BodyDecoder::new(&PlayShape::default());
    let end = decoder.decode(body, |part| {
        parts.push(match part {
            BodyPart::Alone(play) | BodyPart::Element(play) => Ok(play.play.video_id.to_string()),
            BodyPart::NoPlay(no_play) => Err(no_play.reason.to_string()),
        });
    });
    end.map(|()| parts).map_err(|reason| reason.to_string())
}

#[track_caller]
fn rejects(body: &[u8], why: &str) {
    let reason = read(body).expect_err("no play");
    assert!(reason.contains(why), "{reason} does not say {why:?}");
}

#[test]
fn a_body_is_a_play_or_an_array_of_them() {
    let play = format!(r#"{{"video_id":"{VIDEO}","seq":7}}"#);
    assert_eq!(read(play.as_bytes()), Ok(vec![Ok(VIDEO.to_owned())]));
    let body = format!(r#" [ {play} ,{{"video_id":"x"}},7, {{"video_id":null}}] "#);
    let parts = read(body.as_bytes()).unwrap();
    assert_eq!(parts[..2], [Ok(VIDEO.to_owned()), Ok("x".to_owned())]);
    assert_eq!(parts[2], Err("element 2: expected a JSON object".to_owned()));
    let null = parts[3].as_ref().unwrap_err();
    assert!(null.starts_with("element 3: video_id is null: a text or a whole number"), "{null}");
    rejects(b"[]", "an array without a play");
    rejects(b" [ ] ", "an array without a play");
    rejects(format!("[{play}").as_bytes(), "EOF");
    rejects(format!("[{play}] x").as_bytes(), "trailing characters");
    rejects(format!("[{play},]").as_bytes(), "line 1 column");
    rejects("[".repeat(1 << 20).as_bytes(), "EOF");
    // An array in an array is no play.
    assert!(read(format!("[[{play}]]").as_bytes()).unwrap()[0].is_err());
    let deep = format!("[{}{}]", "[".repeat(100), "]".repeat(100));
    rejects(deep.as_bytes(), "too deep");
}

/// What is told of fields that cannot be read is told of elements, too.
#[test]
fn ignored_fields_of_elements_are_told() {
    let mut decoder = BodyDecoder::new(&PlayShape::default());
    let body = br#"[{"video_id":"x","seq":"a"},{"video_id":"y","s\u0065q":"a"}]"#;
    decoder.decode(body, |_| ()).unwrap();
    assert_eq!(decoder.take_ignored().of(crate::model::play::PlayField::Seq).count, 2);
}

#[test]
fn an_array_has_a_limit() {
    let element = format!(r#"{{"video_id":"{VIDEO}"}}"#);
    let array = |count| format!("[{}]", vec![element.as_str(); count].join(","));
    assert_eq!(read(array(PlayShape::PLAYS_MAX).as_bytes()).unwrap().len(), PlayShape::PLAYS_MAX);
    rejects(array(PlayShape::PLAYS_MAX + 1).as_bytes(), "more than 10000 plays in one message");
    let million = array(1_000_000);
    rejects(million.as_bytes(), "more than 10000 plays in one message");
    rejects(&gzip(million.as_bytes()), "the gzip'd body is longer than 16777216 bytes");
}

#[test]
fn a_body_may_be_gzipped() {
    let play = format!(r#"{{"video_id":"{VIDEO}"}}"#);
    let zipped = gzip(play.as_bytes());
    assert_eq!(read(&zipped), read(play.as_bytes()));
    assert_eq!(read(&gzip(b"[7]")), read(b"[7]"));
    // In two members, as some programs write it.
    let (head, tail) = play.as_bytes().split_at(9);
    assert_eq!(read(&[gzip(head), gzip(tail)].concat()), read(play.as_bytes()));
    for cut in [2, 10, 12, zipped.len() - 1] {
        rejects(&zipped[..cut], "the gzip'd body is damaged");
    }
    for at in [2, 12, zipped.len() - 6] {
        let mut damaged = zipped.clone();
        damaged[at] ^= 0xff;
        assert!(read(&damaged).is_err(), "{at}");
    }
    rejects(&[zipped, b"trailing".to_vec()].concat(), "the gzip'd body is damaged");
    // Twice is not read.
    rejects(&gzip(&gzip(play.as_bytes())), "expected");
}

/// Its memory is given back behind each, whether or not it could be read.
#[test]
fn a_gzip_bomb_is_no_play() {
    let play = format!(r#"{{"video_id":"{VIDEO}"}}"#);
    let spaced = |len: usize| format!("{play}{}", " ".repeat(len - play.len()));
    let longest = gzip(spaced(INFLATED_MAX).as_bytes());
    assert_eq!(read(&longest), Ok(vec![Ok(VIDEO.to_owned())]));
    rejects(&gzip(spaced(INFLATED_MAX + 1).as_bytes()), "longer than 16777216 bytes");
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 1 << 20);
    let mut decoder = BodyDecoder::new(&PlayShape::default());
    let damaged = &longest[..longest.len() - 1];
    let no_json = gzip(&vec![b'x'; INFLATED_MAX]);
    for (body, is_play) in
        [(&bomb[..], false), (damaged, false), (&no_json, false), (&longest, true)]
    {
        assert_eq!(decoder.decode(body, |_| ()).is_ok(), is_play);
        assert!(decoder.inflated.capacity() <= KEPT_MAX, "{}", decoder.inflated.capacity());
    }
    // It is used again.
    decoder.decode(&gzip(play.as_bytes()), |_| ()).unwrap();
    assert!(decoder.inflated.is_empty() && decoder.inflated.capacity() > 0);
}
