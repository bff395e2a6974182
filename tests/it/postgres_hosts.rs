//! The client of PostgreSQL and several servers: which of them it takes.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use playcounts::postgres::{PgConfig, PgConnection, PgError, PgErrorKind};

use crate::postgres_server::{Postgres, postgres_or_skip};

/// Connects to the first of `hosts` that is what `target` says.
fn connect(hosts: &str, target: &str) -> Result<PgConnection, PgError> {
    let url = format!(
        "postgres://playcounts:never-shown@{hosts}/playcounts?connect_timeout=2&target_session_attrs={target}"
    );
    PgConnection::connect(&PgConfig::parse(&url, &|_| None).unwrap())
}

/// A port with nobody behind it.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn the_server_that_is_wanted_is_found_before_and_after_a_failover() {
    let mut primary = postgres_or_skip!();
    let replica = primary.replica();
    let (first, second) = (primary.addr(), replica.addr());
    let hosts = [format!("{first},{second}"), format!("{second},{first}")];
    for hosts in &hosts {
        let in_order = hosts.split(',').next().unwrap();
        for (target, want) in [
            ("any", in_order),
            ("read-write", &*first),
            ("primary", &*first),
            ("read-only", &*second),
            ("standby", &*second),
            ("prefer-standby", &*second),
        ] {
            assert_eq!(connect(hosts, target).unwrap().server(), want, "{hosts} {target}");
        }
    }
    // Alone, the wrong one is no answer; a wish is no condition.
    let error = connect(&second, "read-write").unwrap_err();
    assert_eq!(error.kind(), PgErrorKind::Away);
    assert_eq!(
        error.to_string(),
        format!(
            "PostgreSQL at {second}: it is a standby, read-only, and target_session_attrs=read-write wants another"
        )
    );
    assert_eq!(connect(&first, "prefer-standby").unwrap().server(), first);
    // A replica that is asked to write says where to look.
    let error = connect(&second, "any").unwrap().query("CREATE TABLE t ()", &[]).unwrap_err();
    assert_eq!((error.sqlstate(), error.kind()), (Some("25006"), PgErrorKind::Away));

    connect(&first, "any").unwrap().script("CREATE TABLE t (n int8)").unwrap();
    primary.wait_for_replica(&replica);
    let mut before = connect(&hosts[0], "read-write").unwrap();
    primary.crash();
    assert_eq!(before.query("SELECT n FROM t", &[]).unwrap_err().kind(), PgErrorKind::Away);
    let error = connect(&hosts[0], "read-write").unwrap_err();
    assert_eq!(error.kind(), PgErrorKind::Away);
    let all = format!("PostgreSQL at {}: {first}: nobody listens there", hosts[0]);
    assert!(error.to_string().starts_with(&all), "{error}");
    assert!(error.to_string().contains(&format!("; {second}: it is a standby")), "{error}");
    replica.promote();
    let mut after = connect(&hosts[0], "read-write").unwrap();
    assert_eq!(after.server(), second);
    after.query("INSERT INTO t VALUES (1)", &[]).unwrap();
}

#[test]
fn a_host_that_is_not_there_is_passed_by() {
    let server = postgres_or_skip!();
    // Refused, a name that nobody has, and one that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_addr = silent.local_addr().unwrap();
    let hosts = format!("{},no-such-host.invalid:1,{silent_addr},{}", nobody(), server.addr());
    let started = Instant::now();
    assert_eq!(connect(&hosts, "any").unwrap().server(), server.addr());
    assert!(started.elapsed() < Duration::from_secs(20));
    let error = connect(&format!("{},no-such-host.invalid:1", nobody()), "any").unwrap_err();
    assert_eq!(error.kind(), PgErrorKind::Away);
    assert!(error.to_string().contains("no-such-host.invalid:1: its name is not found"), "{error}");
}

#[test]
fn a_login_that_is_refused_is_not_tried_elsewhere() {
    let server = postgres_or_skip!();
    let other: &Postgres = &postgres_or_skip!();
    server.sql("ALTER ROLE playcounts PASSWORD 'another'");
    let error = connect(&format!("{},{}", server.addr(), other.addr()), "any").unwrap_err();
    assert_eq!(error.sqlstate(), Some("28P01"));
    assert_eq!(connect(&other.addr(), "any").unwrap().server(), other.addr());
}
