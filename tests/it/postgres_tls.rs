//! The client of PostgreSQL and TLS: what is encrypted, and whose certificate is believed.

use std::path::Path;

use playcounts::postgres::{Param, PgConfig, PgConnection, PgError, PgErrorKind};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use crate::certs::{Authority, Issued};
use crate::postgres_server::{Postgres, postgres_or_skip};

fn connect(server: &Postgres, rest: &str) -> Result<PgConnection, PgError> {
    let url = format!("{}?{rest}", server.url());
    PgConnection::connect(&PgConfig::parse(&url, &|_| None).unwrap())
}

fn is_encrypted(mut connection: PgConnection) -> bool {
    let rows =
        connection.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).unwrap();
    rows.first().unwrap().bool(0).unwrap()
}

fn present(server: &Postgres, issued: &Issued) {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    server.enable_tls(&read(&issued.cert), &read(&issued.key));
}

#[test]
fn the_sslmode_decides_what_is_encrypted_and_believed() {
    let server = postgres_or_skip!();
    let (ours, other) = (Authority::new(), Authority::new());
    let ca = |authority: &Authority, mode: &str| {
        format!("sslmode={mode}&sslrootcert={}", authority.ca_file().display())
    };
    // Without TLS on the server.
    for mode in ["disable", "allow", "prefer"] {
        assert!(!is_encrypted(connect(&server, &format!("sslmode={mode}")).unwrap()), "{mode}");
    }
    for rest in ["sslmode=require".to_owned(), ca(&ours, "verify-full")] {
        let error = connect(&server, &rest).unwrap_err();
        assert_eq!(error.kind(), PgErrorKind::Refused);
        assert!(error.to_string().ends_with("set ssl = on in its postgresql.conf"), "{error}");
    }
    present(&server, &ours.issue_local());
    for (mode, want) in [("disable", false), ("allow", false), ("prefer", true), ("require", true)]
    {
        assert_eq!(
            is_encrypted(connect(&server, &format!("sslmode={mode}")).unwrap()),
            want,
            "{mode}"
        );
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        assert!(is_encrypted(connect(&server, &ca(&ours, mode)).unwrap()), "{mode}");
        let error = connect(&server, &ca(&other, mode)).unwrap_err();
        assert_eq!(error.kind(), PgErrorKind::Refused, "{error}");
        assert!(error.to_string().ends_with("signed its certificate as sslrootcert"), "{error}");
    }
    let strict = format!("{}&ssl_min_protocol_version=TLSv1.3", ca(&ours, "verify-full"));
    assert!(is_encrypted(connect(&server, &strict).unwrap()));
    let error = connect(&server, "sslmode=verify-full&sslrootcert=system").unwrap_err();
    assert_eq!(error.kind(), PgErrorKind::Refused, "{error}");
    let error = connect(&server, "sslmode=verify-full&sslrootcert=/no/such.pem").unwrap_err();
    assert!(error.to_string().contains("cannot read /no/such.pem: No such file"), "{error}");

    // A server that takes one of both only: allow and prefer find it.
    server.add_hba("hostnossl all playcounts 127.0.0.1/32 reject");
    assert!(is_encrypted(connect(&server, "sslmode=allow").unwrap()));
    let error = connect(&server, "sslmode=disable").unwrap_err();
    assert!(error.to_string().contains("pg_hba.conf does not let this user in"), "{error}");
    server.add_hba("hostssl all playcounts 127.0.0.1/32 reject");
    server.add_hba("hostnossl all playcounts 127.0.0.1/32 scram-sha-256");
    assert!(!is_encrypted(connect(&server, "sslmode=prefer").unwrap()));
}

#[test]
fn the_name_in_the_certificate_counts_with_verify_full_only() {
    let server = postgres_or_skip!();
    let ours = Authority::new();
    present(&server, &ours.issue("db.example", |_| {}));
    let ca = ours.ca_file();
    let rest = |mode: &str| format!("sslmode={mode}&sslrootcert={}", ca.display());
    assert!(is_encrypted(connect(&server, &rest("verify-ca")).unwrap()));
    let error = connect(&server, &rest("verify-full")).unwrap_err();
    assert_eq!(error.kind(), PgErrorKind::Refused);
    assert!(error.to_string().ends_with("or use sslmode=verify-ca"), "{error}");
    let named = format!(
        "host=db.example hostaddr=127.0.0.1 port={} user=playcounts password=never-shown sslmode=verify-full \
         sslrootcert={}",
        server.port(),
        ca.display()
    );
    let config = PgConfig::parse(&named, &|_| None).unwrap();
    let connection = PgConnection::connect(&config).unwrap();
    assert_eq!(connection.server(), format!("db.example:{}", server.port()));
    assert!(is_encrypted(connection));
}

#[test]
fn certificates_that_are_no_good_say_why() {
    let server = postgres_or_skip!();
    let ours = Authority::new();
    let rest = format!("sslmode=verify-full&sslrootcert={}", ours.ca_file().display());
    present(&server, &ours.issue_expired());
    let error = connect(&server, &rest).unwrap_err();
    assert_eq!(error.kind(), PgErrorKind::Refused);
    assert!(error.to_string().contains("certificate expired"), "{error}");
    // As `openssl req -x509` makes it.
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let own = params.self_signed(&key).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.pem");
    std::fs::write(&file, own.pem()).unwrap();
    server.enable_tls(&own.pem(), &key.serialize_pem());
    let rest = format!("sslmode=verify-full&sslrootcert={}", file.display());
    let error = connect(&server, &rest).unwrap_err();
    assert!(error.to_string().contains("basicConstraints=critical,CA:FALSE"), "{error}");
}

#[test]
fn a_certificate_of_our_own_lets_us_in() {
    let server = postgres_or_skip!();
    let ours = Authority::new();
    present(&server, &ours.issue_local());
    let ca = std::fs::read_to_string(ours.ca_file()).unwrap();
    std::fs::write(server.data().join("ca.pem"), ca).unwrap();
    server.set("ssl_ca_file", "ca.pem");
    server.add_hba("hostssl all playcounts 127.0.0.1/32 scram-sha-256 clientcert=verify-ca");
    let rest = format!("sslmode=verify-full&sslrootcert={}", ours.ca_file().display());
    let error = connect(&server, &rest).unwrap_err();
    assert_eq!(error.sqlstate(), Some("28000"), "{error}");
    let own = ours.issue("me", |_| {});
    let rest = format!("{rest}&sslcert={}&sslkey={}", own.cert.display(), own.key.display());
    assert!(is_encrypted(connect(&server, &rest).unwrap()));
}

#[test]
fn much_each_way_at_once_does_not_stop_under_tls() {
    let server = postgres_or_skip!();
    let ours = Authority::new();
    present(&server, &ours.issue_local());
    let rest = format!("sslmode=verify-full&sslrootcert={}", ours.ca_file().display());
    let mut connection = connect(&server, &rest).unwrap();
    let large: Vec<u8> = (0..10 << 20).map(|byte: u32| byte as u8).collect();
    for _ in 0..3 {
        connection.statement("SELECT $1::bytea", &[Param::Bytes(&large)]).unwrap();
        connection.sync();
    }
    for answer in connection.exchange().unwrap() {
        let rows = answer.unwrap().pop().unwrap();
        assert!(rows.first().unwrap().bytes(0).unwrap() == large);
    }
    assert!(is_encrypted(connection));
}
