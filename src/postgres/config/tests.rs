//! What connection strings and variables come to.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn parse(url: &str, env: &[(&str, &str)]) -> Result<PgConfig, PgConfigError> {
    PgConfig::parse(url, &|name| {
        env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
    })
}

#[track_caller]
fn refused(url: &str, env: &[(&str, &str)], want: &str) {
    let error = parse(url, env).unwrap_err().to_string();
    let said = error.strip_prefix("PostgreSQL's connection string: ").unwrap();
    assert!(said.starts_with(want), "{url}: {said}");
}

#[test]
fn the_string_wins_over_variables_and_those_over_defaults() {
    let env = [
        ("PGHOST", "db"),
        ("PGPORT", "5433"),
        ("PGUSER", "me"),
        ("PGPASSWORD", "hidden"),
        ("PGDATABASE", "plays"),
        ("PGAPPNAME", "app"),
        ("PGOPTIONS", "-c a=b"),
        ("PGCONNECT_TIMEOUT", "3"),
        ("PGSSLMODE", "disable"),
        ("PGTARGETSESSIONATTRS", "primary"),
    ];
    let config = parse("postgres://", &env).unwrap();
    assert_eq!(config.to_string(), "db:5433/plays");
    assert_eq!((config.user.as_str(), config.application_name.as_str()), ("me", "app"));
    assert_eq!(config.options.as_deref(), Some("-c a=b"));
    assert_eq!(config.connect_timeout, Duration::from_secs(3));
    assert_eq!((config.ssl.mode, config.target), (PgSslMode::Disable, PgTarget::Primary));
    assert_eq!(config.hosts[0].password.as_ref().map(PgPassword::text), Some("hidden"));

    let url = "postgres://you@a,b:1/x?sslmode=require&connect_timeout=0&target_session_attrs=any";
    let config = parse(url, &env).unwrap();
    // A port that is not said in a list is the usual one.
    assert_eq!(config.to_string(), "a:5432,b:1/x");
    assert_eq!(config.user, "you");
    assert_eq!(config.connect_timeout, CONNECT_TIMEOUT);
    assert_eq!((config.ssl.mode, config.target), (PgSslMode::Require, PgTarget::Any));

    let config = parse("postgres://you@a", &[]).unwrap();
    assert_eq!(config.to_string(), "a:5432/you");
    assert_eq!(config.application_name, "playcounts");
    assert_eq!(config.keepalive, Some(KEEPALIVE));
    assert_eq!(config.ssl.mode, PgSslMode::Prefer);
    let config = parse("host=a user=x keepalives=0 tcp_user_timeout=1500 answer_timeout=60", &[]);
    let config = config.unwrap();
    assert_eq!(config.keepalive, None);
    assert_eq!(config.tcp_user_timeout, Duration::from_millis(1500));
    assert_eq!(config.answer_timeout, Duration::from_secs(60));
    // The system's name of who runs this.
    assert!(!parse("postgres://a", &[]).unwrap().user.is_empty());
}

#[test]
fn hosts_may_be_sockets_and_have_addresses() {
    let config = parse("postgres://me@%2Ftmp:7/x", &[]).unwrap();
    assert_eq!(config.to_string(), "/tmp/.s.PGSQL.7/x");
    let config = parse("host=db,db2 hostaddr=10.0.0.1,::1 port=7 user=me", &[]).unwrap();
    let tcp: Vec<_> = config.hosts.iter().map(PgHost::tcp).collect();
    assert_eq!(tcp, ["10.0.0.1:7", "[::1]:7"]);
    assert_eq!(config.to_string(), "db:7,db2:7/me");
    refused("host=a,b hostaddr=1.1.1.1 user=me", &[], "hostaddr has 1 values, and there are 2");
    refused("host=a,b port=1,2,3 user=me", &[], "port has 3 values, and there are 2");
    refused("host=a port=0 user=me", &[], "port is a number from 1 to 65535");
    let many = format!("host={} user=me", vec!["a"; 65].join(","));
    refused(&many, &[], "more than 64 hosts");
}

#[test]
fn no_password_is_shown() {
    let config = parse("postgres://me:hidden@a/x", &[]).unwrap();
    assert!(!format!("{config:?} {config:#?} {config}").contains("hidden"));
    for url in [
        "postgres://me:hidden@a/x?sslmode=hidden",
        "postgres://me:hidden@a:hidden/x",
        "postgres://me:hidden@a/x?connect_timeout=hidden",
        "postgres://me:hidden@a/x?Hidden-hidden=1",
        "postgres://me:hidden@a/x?sslpassword=hidden",
    ] {
        let error = parse(url, &[]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hidden"), "{error}");
    }
}

#[test]
fn passwords_come_from_the_file_for_each_host() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pass");
    std::fs::write(&path, "a:5432:x:me:one\nb:*:*:me:two\nlocalhost:*:*:me:here\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = path.to_str().unwrap();
    let passwords = |url: &str, env: &[(&str, &str)]| -> Vec<Option<String>> {
        let config = parse(url, env).unwrap();
        let text =
            |host: &PgHost| host.password.as_ref().map(|password| password.text().to_owned());
        config.hosts.iter().map(text).collect()
    };
    let file = [("PGPASSFILE", path)];
    let all = |list: [Option<&str>; 3]| list.map(|one| one.map(str::to_owned)).to_vec();
    assert_eq!(passwords("postgres://me@a,b,c/x", &file), all([Some("one"), Some("two"), None]));
    let said = [("PGPASSFILE", path), ("PGPASSWORD", "said")];
    assert_eq!(passwords("postgres://me@a,b,c/x", &said), all([Some("said"); 3]));
    let socket = passwords("postgres://me@%2Fvar%2Frun%2Fpostgresql/x", &file);
    assert_eq!(socket, [Some("here".to_owned())]);
    // In the usual place.
    std::fs::rename(path, dir.path().join(".pgpass")).unwrap();
    let home = [("HOME", dir.path().to_str().unwrap())];
    assert_eq!(passwords("postgres://me@b/x", &home), [Some("two".to_owned())]);
}

#[test]
fn what_is_not_done_here_is_refused_by_name() {
    refused("postgres://a?nothing=1", &[], "nothing is not a parameter of PostgreSQL's");
    for (parameter, value) in [
        ("channel_binding", "require"),
        ("gssencmode", "require"),
        ("sslcrl", "x"),
        ("service", "x"),
        ("require_auth", "none"),
        ("load_balance_hosts", "random"),
        ("sslnegotiation", "direct"),
        ("replication", "database"),
        ("client_encoding", "LATIN1"),
    ] {
        let want = format!("{parameter} asks for what is not done here: leave it out");
        refused(&format!("postgres://a?{parameter}={value}"), &[], &want);
    }
    refused("postgres://a", &[("PGSERVICE", "x")], "PGSERVICE asks for what is not done here");
    parse("postgres://a?channel_binding=prefer&gssencmode=disable", &[("PGSERVICE", "")]).unwrap();
    refused("postgres://a?sslmode=full", &[], "sslmode is one of disable, allow, prefer, require");
    refused("postgres://a?target_session_attrs=x", &[], "target_session_attrs is one of any");
    refused("postgres://a?keepalives_idle=x", &[], "keepalives_idle is a whole number of seconds");
    refused("postgres://a?sslcert=x", &[], "sslcert and sslkey go together");
}

#[test]
fn a_certificate_is_looked_at_as_the_sslmode_says() {
    let ssl = |url: &str, env: &[(&str, &str)]| parse(url, env).unwrap().ssl;
    let root = |path: &str| Some(PathBuf::from(path));
    let full = ssl("postgres://a?sslmode=verify-full&sslrootcert=/ca", &[]);
    assert_eq!((full.mode, full.root_cert), (PgSslMode::VerifyFull, root("/ca")));
    // With an authority, require is verify-ca, as in libpq.
    let required = ssl("postgres://a?sslmode=require&sslrootcert=/ca", &[]);
    assert_eq!((required.mode, required.root_cert), (PgSslMode::VerifyCa, root("/ca")));
    let system = ssl("postgres://a?sslrootcert=system", &[]);
    assert_eq!((system.mode, system.root_cert), (PgSslMode::VerifyFull, root("system")));
    let weak = ssl("postgres://a", &[("PGSSLROOTCERT", "/ca")]);
    assert_eq!((weak.mode, weak.root_cert), (PgSslMode::Prefer, None));
    assert!(ssl("postgres://a?ssl_min_protocol_version=TLSv1.3", &[]).from_13);
    refused("postgres://a?sslmode=verify-ca", &[], "nobody is trusted to sign the server's");
    refused("postgres://a?sslrootcert=/ca", &[], "sslrootcert proves nothing with this sslmode");
    refused("postgres://a?sslmode=require&sslrootcert=system", &[], "sslrootcert proves nothing");
    // In the usual place.
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".postgresql/root.crt");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "").unwrap();
    let env = [("HOME", home.path().to_str().unwrap())];
    let found = ssl("postgres://a?sslmode=verify-full", &env);
    assert_eq!((found.mode, found.root_cert), (PgSslMode::VerifyFull, Some(path)));
}
