//! Bodies of messages of the default shape, and of shapes of a site's own, with as much in them.

use playcounts::model::play::PlayShape;
use uuid::Uuid;

use super::video;

/// When the first was put on the queue, in ms since the Unix epoch.
const BEGAN_MS: u64 = 1_790_000_000_000;

/// A kind of bodies.
pub(crate) struct Shaped {
    pub(crate) name: &'static str,
    pub(crate) shape: PlayShape,
    /// Plays in each body.
    pub(crate) plays: usize,
    pub(crate) bodies: Vec<Vec<u8>>,
}

/// Of each kind as many bodies as there are plays in `count`.
pub(crate) fn kinds(count: usize) -> Vec<Shaped> {
    let pointer = |text: &str| text.parse().unwrap();
    let nested = PlayShape {
        video: pointer("/event/video"),
        time: pointer("/event/at"),
        ..PlayShape::default()
    };
    let by_id = PlayShape { id: Some(pointer("/event/play")), ..nested.clone() };
    let titled = PlayShape { title: Some(pointer("/event/title")), ..nested.clone() };
    let make = |name, shape: &PlayShape, body: fn(usize) -> String| {
        let bodies = (0..count).map(|number| body(number).into_bytes()).collect();
        Shaped { name, shape: shape.clone(), plays: 1, bodies }
    };
    let array = (0..count / 100).map(|from| {
        let elements: Vec<_> = (0..100).map(|n| default_guid(from * 100 + n)).collect();
        format!("[{}]", elements.join(",")).into_bytes()
    });
    let default = PlayShape::default();
    vec![
        make("default, GUIDs", &default, default_guid),
        make("default, 11 characters", &default, |number| default_of(&text_id(number), number)),
        make("default, 22 characters", &default, |number| {
            default_of(&text_id(number).repeat(2), number)
        }),
        make("pointers, GUIDs", &nested, |number| {
            nested_of(&guid(number % 100).to_string(), number)
        }),
        make("pointers, 11 characters", &nested, |number| nested_of(&text_id(number), number)),
        make("pointers and --id-field", &by_id, |number| nested_of(&text_id(number), number)),
        make("pointers and --title-field", &titled, |number| nested_of(&text_id(number), number)),
        Shaped {
            name: "arrays of 100, GUIDs",
            shape: default,
            plays: 100,
            bodies: array.collect(),
        },
    ]
}

fn guid(number: usize) -> Uuid {
    video(number as u128).guid().unwrap()
}

/// As YouTube's.
fn text_id(number: usize) -> String {
    format!("{:011x}", number as u64 % 100 * 0x9e_3779_b97f)
}

fn default_guid(number: usize) -> String {
    default_of(&guid(number % 100).to_string(), number)
}

fn default_of(video: &str, number: usize) -> String {
    let at = BEGAN_MS + number as u64;
    format!(r#"{{"video_id":"{video}","enqueued_at":{at},"play":"p-{number}","title":"Cats"}}"#)
}

fn nested_of(video: &str, number: usize) -> String {
    let at = BEGAN_MS + number as u64;
    format!(r#"{{"event":{{"video":"{video}","at":{at},"play":"p-{number}","title":"Cats"}}}}"#)
}
