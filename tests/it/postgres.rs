//! The client of PostgreSQL against a real server.

use std::time::{Duration, Instant};

use playcounts::postgres::{CopyRows, CopyValue, Param, PgConfig, PgConnection, PgErrorKind};
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
fn rows_are_copied_with_the_statements_around_them_or_refused_with_them() {
    const COPY: &str = "COPY t (small, large, bytes) FROM STDIN (FORMAT binary)";
    let server = postgres_or_skip!();
    let mut connection = connect(&server);
    connection
        .script("CREATE TABLE t (small int2, large int4, bytes bytea, PRIMARY KEY (bytes))")
        .unwrap();
    // Prepared the first time, and more than any socket's buffers hold.
    for first in [0i32, 20_000] {
        let mut rows = CopyRows::with_capacity(0);
        for number in first..first + 20_000 {
            let bytes = [&number.to_be_bytes()[..], &[0, 255]].concat();
            rows.push([CopyValue::Int2(-7), CopyValue::Int4(number), CopyValue::Bytes(&bytes)]);
        }
        connection.statement("BEGIN", &[]).unwrap();
        connection.copy(COPY, &rows).unwrap();
        connection.statement("SELECT count(*) FROM t", &[]).unwrap();
        connection.statement("COMMIT", &[]).unwrap();
        let answer = connection.exchange().unwrap().pop().unwrap().unwrap();
        assert_eq!(answer[2].first().unwrap().int(0).unwrap(), i64::from(first + 20_000));
    }
    let all = "SELECT min(small), max(large), max(encode(bytes, 'hex')) FROM t";
    assert_eq!(server.sql(all), "-7|39999|00009c3f00ff");
    // A row that is there, a value of another type, and a statement before that fails: nothing of the group stays.
    let mut rows = CopyRows::with_capacity(100);
    rows.push([CopyValue::Int2(1), CopyValue::Int4(2), CopyValue::Bytes(b"new")]);
    let good = rows.clone();
    rows.push([CopyValue::Int2(1), CopyValue::Int4(2), CopyValue::Bytes(b"new")]);
    let mut other = CopyRows::with_capacity(100);
    other.push([CopyValue::Int4(1), CopyValue::Int4(2), CopyValue::Bytes(b"new")]);
    for (before, rows, state) in [
        ("SELECT 1", &rows, "23505"),
        ("SELECT 1", &other, "22P03"),
        ("SELECT 1 / 0", &good, "22012"),
    ] {
        connection.statement(before, &[]).unwrap();
        connection.copy(COPY, rows).unwrap();
        connection.sync();
        connection.statement("SELECT count(*) FROM t", &[]).unwrap();
        let [first, second] = &connection.exchange().unwrap()[..] else { panic!("two groups") };
        assert_eq!(first.as_ref().unwrap_err().sqlstate(), Some(state));
        assert_eq!(second.as_ref().unwrap()[0].first().unwrap().int(0).unwrap(), 40_000);
    }
    // What is given no rows is not waited for.
    let error = connection.query("COPY t FROM STDIN", &[]).unwrap_err();
    assert!(
        error.to_string().ends_with("a statement with COPY for which no rows were given"),
        "{error}"
    );
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

#[test]
fn a_server_that_dies_in_a_commit_is_the_outer_error() {
    // Nobody confirms, so that a COMMIT waits until the server is killed.
    let mut server = postgres_or_skip!();
    connect(&server).script("CREATE TABLE t (n int8)").unwrap();
    server.set("synchronous_standby_names", "nobody");
    let mut connection = connect(&server);
    connection.statement("BEGIN", &[]).unwrap();
    connection.statement("INSERT INTO t VALUES ($1)", &[Param::Int(1)]).unwrap();
    connection.statement("COMMIT", &[]).unwrap();
    let waiting = std::thread::spawn(move || connection.exchange().map(|_| ()));
    let started = Instant::now();
    while server.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") != "1" {
        assert!(started.elapsed() < Duration::from_secs(30), "the COMMIT does not wait");
    }
    server.crash();
    let error = waiting.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), PgErrorKind::Away, "{error}");
    // This one did take place: only the database can tell.
    server.restart();
    assert_eq!(server.sql("SELECT n FROM t"), "1");
}

#[test]
fn a_server_that_stands_still_is_given_up_in_time() {
    let server = postgres_or_skip!();
    let url = format!("{}?answer_timeout=1&connect_timeout=1", server.url());
    let mut connection = PgConnection::connect(&config(&url)).unwrap();
    server.signal(rustix::process::Signal::STOP);
    let started = Instant::now();
    let error = connection.query("SELECT 1", &[]).unwrap_err();
    assert_eq!(error.kind(), PgErrorKind::Away);
    assert!(error.to_string().ends_with("no answer within 1 s (answer_timeout)"), "{error}");
    let error = PgConnection::connect(&config(&url)).unwrap_err();
    assert!(error.to_string().ends_with("no answer within the connect_timeout"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
    server.signal(rustix::process::Signal::CONT);
    connect(&server).query("SELECT 1", &[]).unwrap();
}

#[test]
fn a_transaction_that_stood_still_was_ended_by_the_server() {
    let server = postgres_or_skip!();
    let mut connection = connect(&server);
    connection.query("SET idle_in_transaction_session_timeout = 50", &[]).unwrap();
    connection.query("BEGIN", &[]).unwrap();
    let started = Instant::now();
    let me = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'playcounts'";
    while server.sql(me) != "0" {
        assert!(started.elapsed() < Duration::from_secs(30), "the session does not end");
    }
    let error = connection.query("SELECT 1", &[]).unwrap_err();
    assert_eq!((error.sqlstate(), error.kind()), (Some("25P03"), PgErrorKind::Away));
    assert!(error.to_string().contains("the transaction was rolled back, because"), "{error}");
}

#[test]
fn much_each_way_at_once_does_not_stop() {
    let server = postgres_or_skip!();
    let mut connection = connect(&server);
    let ints: Vec<i64> = (0..100_000).collect();
    let bytes: Vec<[u8; 8]> = ints.iter().map(|int| int.to_be_bytes()).collect();
    let byte_arrays: Vec<&[u8]> = bytes.iter().map(|bytes| &bytes[..]).collect();
    let ids: Vec<Uuid> = ints.iter().map(|int| Uuid::from_u128(*int as u128)).collect();
    let params = [Param::Ints(&ints), Param::ByteArrays(&byte_arrays), Param::Uuids(&ids)];
    let sql = "SELECT * FROM unnest($1, $2, $3) AS t(n, b, u)";
    // The server answers the first groups, more than any socket's buffers hold, while the last ones still come.
    for _ in 0..4 {
        connection.statement(sql, &params).unwrap();
        connection.sync();
    }
    let answers = connection.exchange().unwrap();
    assert_eq!(answers.len(), 4);
    for answer in answers {
        let rows = answer.unwrap().pop().unwrap();
        assert_eq!(rows.len(), ints.len());
        for (row, int) in rows.iter().zip(&ints) {
            assert_eq!(row.int(0).unwrap(), *int);
            assert_eq!(row.bytes(1).unwrap(), int.to_be_bytes());
            assert_eq!(row.uuid(2).unwrap().as_u128(), *int as u128);
        }
    }
    // One value of 10 MB, there and back.
    let large = vec![7; 10 << 20];
    let rows = connection.query("SELECT $1::bytea", &[Param::Bytes(&large)]).unwrap();
    assert_eq!(rows.first().unwrap().bytes(0).unwrap(), large);
}

#[test]
fn what_is_too_much_is_refused_and_the_rest_goes_on() {
    let server = postgres_or_skip!();
    let mut connection = connect(&server);
    let large = vec![0; 257 << 20];
    let error = connection.statement("SELECT $1::bytea", &[Param::Bytes(&large)]).unwrap_err();
    assert!(error.to_string().ends_with("more than 65535 values or 256 MiB at once"), "{error}");
    drop(large);
    assert_eq!(connection.query("SELECT 1", &[]).unwrap().len(), 1);
    let error = connection.script("SELECT 1; COPY pg_class TO STDOUT").unwrap_err();
    assert!(error.to_string().ends_with("a script with COPY: that is not done here"), "{error}");
    // Rows that do not end are given up when they are too many.
    let mut connection = connect(&server);
    let sql = "SELECT repeat('x', 1000000) FROM generate_series(1, 1000)";
    let error = connection.query(sql, &[]).unwrap_err();
    assert!(error.to_string().ends_with("it answers with more than 256 MiB at once"), "{error}");
}

#[test]
fn what_the_server_refuses_says_the_way_out_and_what_it_calls_for() {
    let mut server = postgres_or_skip!("max_connections=5", "superuser_reserved_connections=3");
    server.sql("CREATE TABLE theirs (n int8)");
    let mut connection = connect(&server);
    let sql = "SELECT n FROM theirs";
    let error = connection.query(sql, &[]).unwrap_err();
    assert_eq!((error.sqlstate(), error.kind()), (Some("42501"), PgErrorKind::Refused));
    assert!(error.to_string().contains("permission denied for table theirs"), "{error}");
    // The statement of another session, as behind PgBouncer in transaction mode.
    let ours = "SELECT 1";
    connection.query(ours, &[]).unwrap();
    connection.query("DEALLOCATE ALL", &[]).unwrap();
    let error = connection.query(ours, &[]).unwrap_err();
    assert_eq!((error.sqlstate(), error.kind()), (Some("26000"), PgErrorKind::Refused));
    assert!(error.to_string().contains("PgBouncer in transaction mode"), "{error}");
    connection.query(ours, &[]).unwrap();
    // A table that has changed since a statement was prepared.
    connection.script("CREATE TABLE ours (n int8)").unwrap();
    let all = "SELECT * FROM ours";
    connection.query(all, &[]).unwrap();
    connection.script("ALTER TABLE ours ADD m text").unwrap();
    assert_eq!(connection.query(all, &[]).unwrap_err().kind(), PgErrorKind::Retry);
    connection.query(all, &[]).unwrap();
    connection.query("SET default_transaction_read_only = on", &[]).unwrap();
    let error = connection.query("INSERT INTO ours VALUES (1)", &[]).unwrap_err();
    assert_eq!((error.sqlstate(), error.kind()), (Some("25006"), PgErrorKind::Away));
    assert!(error.to_string().contains("target_session_attrs=read-write"), "{error}");

    let second = connect(&server);
    let error = PgConnection::connect(&config(&server.url())).unwrap_err();
    assert_eq!((error.sqlstate(), error.kind()), (Some("53300"), PgErrorKind::Away));
    assert!(error.to_string().contains("raise max_connections"), "{error}");
    drop((connection, second));

    let addr = server.addr();
    server.stop();
    let error = PgConnection::connect(&config(&server.url())).unwrap_err();
    assert_eq!(error.kind(), PgErrorKind::Away);
    assert_eq!(
        error.to_string(),
        format!(
            "PostgreSQL at {addr}: nobody listens there: is the server up, and listen_addresses set for this address?"
        )
    );
}

#[test]
fn two_transactions_in_each_others_way_are_told_to_try_again() {
    let server = postgres_or_skip!();
    let mut one = connect(&server);
    let mut two = connect(&server);
    one.script("CREATE TABLE t (n int8); INSERT INTO t VALUES (1)").unwrap();
    for connection in [&mut one, &mut two] {
        connection.query("BEGIN ISOLATION LEVEL SERIALIZABLE", &[]).unwrap();
        connection.query("SELECT sum(n)::int8 FROM t", &[]).unwrap();
    }
    one.query("UPDATE t SET n = 2", &[]).unwrap();
    one.query("COMMIT", &[]).unwrap();
    let error = two.query("UPDATE t SET n = 3", &[]).unwrap_err();
    assert_eq!((error.sqlstate(), error.kind()), (Some("40001"), PgErrorKind::Retry));
}

#[test]
fn a_socket_of_the_machine_and_md5_let_us_in() {
    let server = postgres_or_skip!();
    let dir = server.dir().display();
    let port = server.port();
    let url = format!("host={dir} port={port} user=playcounts password=never-shown");
    let connection = PgConnection::connect(&config(&url)).unwrap();
    assert_eq!(connection.server(), format!("{dir}/.s.PGSQL.{port}"));
    let none = format!("host={dir} port=1 user=playcounts");
    let error = PgConnection::connect(&config(&none)).unwrap_err().to_string();
    assert!(
        error.ends_with("there is no such socket: is the server up, and this its port?"),
        "{error}"
    );

    server.sql("SET password_encryption = md5; CREATE USER old PASSWORD 'hidden'");
    server.add_hba("host playcounts old 127.0.0.1/32 md5");
    let url = |password: &str| format!("postgres://old:{password}@{}/playcounts", server.addr());
    PgConnection::connect(&config(&url("hidden"))).unwrap();
    let error = PgConnection::connect(&config(&url("other"))).unwrap_err();
    assert_eq!(error.sqlstate(), Some("28P01"));

    // As it is, a password goes nowhere but over the machine's socket.
    server.add_hba("host playcounts old 127.0.0.1/32 password");
    server.add_hba("local playcounts old password");
    let error = PgConnection::connect(&config(&url("hidden"))).unwrap_err().to_string();
    assert!(error.contains("it wants the password as it is"), "{error}");
    let local = format!("host={dir} port={port} user=old password=hidden dbname=playcounts");
    PgConnection::connect(&config(&local)).unwrap();
}

#[test]
fn what_the_string_says_of_the_session_is_so() {
    let server = postgres_or_skip!();
    let url = format!("{}?options=-c%20work_mem%3D123kB%20-c%20TimeZone%3DJapan", server.url());
    let sql = "SELECT current_setting('work_mem'), current_setting('TimeZone'), current_setting('application_name')";
    let row = |url: &str| {
        let rows = PgConnection::connect(&config(url)).unwrap().query(sql, &[]).unwrap();
        let row = rows.first().unwrap();
        [0, 1, 2].map(|column| row.text(column).unwrap().to_owned())
    };
    assert_eq!(row(&url), ["123kB", "Japan", "playcounts"]);
    assert_eq!(row(&format!("{}?application_name=me", server.url()))[2], "me");
}
