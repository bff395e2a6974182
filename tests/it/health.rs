//! `health`: exit status 0 and a line while a part is well; 1 and the reason when it is not, is not there, or hangs.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::{Broker, Running, assert_exit, dashboard, output};

#[track_caller]
fn is_well(args: &[&str], want: &str) {
    let dir = tempfile::tempdir().unwrap();
    let well = output(dir.path(), &[&["health"], args].concat());
    assert_exit(&well, 0);
    let said = String::from_utf8_lossy(&well.stdout).into_owned();
    assert!(said.lines().count() == 1 && said.contains(want), "{well:?}");
}

#[track_caller]
fn is_not_well(args: &[&str], want: &str) {
    let dir = tempfile::tempdir().unwrap();
    let ill = output(dir.path(), &[&["health"], args].concat());
    assert_exit(&ill, 1);
    let said = String::from_utf8_lossy(&ill.stderr).into_owned();
    assert!(said.lines().count() == 1 && said.contains(want), "{said}");
    assert!(ill.stdout.is_empty(), "{ill:?}");
}

#[test]
fn a_dashboard_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (part, url) = dashboard(dir.path());
    is_well(&["--dashboard-url", &url], "is well");
    // Its files go: it cannot store what it is told.
    std::fs::remove_dir_all(dir.path().join("playcounts-data")).unwrap();
    crate::support::wait_until("it has noticed", || crate::support::health(&url).0 == 503);
    is_not_well(&["--dashboard-url", &url], "was removed");
    drop(part);
    is_not_well(&["--dashboard-url", &url], "no dashboard at");
}

/// Before whoever asks is tired of waiting.
#[test]
fn one_that_hangs_is_not_well() {
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = hung.local_addr().unwrap().to_string();
    let since = Instant::now();
    is_not_well(&["--dashboard-url", &format!("http://{address}")], "not well");
    is_not_well(&["--broker-http-address", &address], "not well");
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
}

#[test]
fn a_broker_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::ours(dir.path());
    let http = broker.http();
    is_well(&["--broker-http-address", &http], &http);
    drop(broker);
    is_not_well(&["--broker-http-address", &http], &http);
}

#[test]
fn the_owner_of_a_data_directory_is_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    is_not_well(&["--data-dir", data], "no part runs on");
    let args = ["process", "--nsqd-tcp-address", "127.0.0.1:1", "--data-dir", data];
    let mut part = Running::start(dir.path(), &args);
    part.wait_for("trying again");
    is_well(&["--data-dir", data], "processor (pid ");
    drop(part);
    is_not_well(&["--data-dir", data], "no part runs on");
}

#[test]
fn one_thing_is_asked_at_a_time() {
    is_not_well(&["--dashboard-url", "http://127.0.0.1:1", "--data-dir", "x"], "one thing");
    is_not_well(&["--broker-http-address", "127.0.0.1:1", "--data-dir", "x"], "one thing");
}
