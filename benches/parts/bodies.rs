//! Bodies of plays as the world writes them.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

const WORDS: [&str; 8] = ["view", "season", "Zürich", "live", "a", "of", "concert", "interview"];

/// When the first was put on the queue, in ns since the Unix epoch.
const BEGAN_NS: u64 = 1_790_000_000_000_000_000;

/// So many bodies of each kind, with the name of the kind.
pub(crate) fn kinds(count: u64) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let make = |body: fn(&mut StdRng, Uuid, u64) -> String| {
        let mut rng = StdRng::seed_from_u64(1);
        let bodies = (0..count).map(|number| {
            let video = Uuid::from_u128(rng.random());
            body(&mut rng, video, number).into_bytes()
        });
        bodies.collect()
    };
    vec![
        ("Go, struct of 6 fields", make(go)),
        ("sorted map with identity", make(sorted)),
        ("Python, with spaces", make(python)),
        ("pretty printed", make(pretty)),
        ("escapes in a title", make(escapes)),
        ("JS, a UUID first and last", make(js)),
        ("1 KB, nested", make(|rng, video, _| nested(rng, video, 800))),
        ("4 KB, nested", make(|rng, video, _| nested(rng, video, 3_800))),
    ]
}

fn go(rng: &mut StdRng, video: Uuid, number: u64) -> String {
    format!(
        r#"{{"video_id":"{video}","enqueued_at":{},"user_id":"u-{}","watched_ms":{},"position":{:.3},"device":{{"os":"android","app":"5.12.{}","model":"Pixel 8"}}}}"#,
        BEGAN_NS + number * 12_345,
        rng.random_range(0..10_000_000),
        rng.random_range(0..600_000),
        rng.random::<f64>(),
        number % 30,
    )
}

fn sorted(_: &mut StdRng, video: Uuid, number: u64) -> String {
    format!(
        r#"{{"enqueued_at":{},"producer":"{}","seq":{number},"video_id":"{video}"}}"#,
        BEGAN_NS + number * 12_345,
        Uuid::from_u128(7),
    )
}

fn python(rng: &mut StdRng, video: Uuid, number: u64) -> String {
    format!(
        r#"{{"user": {}, "video_id": "{video}", "timestamp": {}.{}, "tags": ["{}", "hd"], "autoplay": true, "referrer": null}}"#,
        rng.random_range(0..10_000_000),
        BEGAN_NS / 1_000_000_000 + number,
        rng.random_range(100_000..1_000_000),
        words(rng, 1),
    )
}

fn pretty(rng: &mut StdRng, video: Uuid, number: u64) -> String {
    format!(
        r#"{{
  "video_id": "{video}",
  "session": {{
    "user": "{}",
    "quality": [
      "hd",
      "sd"
    ]
  }},
  "enqueued_at": {}
}}
"#,
        rng.random_range(0..10_000_000),
        BEGAN_NS + number * 12_345,
    )
}

fn escapes(rng: &mut StdRng, video: Uuid, number: u64) -> String {
    let (two, more, three) = (words(rng, 2), words(rng, 2), words(rng, 3));
    format!(
        r#"{{"title":"\"{two}\" \u0026 {more}\n{three} \u00fc\/","video_id":"{video}","user_id":{number}}}"#
    )
}

fn js(rng: &mut StdRng, video: Uuid, number: u64) -> String {
    format!(
        r#"{{"id":"{}","page":"/watch/{number}","ua":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0","w":{},"video_id":"{video}"}}"#,
        Uuid::from_u128(rng.random()),
        rng.random_range(300..3_000),
    )
}

/// At least so many bytes, most of them in objects in an array.
fn nested(rng: &mut StdRng, video: Uuid, bytes: usize) -> String {
    let mut events = String::new();
    while events.len() < bytes {
        let comma = if events.is_empty() { "" } else { "," };
        events += &format!(
            r#"{comma}{{"at":{},"kind":"{}","value":{:.4},"note":"{}","flags":[true,false,null],"pos":{{"x":{},"y":-{}}}}}"#,
            rng.random_range(0..100_000),
            words(rng, 1),
            rng.random::<f64>() * 100.0,
            words(rng, 4),
            rng.random_range(0..1_920),
            rng.random_range(0..1_080),
        );
    }
    format!(r#"{{"events":[{events}],"video_id":"{video}"}}"#)
}

fn words(rng: &mut StdRng, count: usize) -> String {
    let words: Vec<_> = (0..count).map(|_| WORDS[rng.random_range(0..WORDS.len())]).collect();
    words.join(" ")
}
