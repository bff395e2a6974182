//! Tests of `response`.

use super::*;
use proptest::prelude::*;

fn nsqds(list: &[&str]) -> Result<Vec<String>, String> {
    Ok(list.iter().map(|nsqd| nsqd.to_string()).collect())
}

fn read(status: u16, body: &str, map: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let answer = read_response(status, body.as_bytes(), map)?;
    assert_eq!((answer.left_out, answer.http.len()), (0, answer.nsqds.len()));
    Ok(answer.nsqds)
}

#[track_caller]
fn check(status: u16, body: &str, want: &[&str]) {
    assert_eq!(read(status, body, &BTreeMap::new()), nsqds(want), "{body}");
}

#[track_caller]
fn fails(status: u16, body: &str, want: &str) {
    let error = read_response(status, body.as_bytes(), &BTreeMap::new()).unwrap_err();
    assert!(error.contains(want), "{error}");
}

#[test]
fn answers_of_every_age_are_read() {
    // nsqlookupd 1.3.0, as it came.
    check(
        200,
        r#"{"channels":["c"],"producers":[{"remote_address":"127.0.0.1:40644","hostname":"h","broadcast_address":"127.0.0.1","tcp_port":4150,"http_port":4151,"version":"1.3.0"}]}"#,
        &["127.0.0.1:4150"],
    );
    check(
        200,
        r#"{"status_code":200,"status_txt":"OK","data":{"channels":[],"producers":[{"broadcast_address":"a","tcp_port":1}]}}"#,
        &["a:1"],
    );
    check(200, r#"{"channels":null,"producers":null}"#, &[]);
    check(200, r#"{"status_code":200,"data":{"producers":null}}"#, &[]);
    check(404, r#"{"message":"TOPIC_NOT_FOUND"}"#, &[]);
    check(500, r#"{"status_code":500,"status_txt":"TOPIC_NOT_FOUND","data":null}"#, &[]);
    check(
        200,
        r#"{"producers":[{"broadcast_address":"::1","tcp_port":2},{"broadcast_address":"[::1]","tcp_port":3}]}"#,
        &["[::1]:2", "[::1]:3"],
    );
}

#[test]
fn what_is_no_answer_is_named() {
    fails(500, r#"{"message":"INTERNAL_ERROR"}"#, "status 500: INTERNAL_ERROR");
    fails(200, r#"{"status_code":500,"status_txt":"OOPS","data":null}"#, "status 500: OOPS");
    fails(404, "404 page not found\n", "status 404: 404 page not found");
    fails(200, "<html><body>hello", "<html>");
    fails(200, r#"{"producers":[{"broadcast_address":"a","tcp"#, "no such JSON object");
    fails(200, "", "no such JSON object");
    fails(200, "[]", "no such JSON object");
    fails(200, r#"{"topics":[]}"#, "without \"producers\"");
    fails(200, r#"{"producers":7}"#, "no such JSON object");
}

#[test]
fn an_entry_that_makes_no_sense_is_left_out_and_the_others_stay() {
    let body = r#"{"producers":[
        {"broadcast_address":"a","tcp_port":0},
        {"broadcast_address":"a","tcp_port":70000},
        {"broadcast_address":"a b","tcp_port":1},
        {"broadcast_address":"","tcp_port":1},
        {"broadcast_address":"a\u0000","tcp_port":1},
        {"broadcast_address":7,"tcp_port":1},
        {"broadcast_address":"a"},
        9,
        {"broadcast_address":"good","tcp_port":65535}]}"#;
    let answer = read_response(200, body.as_bytes(), &BTreeMap::new()).unwrap();
    assert_eq!((answer.nsqds, answer.left_out), (vec!["good:65535".to_owned()], 8));
    assert_eq!(answer.reasons[..2], ["a with the TCP port 0", "a with the TCP port 70000"]);
}

#[test]
fn the_broadcast_map_says_where_to_connect() {
    let map: BTreeMap<String, String> =
        [("a:1", "x:10"), ("a", "y"), ("b", "z:30"), ("c:5", "[::1]:6"), ("d", "::1")]
            .map(|(from, to)| (from.to_owned(), to.to_owned()))
            .into();
    let body = r#"{"producers":[{"broadcast_address":"a","tcp_port":1},{"broadcast_address":"a","tcp_port":2},
        {"broadcast_address":"b","tcp_port":3},{"broadcast_address":"c","tcp_port":5},
        {"broadcast_address":"d","tcp_port":7},{"broadcast_address":"e","tcp_port":8}]}"#;
    let answer = read(200, body, &map);
    assert_eq!(answer, nsqds(&["x:10", "y:2", "z:30", "[::1]:6", "[::1]:7", "e:8"]));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(status: u16, body: Vec<u8>) {
        let _ = read_response(status, &body, &BTreeMap::new());
    }

    #[test]
    fn every_address_that_comes_out_is_one(hosts in proptest::collection::vec((".*", any::<i64>()), 0..20)) {
        let producers: Vec<_> = hosts
            .iter()
            .map(|(host, port)| serde_json::json!({"broadcast_address": host, "tcp_port": port % 100_000}))
            .collect();
        let body = serde_json::json!({ "producers": producers }).to_string();
        let answer = read_response(200, body.as_bytes(), &BTreeMap::new()).unwrap();
        prop_assert_eq!(answer.nsqds.len() + answer.left_out, hosts.len());
        for address in answer.nsqds {
            let (host, port) = address.rsplit_once(':').unwrap();
            prop_assert!(!host.is_empty() && port.parse::<u16>().unwrap() > 0);
        }
    }
}

#[cfg(feature = "http")]
#[test]
fn channels_are_read_and_what_is_none_is_left_out() {
    let read = |status, body: &str| {
        let names = read_channels(status, body.as_bytes());
        names.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let some = Ok(vec!["a".to_owned(), "b#ephemeral".to_owned()]);
    assert_eq!(read(200, r#"{"channels":["a","","b#ephemeral","x y"]}"#), some);
    assert_eq!(
        read(200, r#"{"status_code":200,"data":{"channels":["a"]}}"#),
        Ok(vec!["a".to_owned()])
    );
    assert_eq!(read(200, r#"{"channels":[]}"#), Ok(vec![]));
    for (status, body) in [
        (500, "{}"),
        (200, "{}"),
        (200, "[]"),
        (200, ""),
        (200, r#"{"channels":null}"#),
        (200, r#"{"channels":[1]}"#),
    ] {
        assert!(read(status, body).is_err(), "{status} {body}");
    }
}
