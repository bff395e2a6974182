//! What is changed of what is shown: hidden and deleted videos, corrections, imports.

use playcounts::dashboard::Dashboard;
use serde_json::json;
use uuid::Uuid;

use super::id;
use crate::dashboard_support::{Running, config, start, update};

/// Three processors tell whole counts.
fn tell(running: &Running, version: u64, plays: u64) {
    for processor in 1..=3u128 {
        let mut body = update(version, &[(id("x"), plays), (id("y"), plays), (id("z"), 1)]);
        body["processor"] = json!(Uuid::from_u128(processor));
        running.post("/api/counts", &body, 200);
    }
}

/// Whatever processors tell again.
#[test]
fn what_is_changed_of_a_video_stays_so() {
    let data = tempfile::tempdir().unwrap();
    let mut running = Running { dashboard: Dashboard::start(config(&data)).unwrap(), data };
    tell(&running, 1, 100);
    let hide = json!({"visibility": "deleted", "reason": "asked to"});
    running.put("/api/videos/x/visibility", &hide, 200);
    assert_eq!(running.newest_action(), ["delete", "x", "asked to"]);
    let correct = json!({"plays": -50, "reason": "bots"});
    running.put("/api/videos/y/correction", &correct, 200);
    assert_eq!(running.newest_action(), ["correct", "y", "-50: bots"]);
    running.put(
        "/api/videos/z/visibility",
        &json!({"visibility": "hidden", "reason": "draft"}),
        200,
    );
    for round in 1..=3 {
        tell(&running, round, 100);
        // The deleted one is in no sum, the hidden one is.
        assert_eq!(
            (running.totals(), running.ids("")),
            ((json!(2), json!(253)), vec!["y".to_owned()]),
            "{round}"
        );
        assert_eq!(running.ids("search=x"), [""; 0]);
        let one = running.get("/api/counts/x").json();
        assert_eq!((&one["visibility"], &one["plays"]), (&json!("deleted"), &json!(300)));
        let one = running.get("/api/counts/y").json();
        assert_eq!(
            (&one["plays"], &one["correction"]["plays"], &one["correction"]["reason"]),
            (&json!(250), &json!(-50), &json!("bots"))
        );
        let changed = running.get("/api/videos/changed").json();
        let shown = |at: usize, name: &str| changed["videos"][at][name].clone();
        assert_eq!(
            [shown(0, "video_id"), shown(0, "visibility"), shown(0, "reason")],
            ["x", "deleted", "asked to"]
        );
        assert_eq!((shown(1, "video_id"), shown(1, "counted")), (json!("y"), json!(300)));
        assert!(shown(0, "at").as_u64().unwrap() > 1_700_000_000_000);
        let top = running.get("/api/top").json();
        assert_eq!((top["top"].as_array().unwrap().len(), &top["total"]), (1, &json!(303)));
        let csv = running.get("/api/export/counts.csv").unchunked();
        assert_eq!(csv.lines().count(), 2, "{csv}");
        let Running { dashboard, data } = running;
        dashboard.shutdown().unwrap();
        running = Running { dashboard: Dashboard::start(config(&data)).unwrap(), data };
    }
    tell(&running, 5, 110);
    assert_eq!(running.totals(), (json!(2), json!(283)));
    running.put("/api/videos/x/visibility", &json!({"visibility": "shown"}), 200);
    assert_eq!(running.newest_action(), ["show", "x", "done"]);
    running.put("/api/videos/y/correction", &json!({"plays": 0, "reason": "no bots"}), 200);
    assert_eq!(
        (running.totals(), running.ids("sort=video_id")),
        ((json!(3), json!(663)), vec!["x".to_owned(), "y".to_owned()])
    );
}

#[test]
fn an_import_counts_beside_processors_and_can_be_undone() {
    let running = start();
    running.tell(1, &[(id("x"), 5)]);
    let counts: Vec<_> =
        (0..1_000).map(|n| json!({"video_id": format!("v{n}"), "plays": 2})).collect();
    let import = Uuid::from_u128(9);
    let body = json!({"import": import, "name": "counts.csv", "counts": counts});
    for _ in 0..2 {
        assert_eq!(running.post("/api/imports", &body, 200).json()["accepted"], 1_000);
        let more = json!({"import": import, "name": "counts.csv", "counts": [{"video_id": "x", "plays": 7}]});
        running.post("/api/imports", &more, 200);
    }
    assert_eq!(running.totals(), (json!(1_001), json!(2_012)));
    let list = running.get("/api/imports").json();
    assert_eq!(list["imports"].as_array().unwrap().len(), 1);
    let one = &list["imports"][0];
    assert_eq!(
        (&one["name"], &one["videos"], &one["plays"]),
        (&json!("counts.csv"), &json!(1_001), &json!(2_007))
    );
    assert_eq!(running.newest_action()[0], "import");
    assert_eq!(running.get("/api/top").json()["total"], 5);
    let path = format!("/api/imports/{import}");
    assert_eq!(running.ask("DELETE", &path, "", b"").status, 200);
    assert_eq!(running.ask("DELETE", &path, "", b"").status, 404);
    assert_eq!(
        (running.totals().1, running.get("/api/imports").json()),
        (json!(5), json!({"imports": []}))
    );
    assert_eq!(running.get("/api/counts/x").json()["plays"], 5);
    assert_eq!((running.totals().0, running.get("/api/counts/v7").status), (json!(1), 404));
}
