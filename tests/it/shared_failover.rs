//! Processors whose database fails over to a standby that follows it by streaming: with `synchronous_standby_names` nothing is
//! lost; without, what the standby did not have is told, and nothing is counted until somebody has said so.

use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;
use uuid::Uuid;

use crate::postgres_server::{Postgres, postgres_or_skip};
use crate::support::{self, Broker, Running, assert_exit, health, publish, total, wait_until};

/// A processor that takes whichever of both servers can be written to.
fn start(dir: &Path, servers: [&Postgres; 2], broker: &Broker, url: &str, more: &str) -> Running {
    let (tcp, http) = (broker.tcp(), broker.http());
    let [first, second] = servers.map(Postgres::addr);
    let (login, _) = servers[0]
        .url()
        .rsplit_once('@')
        .map(|(login, at)| (login.to_owned(), at.to_owned()))
        .unwrap();
    let line = format!(
        "process --nsqd-tcp-address {tcp} --nsqd-http-address {http} --dashboard-url {url} --data-dir {more} \
         --consumer-opt msg_timeout,1s --update-interval 100ms --ledger \
         {login}@{first},{second}/playcounts?target_session_attrs=read-write&connect_timeout=2"
    );
    Running::start(dir, &line.split_whitespace().collect::<Vec<_>>())
}

/// The standby has all that was finished, so that whoever goes on there counts each play once.
#[test]
fn with_a_synchronous_standby_a_failover_loses_nothing() {
    let mut primary = postgres_or_skip!();
    let standby = primary.replica();
    primary.set("synchronous_standby_names", &format!("ANY 1 ({})", standby.name()));
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let both = ["one", "two"].map(|data| start(dir, [&primary, &standby], &broker, &url, data));
    let producer = Uuid::new_v4();
    let mut published = 0;
    while published < 1_500 {
        publish(&broker, producer, published..published + 50);
        published += 50;
        if published == 1_000 {
            wait_until("they count", || total(&url) >= 500);
            primary.crash();
        }
    }
    standby.promote();
    wait_until("all are counted", || total(&url) == published);
    publish(&broker, producer, 0..2_000);
    wait_until("what is new is counted", || total(&url) == 2_000);
    for process in both {
        process.signal(Signal::TERM);
        assert_exit(&process.wait(), 0);
    }
    let seen = "SELECT watermark + (SELECT coalesce(sum(bit_count(bits)), 0) FROM playcounts.seen) FROM playcounts.producers";
    assert_eq!((standby.sql(seen), total(&url)), ("2000".to_owned(), 2_000));
}

/// A standby that lagged lacks plays that were finished: the processor knows of them, and counts nothing until it is told to.
#[test]
fn with_a_standby_that_lags_a_failover_is_told() {
    let mut primary = postgres_or_skip!();
    let mut standby = primary.replica();
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let broker = Broker::ours(dir);
    let (_dashboard, url) = support::dashboard(dir);
    let process = start(dir, [&primary, &standby], &broker, &url, "one");
    let producer = Uuid::new_v4();
    publish(&broker, producer, 0..100);
    wait_until("the first are counted", || total(&url) == 100);
    primary.wait_for_replica(&standby);
    standby.stop();
    publish(&broker, producer, 100..150);
    wait_until("the others are counted", || total(&url) == 150);
    primary.crash();
    standby.restart();
    standby.promote();
    publish(&broker, producer, 150..200);
    let ended = process.wait();
    assert_exit(&ended, 1);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("synchronous_standby_names"), "{said}");
    let (status, why) = health(&url);
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("synchronous_standby_names"), "{why}");
    assert_eq!(total(&url), 150);
    // What nobody has any more is accepted as lost, and the rest goes on.
    let process = start(dir, [&primary, &standby], &broker, &url, "one --accept-loss");
    wait_until("what came since is counted", || total(&url) == 150);
    wait_until("it is what the database holds", || {
        standby.sql("SELECT sum(bit_count(bits)) FROM playcounts.seen") == "150"
    });
    publish(&broker, producer, 100..150);
    wait_until("what is published again is counted", || total(&url) == 200);
    process.signal(Signal::TERM);
    assert_exit(&process.wait(), 0);
}
