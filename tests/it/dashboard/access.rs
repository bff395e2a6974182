//! Who may write, and who may not even read.

use playcounts::dashboard::Dashboard;
use playcounts::model::counts::Totals;

use crate::dashboard_support::{Running, config, start, update, video};

#[test]
fn dashboard_writes_need_the_token_once_there_is_one() {
    let data = tempfile::tempdir().unwrap();
    let mut open = config(&data);
    open.http_address = "0.0.0.0:0".to_owned();
    let refused = Dashboard::start(open).err().unwrap().to_string();
    assert!(refused.contains("give --write-token, or a loopback --http-address"), "{refused}");
    for token in ["", "two words", "\u{e9}"] {
        let mut bad = config(&data);
        bad.write_token = Some(token.to_owned());
        assert!(Dashboard::start(bad).is_err(), "{token:?}");
    }
    let mut guarded = config(&data);
    guarded.http_address = "0.0.0.0:0".to_owned();
    guarded.write_token = Some("secret".to_owned());
    guarded.allowed_hosts = vec!["counts.example".to_owned()];
    let running = Running { dashboard: Dashboard::start(guarded).unwrap(), data };
    let body = update(1, &[(video(1), 3)]).to_string();
    let post = |extra: &str| running.ask("POST", "/api/counts", extra, body.as_bytes()).status;
    assert_eq!(post(""), 401);
    assert_eq!(post("Authorization: Bearer wrong\r\n"), 401);
    assert_eq!(running.ask("DELETE", "/api/counts", "", b"").status, 401);
    assert_eq!(post("Authorization: Bearer secret\r\n"), 200);
    assert_eq!(running.ask("GET", "/api/counts", "Host: counts.example\r\n", b"").status, 200);
    assert_eq!(running.ask("GET", "/api/counts", "Host: evil.example\r\n", b"").status, 421);
    assert_eq!(
        running.ask("DELETE", "/api/counts", "Authorization: Bearer secret\r\n", b"").status,
        200
    );
    assert_eq!(running.dashboard.totals(), Totals::default());
}

#[test]
fn dashboard_answers_no_foreign_page() {
    let running = start();
    for path in ["/", "/api/counts", "/events", "/metrics"] {
        assert_eq!(
            running.ask("GET", path, "Host: rebound.example:8000\r\n", b"").status,
            421,
            "{path}"
        );
    }
    let body = update(1, &[(video(1), 3)]).to_string();
    let from = |origin: &str| {
        running.ask("POST", "/api/counts", &format!("Origin: {origin}\r\n"), body.as_bytes()).status
    };
    assert_eq!(from("http://evil.example"), 403);
    assert_eq!(from("null"), 403);
    assert_eq!(from(&running.dashboard.url()), 200);
}
