//! HTTP APIs over TLS: nsqd's own HTTPS port, and an nsqlookupd behind a proxy.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nsq_protocol::{
    Admin, AdminError, Consumer, Error, LookupConfig, Producer, StatsFilter, TlsConfig, TlsFault,
    TlsVersion,
};

use crate::certs::{Authority, Issued};
use crate::fake_lookupd::{FakeLookupd, Reply};
use crate::features::{lines, nsqd, topic};
use crate::lookup::wait_until;
use crate::nsqd::Nsqd;
use crate::nsqlookupd::Nsqlookupd;
use crate::script::{Script, config, producer_config};
use crate::timing::{DEADLINE, check_takes_less};
use crate::tls_proxy::TlsProxy;

fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig::new().root_ca_file(authority.ca_file())
}

/// The HTTPS API of an nsqd that was started with [`Issued::args`].
fn admin(nsqd: &Nsqd, tls: TlsConfig) -> Admin {
    Admin::with_tls(&format!("https://{}", https(nsqd)), DEADLINE, tls)
}

/// Which it says in a thread of its own, perhaps after the other two.
fn https(nsqd: &Nsqd) -> SocketAddr {
    let mut port = None;
    wait_until("it says its HTTPS port", || {
        let log = nsqd.log();
        let found = log.lines().find_map(|line| line.split_once("HTTPS: listening on "));
        port = found.map(|(_, addr)| addr.trim().parse().unwrap());
        port.is_some()
    });
    port.unwrap()
}

#[test]
fn an_nsqd_that_wants_tls_is_administrated_over_its_https_port() {
    let authority = Authority::new();
    let mut args = authority.issue_local().args().to_vec();
    args.push("--tls-required=true".to_owned());
    let Some(nsqd) = nsqd(&args) else { return };
    let admin = admin(&nsqd, trusting(&authority));
    admin.ping().unwrap();
    admin.create_topic(&topic()).unwrap();
    let producer = producer_config().nsqd(nsqd.addr()).tls(trusting(&authority));
    Producer::connect(producer).unwrap().publish(&topic(), b"x").unwrap();
    assert_eq!(admin.stats(&StatsFilter::default()).unwrap().topic(&topic()).unwrap().depth, 1);
    assert_eq!(admin.info().unwrap().http_port, nsqd.http.port());

    // In clear it says where to go, at either port.
    let want = format!("https://{}", https(&nsqd));
    for plain in [nsqd.http, https(&nsqd)] {
        let error = Admin::new(&plain.to_string()).ping().unwrap_err();
        let line = format!("http://{plain}/ping wants TLS: its address is {want}");
        assert_eq!(lines(&error), line);
        let AdminError::TlsRequired { https, .. } = error else { panic!("{error:?}") };
        assert_eq!(https.as_deref(), Some(&*want));
    }
}

#[test]
fn an_nsqd_that_wants_tls_and_has_no_https_port_says_so() {
    let authority = Authority::new();
    let mut args = authority.issue_local().args()[..2].to_vec();
    args.extend(["--tls-required=true".to_owned(), "--https-address=".to_owned()]);
    let Some(nsqd) = nsqd(&args) else { return };
    let error = Admin::new(&nsqd.http_addr()).ping().unwrap_err();
    assert!(matches!(error, AdminError::TlsRequired { https: None, .. }), "{error:?}");
    assert!(error.to_string().ends_with("start nsqd with --https-address, too"), "{error}");
}

#[track_caller]
fn check(error: &AdminError, want: TlsFault, line: &str) {
    assert!(matches!(error, AdminError::Tls { fault, .. } if *fault == want), "{error:?}");
    assert!(lines(error).contains(line), "{}", lines(error));
}

#[test]
fn each_fault_of_tls_says_what_to_do() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let Some(good) = nsqd(&authority.issue_local().args()) else { return };
    let error = |nsqd: &Nsqd, tls| admin(nsqd, tls).ping().unwrap_err();
    check(&error(&good, trusting(&foreign)), TlsFault::Untrusted, "as root CA file: invalid peer");
    check(&error(&good, TlsConfig::new()), TlsFault::Untrusted, "UnknownIssuer");
    let misnamed = trusting(&authority).server_name("nsqd.example");
    check(&error(&good, misnamed), TlsFault::WrongName, "as server name: invalid peer");
    admin(&good, TlsConfig::new().dangerous_accept_any_certificate()).ping().unwrap();

    let named = nsqd(&authority.issue("nsqd.example", |_| {}).args()).unwrap();
    let wrong = error(&named, trusting(&authority));
    check(&wrong, TlsFault::WrongName, "not valid for name \"127.0.0.1\"");
    admin(&named, trusting(&authority).server_name("nsqd.example")).ping().unwrap();

    let expired = nsqd(&authority.issue_expired().args()).unwrap();
    check(&error(&expired, trusting(&authority)), TlsFault::Other, "certificate expired");

    let ca = authority.self_signed(true);
    let of_ca = error(&nsqd(&ca.args()).unwrap(), TlsConfig::new().root_ca_file(&ca.cert));
    check(&of_ca, TlsFault::AuthorityAsServer, "(CA:TRUE), which no server may use");

    let plain = format!("https://{}", good.http_addr());
    let plain = Admin::with_tls(&plain, DEADLINE, trusting(&authority)).ping().unwrap_err();
    check(&plain, TlsFault::NotTls, "it speaks no TLS there");

    let no_file = admin(&good, TlsConfig::new().root_ca_file("/no/ca.pem")).ping().unwrap_err();
    assert!(lines(&no_file).contains("cannot read /no/ca.pem: No such file"), "{no_file:?}");
}

#[test]
fn a_peer_that_says_nothing_is_left_in_time() {
    let silent = Script::listen();
    let limit = Duration::from_millis(300);
    let admin = Admin::with_tls(&format!("https://{}", silent.addr()), limit, TlsConfig::new());
    check_takes_less(2 * limit, || {
        let begun = Instant::now();
        let error = admin.ping().unwrap_err();
        assert!(matches!(error, AdminError::Unreachable { .. }), "{error:?}");
        begun.elapsed()
    });
}

#[test]
fn client_certificates_and_the_oldest_version_hold_for_https_too() {
    let authority = Authority::new();
    let mut args = authority.issue_local().args().to_vec();
    args.push("--tls-client-auth-policy=require-verify".to_owned());
    args.push(format!("--tls-root-ca-file={}", authority.ca_file().display()));
    let Some(nsqd) = nsqd(&args) else { return };
    let Issued { cert, key } = authority.issue("client", |_| {});
    let with = trusting(&authority).client_certificate(cert, key);
    admin(&nsqd, with.clone()).ping().unwrap();
    admin(&nsqd, with.min_version(TlsVersion::Tls13)).ping().unwrap();
    let error = admin(&nsqd, trusting(&authority)).ping().unwrap_err();
    check(&error, TlsFault::Other, "received fatal alert");
}

#[test]
fn an_nsqlookupd_is_asked_over_tls() {
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let nsqd = nsqd(&["--lookupd-tcp-address".to_owned(), lookupd.tcp.to_string()]).unwrap();
    let authority = Authority::new();
    let proxy = TlsProxy::start(lookupd.http, &authority.issue_local(), "");
    let mut lookup =
        LookupConfig::default().addresses(vec![format!("https://127.0.0.1:{}", proxy.port())]);
    let error = lookup.nodes().unwrap_err();
    assert!(matches!(error, Error::Tls { .. }) && !error.is_temporary(), "{error:?}");
    assert!(lines(&error).contains("as root CA file"), "{}", lines(&error));
    assert_eq!((proxy.accepted(), proxy.requests()), (1, 0), "nothing is said to a stranger");

    lookup = lookup.tls(trusting(&authority));
    wait_until("it is registered", || !lookup.nodes().unwrap().is_empty());
    assert_eq!(lookup.nodes().unwrap()[0].tcp_address, nsqd.addr());
    lookup.tombstone(&topic(), &nsqd.http_addr()).unwrap();
    lookup = lookup.tls(TlsConfig::new().root_ca_file("/no/ca.pem"));
    let error = lookup.nodes().unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error:?}");
    // Without such an address there is no need for the file.
    let no_file = TlsConfig::new().root_ca_file("/no/ca.pem");
    LookupConfig::new().address(lookupd.http.to_string()).tls(no_file).nodes().unwrap();
}

#[test]
fn a_consumer_finds_its_nsqd_through_an_nsqlookupd_behind_tls() {
    let authority = Authority::new();
    let Some(nsqd) = nsqd(&[]) else { return };
    Producer::connect(producer_config().nsqd(nsqd.addr()))
        .unwrap()
        .publish(&topic(), b"x")
        .unwrap();
    let fake = FakeLookupd::start(Reply::nsqds(&[&nsqd.addr()]));
    let proxy = TlsProxy::start(fake.addr().parse().unwrap(), &authority.issue_local(), "");
    let mut config = config().lookupd(format!("https://127.0.0.1:{}", proxy.port()));
    config = config.lookupd_poll_interval(Duration::from_millis(50));
    let error = Consumer::start(config.clone()).unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    config = config.lookupd_tls(trusting(&authority));
    let consumer = Consumer::start(config).unwrap();
    consumer.batches().recv_timeout(DEADLINE).unwrap().finish();
    assert!(consumer.shutdown().lookupds[0].answering);
}
