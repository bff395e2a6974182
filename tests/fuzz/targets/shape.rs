//! Any message body, read by pointers, as an array and gzip'd: it never fails otherwise than by saying why, what is read is JSON,
//! and a part that is told of lies within the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use playcounts::model::play::{BodyDecoder, BodyPart, PlayShape, Rejection, read_title};
use serde::de::IgnoredAny;

fuzz_target!(|data: &[u8]| {
    let pointer = |text: &str| text.parse().unwrap();
    let shape = PlayShape {
        plays: (data.len() % 2 == 0).then(|| pointer("/plays")),
        video: pointer("/event/video"),
        time: pointer("/event/at"),
        id: Some(pointer("/id")),
        title: Some(pointer("/event/0")),
    };
    for shape in [PlayShape::default(), shape] {
        let mut parts = 0;
        let decoded = BodyDecoder::new(&shape).decode(data, |part| {
            parts += 1;
            match part {
                BodyPart::Alone(play) | BodyPart::Element(play) => {
                    let mut title = String::new();
                    play.title.map(|raw| read_title(raw, &mut title));
                    assert!(title.chars().count() <= 300 && !title.contains(char::is_control));
                }
                BodyPart::NoPlay(no_play) => {
                    assert!(no_play.reason.as_str().chars().count() <= Rejection::MAX_LEN);
                    assert!(serde_json::from_slice::<IgnoredAny>(no_play.element).is_ok());
                }
            }
        });
        assert!(parts <= PlayShape::PLAYS_MAX);
        if decoded.is_ok() && !data.starts_with(&[0x1f, 0x8b]) {
            assert!(parts > 0 && serde_json::from_slice::<IgnoredAny>(data).is_ok());
        }
    }
});
