//! SIGTERM to a processor whose ledger is in PostgreSQL: it ends within 10 s, also when the server is away; when it hangs, as
//! soon as the answer that is on its way has been given up.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use uuid::Uuid;

use crate::postgres_server::{Postgres, postgres_or_skip};
use crate::stop::{STOP_MAX, stop, stop_within};
use crate::support::{self, Broker, Running, assert_exit, publish, total, wait_until};

/// What a stop may take while the server hangs: the answer to the commit that is on its way is waited for, for 10 s, between
/// questions of 3 s each that had the ledger before it and get it behind it; and what a busy machine adds.
const HUNG_MAX: Duration = Duration::from_secs(20);

fn process(dir: &Path, server: &Postgres, broker: &Broker, url: &str) -> Running {
    let (tcp, http, ledger) = (broker.tcp(), broker.http(), server.url());
    let line = format!(
        "process --nsqd-tcp-address {tcp} --nsqd-http-address {http} --dashboard-url {url} --data-dir ledger \
         --consumer-opt msg_timeout,1s --update-interval 100ms --ledger {ledger}"
    );
    Running::start(dir, &line.split(' ').collect::<Vec<_>>())
}

/// What it held is counted by the next start, once.
#[test]
fn a_processor_whose_database_is_there_away_or_hangs_ends() {
    let mut server = postgres_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let (broker, producer) = (Broker::ours(dir.path()), Uuid::new_v4());
    let (_dashboard, url) = support::dashboard(dir.path());
    let mut plays = 0;
    for what in ["a database", "a database that is away", "a database that hangs"] {
        let process = process(dir.path(), &server, &broker, &url);
        publish(&broker, producer, plays..plays + 2_000);
        plays += 2_000;
        wait_until("they are counted", || total(&url) == plays);
        match what {
            "a database that is away" => server.stop(),
            "a database that hangs" => server.signal(Signal::STOP),
            _ => {}
        }
        // Held, and not to be counted unless the database is there.
        publish(&broker, producer, plays..plays + 2_000);
        plays += 2_000;
        let most = if what == "a database that hangs" { HUNG_MAX } else { STOP_MAX };
        let ended = stop_within(most, process, what);
        assert!(ended.status.code().is_some_and(|code| code < 2), "{ended:#?}");
        match what {
            "a database that is away" => server.restart(),
            "a database that hangs" => server.signal(Signal::CONT),
            _ => {}
        }
    }
    let last = process(dir.path(), &server, &broker, &url);
    wait_until("all is counted, once", || total(&url) == plays);
    assert_exit(&stop(last, "the last one"), 0);
    assert_eq!(total(&url), plays);
}
