//! The client of PostgreSQL against a real server.

use std::time::{Duration, Instant};

use playcounts::postgres::{Param, PgConfig, PgConnection, PgErrorKind};
use uuid::Uuid;

use crate::postgres_server::{Postgres, postgres_or_skip};

fn config(url: &str) -> PgConfig {
    PgConfig::parse(url, &|_| None).unwrap()
}

fn connect(server: &Postgres) -> PgConnection {
    PgConnection::connect(&config(&server.url())).unwrap()
}

#[test]
fn values_of_each_type_come_back_as_they_were() {
    let server = postgres_or_skip!();
    let mut connection = connect(&server);
    assert_eq!(connection.server(), server.addr());
    let id = Uuid::new_v4();
    let rows = connection.query(
        "SELECT $1, $2, $3, $4, $5, $6::int8, 7::int2, 8::int4, $7[2], $8[2], $9[1], cardinality($10::int8[])",
        &[
            Param::Bool(true),
            Param::Int(i64::MIN),
            Param::Text("größer"),
            Param::Bytes(&[0, 255]),
            Param::Uuid(id),
            Param::Null,
            Param::Ints(&[1, -2]),
            Param::ByteArrays(&[b"", b"\0x"]),
            Param::Uuids(&[id]),
            Param::Ints(&[]),
        ],
    );
    let rows = rows.unwrap();
    assert_eq!(rows.len(), 1);
    let row = rows.first().unwrap();
    assert!(row.bool(0).unwrap());
    assert_eq!(row.int(1).unwrap(), i64::MIN);
    assert_eq!(row.text(2).unwrap(), "größer");
    assert_eq!(row.bytes(3).unwrap(), [0, 255]);
    assert_eq!(row.uuid(4).unwrap(), id);
    assert_eq!(row.int_opt(5).unwrap(), None);
    assert_eq!((row.int(6).unwrap(), row.int(7).unwrap()), (7, 8));
    assert_eq!(row.int(8).unwrap(), -2);
    assert_eq!(row.bytes(9).unwrap(), b"\0x");
    assert_eq!(row.uuid(10).unwrap(), id);
    assert_eq!(row.int(11).unwrap(), 0);
    // Another type, NULL and no such column are errors that say so.
    for (error, want) in [
        (row.int(2).unwrap_err(), "column 2 (type 25) is not an integer"),
        (row.int(5).unwrap_err(), "column 5 is NULL"),
        (row.text(12).unwrap_err(), "a row has 12 columns, none with index 12"),
    ] {
        assert!(error.to_string().ends_with(want), "{error}");
    }
}

#[test]
fn a_failed_statement_spoils_its_own_group_only() {
    let server = postgres_or_skip!();
    let mut connection = connect(&server);
    // Twice: with statements that are prepared on the way, and with prepared ones.
    for _ in 0..2 {
        for divisor in [2, 0, 4] {
            connection.statement("SELECT 8 / $1", &[Param::Int(divisor)]).unwrap();
            connection.statement("SELECT $1::int8 + 1", &[Param::Int(divisor)]).unwrap();
            connection.sync();
        }
        let answers = connection.exchange().unwrap();
        let [first, second, third] = &answers[..] else { panic!("{answers:?}") };
        let ints = |rows: &[playcounts::postgres::PgRows]| -> Vec<i64> {
            rows.iter().map(|rows| rows.first().unwrap().int(0).unwrap()).collect()
        };
        assert_eq!(ints(first.as_ref().unwrap()), [4, 3]);
        assert_eq!(ints(third.as_ref().unwrap()), [2, 5]);
        let error = second.as_ref().unwrap_err();
        assert_eq!((error.sqlstate(), error.kind()), (Some("22012"), PgErrorKind::Refused));
    }
    // A statement that is wrong is not taken for prepared.
    for _ in 0..2 {
        let error = connection.query("SELECT nothing_of_that_name", &[]).unwrap_err();
        assert_eq!(error.sqlstate(), Some("42703"), "{error}");
    }
    assert_eq!(connection.exchange().unwrap(), []);
}

#[test]
fn a_wrong_password_and_a_missing_database_say_the_way_out() {
    let server = postgres_or_skip!();
    let refused = |url: String| PgConnection::connect(&config(&url)).unwrap_err();
    let addr = server.addr();
    let error = refused(server.url().replace("never-shown", "wrong"));
    assert_eq!((error.sqlstate(), error.kind()), (Some("28P01"), PgErrorKind::Refused));
    assert_eq!(
        error.to_string(),
        format!(
            "PostgreSQL at {addr}: password authentication failed for user \"playcounts\" (SQLSTATE 28P01): set the \
             right password in the URL, PGPASSWORD or the file that PGPASSFILE names"
        )
    );
    let error =
        refused(server.url().replace(&format!("{addr}/playcounts"), &format!("{addr}/nothing")));
    assert_eq!((error.sqlstate(), error.kind()), (Some("3D000"), PgErrorKind::Refused));
    assert!(error.to_string().ends_with("create it with createdb, or name another one in the URL"));
    let error = refused(server.url().replace(":never-shown", ""));
    assert!(error.to_string().contains("it wants a password, and there is none"), "{error}");
}

#[test]
fn a_server_that_crashes_ends_the_exchange_and_is_connected_to_again() {
    let mut server = postgres_or_skip!();
    let mut connection = connect(&server);
    connection.script("CREATE TABLE t (n int8); INSERT INTO t VALUES (1)").unwrap();
    server.crash();
    let started = Instant::now();
    let error = connection.query("SELECT n FROM t", &[]).unwrap_err();
    assert_eq!(error.kind(), PgErrorKind::Away, "{error}");
    assert!(connection.is_broken());
    assert_eq!(connection.query("SELECT n FROM t", &[]).unwrap_err(), error);
    let error = PgConnection::connect(&config(&server.url())).unwrap_err();
    assert_eq!(error.kind(), PgErrorKind::Away, "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
    server.restart();
    let rows = connect(&server).query("SELECT n FROM t", &[]).unwrap();
    assert_eq!(rows.first().unwrap().int(0).unwrap(), 1);
    assert_eq!(server.sql("SELECT n FROM t"), "1");
}
