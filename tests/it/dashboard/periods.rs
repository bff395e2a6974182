//! Plays over time: the most played, the series of a video, exports.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::dashboard_support::{start, update, video};
use playcounts::model::video_id::VideoId;

/// What is asked for wrongly, and how the answer begins.
const WRONG: [(&str, &str); 7] = [
    ("/api/top?from=5&to=5", "from must be before to: 5 is not before 5"),
    ("/api/top?limit=101", "limit must be a number from 1 to 100"),
    ("/api/top?order=up", "order must be plays or change, not \"up\""),
    ("/api/top?from=x", "from must be ms since the Unix epoch, not \"x\""),
    ("/api/series?from=7&to=3", "from must be before to"),
    ("/api/export/series.csv", "\"\" is not a video id: a video id has at least one character"),
    (
        "/api/counts?sort=plays&after=video_id.0.00000000-0000-0000-0000-000000000007",
        "after is of a list with another sort than plays",
    ),
];

#[test]
fn periods_tell_the_most_played_and_every_video_s_series() {
    let running = start();
    for (version, first) in (1..=3).zip([1u8, 20, 40]) {
        let counts: Vec<_> =
            (first..first + 19).map(|first| (video(first), u64::from(first) * 10)).collect();
        running.tell(version, &counts);
    }
    let mut more = update(1, &[(video(1), 500)]);
    more["processor"] = json!(Uuid::from_u128(2));
    running.post("/api/counts", &more, 200);
    let top = running.get("/api/top?limit=2").json();
    let sum: u64 =
        [1u64..20, 20..39, 40..59].into_iter().flatten().map(|n| n * 10).sum::<u64>() + 500;
    assert_eq!((&top["total"], &top["videos"]), (&json!(sum), &json!(57)));
    assert_eq!((&top["scale"], top["top"].as_array().unwrap().len()), (&json!("minute"), 2));
    let first = &top["top"][0];
    assert_eq!(
        (&first["video_id"], &first["plays"], &first["before"]),
        (&json!(video(58)), &json!(580), &Value::Null)
    );
    let spark: u64 = first["spark"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(spark, 580);
    assert_eq!(top["top"][1]["video_id"], json!(video(57)));
    let one = running.get(&format!("/api/counts/{}", video(1))).json();
    assert_eq!((&one["plays"], &one["rank"]), (&json!(510), &json!(9)));
    for scale in ["minute", "hour", "day"] {
        let series = running.get(&format!("/api/counts/{}/series?scale={scale}", video(1))).json();
        let plays: u64 =
            series["plays"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!((plays, &series["scale"]), (510, &json!(scale)), "{series}");
        let kept_from = series["kept_from"].as_i64().unwrap();
        // Nothing is known of the time before the first play.
        let [first, step] = [&series["time"][0], &series["step_ms"]].map(|n| n.as_i64().unwrap());
        assert!((first..first + step).contains(&kept_from), "{series}");
    }
    // A long ago there was nothing; and what is asked for wrongly is told.
    assert_eq!(running.get("/api/top?from=1000&to=2000").json()["top"], json!([]));
    for (path, want) in WRONG {
        let answer = running.get(path);
        assert_eq!(
            (answer.status, answer.error().starts_with(want)),
            (400, true),
            "{path}: {}",
            answer.error()
        );
    }
    let at = format!("/api/counts/{}/series?scale=", video(1));
    assert!(
        running.get(&format!("{at}week")).error().starts_with("scale must be minute, hour or day")
    );
    // However long the period, it is what is kept.
    let long = running.get(&format!("{at}minute&from=0&to=9007199254740991")).json();
    assert_eq!(long["plays"], json!([510]));
    assert_eq!(running.get(&format!("{at}day&from=0&to=1000")).json()["time"], json!([]));
    for path in [
        format!("/api/counts/{}/series", video(99)),
        format!("/api/export/series.json?video={}", video(99)),
        "/api/export/likes.csv".to_owned(),
    ] {
        assert_eq!(running.get(&path).status, 404, "{path}");
    }
}

#[test]
fn exports_are_whole_and_come_in_chunks() {
    let running = start();
    for version in 0..40u64 {
        let counts: Vec<_> = (0..20)
            .map(|n| (VideoId::from_u128(u128::from(version * 20 + n + 1)), version + 1))
            .collect();
        running.tell(version + 1, &counts);
    }
    let csv = running.get("/api/export/counts.csv");
    assert!(
        csv.head.contains("Content-Type: text/csv")
            && csv.head.contains("Transfer-Encoding: chunked"),
        "{}",
        csv.head
    );
    assert!(csv.head.contains("attachment; filename=\"counts.csv\""), "{}", csv.head);
    let text = csv.unchunked();
    let lines: Vec<_> = text.split_terminator("\r\n").collect();
    assert_eq!(
        (lines.len(), lines[0]),
        (801, "video_id,plays,updated_at,last_played_at,title,url")
    );
    assert!(
        lines[1].starts_with("00000000-0000-0000-0000-000000000001,1,20")
            && lines[1].ends_with(",2023-11-14T22:13:20Z,,"),
        "{}",
        lines[1]
    );
    let rows: Vec<Value> =
        serde_json::from_str(&running.get("/api/export/counts.json").unchunked()).unwrap();
    assert_eq!((rows.len(), &rows[799]["plays"]), (800, &json!(40)));
    let top: Vec<Value> =
        serde_json::from_str(&running.get("/api/export/top.json").unchunked()).unwrap();
    assert_eq!((top.len(), &top[0]["plays"]), (100, &json!(40)));
    let series =
        running.get(&format!("/api/export/series.csv?scale=day&video={}", Uuid::from_u128(1)));
    assert!(series.unchunked().ends_with("T00:00:00Z,1\r\n"));
    let head = running.ask("HEAD", "/api/export/counts.csv", "", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
}
