//! Connection strings, whole and broken.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn parsed(text: &str) -> Vec<(String, String)> {
    parse(text).unwrap()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[test]
fn a_url_is_taken_apart_as_libpq_does() {
    assert_eq!(parsed("postgres://"), []);
    assert_eq!(parsed("postgresql:///plays"), pairs(&[("dbname", "plays")]));
    assert_eq!(
        parsed(
            "postgres://me:p%40ss%2F@db1:5433,db2,[2001:db8::1]:5435/plays?sslmode=verify-full&options=-c%20a%3Db"
        ),
        pairs(&[
            ("user", "me"),
            ("password", "p@ss/"),
            ("host", "db1,db2,2001:db8::1"),
            ("port", "5433,,5435"),
            ("dbname", "plays"),
            ("sslmode", "verify-full"),
            ("options", "-c a=b"),
        ])
    );
    let socket = pairs(&[("host", "/var/run"), ("dbname", "plays")]);
    assert_eq!(parsed("postgres://%2Fvar%2Frun/plays"), socket);
    assert_eq!(parsed("postgres:///plays?host=/tmp&port=1")[1], ("host".into(), "/tmp".into()));
    // An '@' in a password is no end of it.
    assert_eq!(parsed("postgres://me:a@b@db")[..2], pairs(&[("user", "me"), ("password", "a@b")]));
    assert_eq!(parsed("postgres://db?ssl=true")[1], ("sslmode".into(), "require".into()));
}

#[test]
fn pairs_are_taken_apart_as_libpq_does() {
    assert_eq!(
        parsed(r" host=db port = 5433 password='it\'s \\ a' dbname=a\ b user='' "),
        pairs(&[
            ("host", "db"),
            ("port", "5433"),
            ("password", r"it's \ a"),
            ("dbname", "a b"),
            ("user", ""),
        ])
    );
    assert_eq!(parsed("password=a://b")[..], pairs(&[("password", "a://b")]));
}

#[test]
fn what_is_wrong_is_said_without_what_may_be_a_password() {
    for (text, want) in [
        ("mysql://db", "it begins with postgres://"),
        ("mysql://db?user=secret", "it begins with postgres://"),
        ("plays", "neither postgres://user@host/database nor host=… dbname=…"),
        (
            "postgres://me:se/cret@db/x",
            "a '/', '?' or '@' in user, password or database must be written",
        ),
        (
            "postgres://me:50%secret@db",
            "password: a '%' without two hexadecimal digits; itself it is %25",
        ),
        ("postgres://me:%ff@db", "password is not UTF-8"),
        ("postgres://db/a%00b", "dbname holds a zero byte"),
        ("postgres://[::1/x", "a '[' of a host has no ']'"),
        ("postgres://[::1]5/x", "behind the ']' of a host comes a ':' and a port"),
        ("postgres://db?secret", "a parameter behind the '?' has no '='"),
        ("host=db secret", "a parameter has no '='"),
        ("password='secret", "a value's quote is not closed"),
        (r"password=secret\", r"a '\' has nothing behind it"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(want), "{text}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    assert!(
        parse(&format!("host={}", "x".repeat(MAX_URL))).unwrap_err().starts_with("longer than")
    );
    assert_eq!(name_of("Secret!"), "a parameter");
}

proptest! {
    #[test]
    fn any_text_is_taken_apart_or_refused(text in "(postgres://)?[a-z:/@?&=%,\\[\\]'\\\\ \\x00é0-9]{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_value_comes_back_as_it_was(value in "[^\\x00]{1,40}", password in "[^\\x00]{1,40}") {
        let encode = |text: &str| -> String {
            text.bytes().map(|byte| format!("%{byte:02X}")).collect()
        };
        let url = format!("postgres://me:{}@db/{}", encode(&password), encode(&value));
        let want = pairs(&[("user", "me"), ("password", &password), ("host", "db"), ("dbname", &value)]);
        prop_assert_eq!(parse(&url).unwrap(), want);
        let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
        let want = pairs(&[("dbname", &value), ("user", "me")]);
        prop_assert_eq!(parse(&format!("dbname='{quoted}' user=me")).unwrap(), want);
    }
}
