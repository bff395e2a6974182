//! Dashboards behind a proxy that ends TLS, and nsqds that want it: what works, and what each error says to do.

use std::path::Path;

use nsq_protocol::{Producer, ProducerConfig, TlsConfig};
use tempfile::TempDir;

use crate::certs::Authority;
use crate::nsqd::{self, Nsqd};
use crate::support::{
    Broker, Running, assert_exit, command, dashboard, get, json, output, total, wait_until,
};
use crate::tls_proxy::TlsProxy;

const PLAYS: &str = "3000";

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A dashboard that wants a token for writes, and the port of its page.
fn guarded(dir: &Path) -> (Running, String) {
    let mut process = Running::start(
        dir,
        &["dashboard", "--http-address", "127.0.0.1:0", "--write-token", "s3cret"],
    );
    let url = process.wait_for("live at ");
    (process, url)
}

fn address(url: &str) -> std::net::SocketAddr {
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

#[test]
fn process_and_produce_are_exact_through_a_proxy_of_tls() {
    let (dir, authority) = (temp(), Authority::new());
    let ca = authority.ca_file().display().to_string();
    let (_dashboard, url) = guarded(dir.path());
    let certificate = authority.issue("localhost", |_| {});
    let proxy = TlsProxy::start(address(&url), &certificate, "/playcounts");
    let through = format!("https://localhost:{}/playcounts/", proxy.port());
    let broker = Broker::ours(dir.path());
    let tcp = broker.tcp();
    let process = Running::start(
        dir.path(),
        &[
            "process",
            "--nsqd-tcp-address",
            &tcp,
            "--dashboard-url",
            &through,
            "--dashboard-ca",
            &ca,
            "--write-token",
            "s3cret",
            "--num-messages",
            PLAYS,
        ],
    );
    // The same file as programs with OpenSSL are told of it.
    let mut produce = command(
        dir.path(),
        &[
            "produce",
            "--nsqd-tcp-address",
            &tcp,
            "--dashboard-url",
            &through,
            "--data-dir",
            "outbox",
            "--num-messages",
            PLAYS,
            "--json",
        ],
    );
    produce.env("SSL_CERT_FILE", &ca);
    let produced = Running::spawn(produce, "produce").wait();
    assert_exit(&produced, 0);
    assert_eq!(json(&produced)["confirmed"], true, "{produced:?}");
    assert_exit(&process.wait(), 0);
    assert_eq!(total(&url), 3000);
    let requests = proxy.requests();
    assert!(proxy.accepted() < requests, "a connection serves many of the {requests} requests");
}

/// `reset` of the dashboard at that URL, which must fail: the one line that says why.
#[track_caller]
fn refused(url: &str, rest: &[&str]) -> String {
    let dir = temp();
    let args = ["reset", "--yes", "--write-token", "s3cret", "--dashboard-url", url];
    let output = output(dir.path(), &[&args, rest].concat());
    assert_exit(&output, 1);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    stderr
}

#[track_caller]
fn says(line: &str, want: &str) {
    assert!(line.contains(want), "{line}\ndoes not say {want:?}");
}

#[test]
fn each_fault_of_a_dashboards_tls_says_the_way_out_and_no_token_goes_out() {
    let (dir, authority, other) = (temp(), Authority::new(), Authority::new());
    let ca = authority.ca_file().display().to_string();
    let foreign = other.ca_file().display().to_string();
    let (_dashboard, url) = guarded(dir.path());
    let named = TlsProxy::start(address(&url), &authority.issue("localhost", |_| {}), "");
    let (good, misnamed) = (
        format!("https://localhost:{}", named.port()),
        format!("https://127.0.0.1:{}", named.port()),
    );

    let line = refused(&good, &[]);
    says(&line, "is not trusted: --dashboard-ca names the file of the authority that signed");
    says(&refused(&good, &["--dashboard-ca", &foreign]), "is not trusted: --dashboard-ca names");
    let line = refused(&misnamed, &["--dashboard-ca", &ca]);
    says(&line, "has another name: give --dashboard-url with the name that it has");
    says(&line, "localhost");
    let line = refused(&url.replace("http", "https"), &["--dashboard-ca", &ca]);
    says(&line, "it speaks no TLS there; give --dashboard-url as http://");
    says(&refused(&good.replace("https", "http"), &[]), "give --dashboard-url as https://");
    let key = authority.issue("localhost", |_| {}).key.display().to_string();
    says(&refused(&good, &["--dashboard-ca", &key]), "holds no certificate in PEM form");
    says(
        &refused(&good, &["--dashboard-ca", "/no/ca.pem"]),
        "--dashboard-ca: cannot read /no/ca.pem",
    );
    says(&refused(&url, &["--dashboard-ca", &ca]), "--dashboard-ca is for --dashboard-url");
    says(
        &refused("localhost:8000", &[]),
        "is not the URL of a dashboard, such as http://127.0.0.1:8000",
    );
    assert_eq!(named.requests(), 0, "no request goes to whom is not trusted");
    assert!(named.accepted() >= 4, "they came as far as TLS");

    let args = ["reset", "--yes", "--write-token", "s3cret", "--dashboard-url", &good];
    assert_exit(&output(dir.path(), &[&args[..], &["--dashboard-ca", &ca]].concat()), 0);
    assert_eq!(named.requests(), 1);
}

#[test]
fn a_processor_goes_on_beside_a_dashboard_that_it_does_not_trust() {
    let (dir, authority, other) = (temp(), Authority::new(), Authority::new());
    let (_dashboard, url) = dashboard(dir.path());
    let strange = TlsProxy::start(address(&url), &other.issue("localhost", |_| {}), "");
    let through = format!("https://localhost:{}", strange.port());
    let broker = Broker::ours(dir.path());
    let ca = authority.ca_file().display().to_string();
    let options = ["--dashboard-url", &through, "--dashboard-url", &url, "--dashboard-ca", &ca];
    let args = ["process", "--nsqd-tcp-address", &broker.tcp(), "--write-token", "s3cret"];
    let mut process = Running::start(dir.path(), &[&args[..], &options].concat());
    process.wait_for("is not trusted: --dashboard-ca names the file");
    crate::support::publish(&broker, uuid::Uuid::from_u128(7), 0..100);
    wait_until("the other dashboard has all", || total(&url) == 100);
    assert_eq!(strange.requests(), 0);
}

/// An nsqd that takes nothing in clear, its HTTPS port and the file to trust; `None` where there is no nsqd.
fn demanding(authority: &Authority) -> Option<(Nsqd, String)> {
    let args = [&authority.issue_local().args()[..], &["--tls-required=true".to_owned()]].concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let nsqd = Nsqd::start(&nsqd::find()?, &args);
    let mut https = None;
    wait_until("it says its HTTPS port", || {
        let log = nsqd.log();
        let found = log.lines().find_map(|line| line.split_once("HTTPS: listening on "));
        https = found.map(|(_, addr)| format!("https://{}", addr.trim()));
        https.is_some()
    });
    Some((nsqd, https?))
}

/// A dashboard that watches a queue, and what it knows of it once it knows something.
fn watching(dir: &Path, options: &[&str]) -> serde_json::Value {
    let args = ["dashboard", "--http-address", "127.0.0.1:0"];
    let mut process = Running::start(dir, &[&args[..], options].concat());
    let url = process.wait_for("live at ");
    let stats = || get(&format!("{url}/api/stats"));
    wait_until("it has asked", || {
        let stats = stats();
        !stats["queue"].is_null() || !stats["queue_error"].is_null()
    });
    stats()
}

#[test]
fn a_dashboard_shows_the_queue_of_an_nsqd_that_wants_tls() {
    let authority = Authority::new();
    let Some((nsqd, https)) = demanding(&authority) else { return };
    let ca = authority.ca_file().display().to_string();
    let tls = TlsConfig::new().root_ca_file(authority.ca_file());
    let producer = ProducerConfig::new().nsqd(nsqd.addr()).tls(tls);
    let producer = Producer::connect(producer).unwrap();
    (0..3).for_each(|_| producer.publish(&"plays".parse().unwrap(), b"{}").unwrap());

    let told = watching(temp().path(), &["--nsqd-http-address", &https, "--nsqd-http-ca", &ca]);
    assert_eq!((&told["queue"]["depth"], &told["queue_error"]), (&3.into(), &().into()), "{told}");
    let want = format!("wants TLS: its address is {https}; --nsqd-http-address takes that");
    for plain in [nsqd.http_addr(), https.replace("https://", "")] {
        let told = watching(temp().path(), &["--nsqd-http-address", &plain]);
        says(told["queue_error"].as_str().unwrap(), &want);
    }
    let told = watching(temp().path(), &["--nsqd-http-address", &https]);
    says(told["queue_error"].as_str().unwrap(), "--nsqd-http-ca names it");
}

#[test]
fn run_reset_and_process_use_an_nsqd_that_wants_tls() {
    let authority = Authority::new();
    let Some((nsqd, https)) = demanding(&authority) else { return };
    let (dir, tcp) = (temp(), nsqd.addr());
    let own = format!("tls_root_ca_file,{}", authority.ca_file().display());
    let ca = authority.ca_file().display().to_string();
    let at = ["--nsqd-tcp-address", &tcp, "--nsqd-http-address", &https, "--consumer-opt", &own];

    let args = ["run", "--http-address", "127.0.0.1:0", "--producer-opt", &own, "--exit", "--json"];
    let size = ["--num-messages", PLAYS];
    let run = output(dir.path(), &[&args[..], &at, &size].concat());
    assert_exit(&run, 0);
    assert_eq!(json(&run)["verified"], true, "{run:?}");

    // A processor with another ledger sees the first one through the same port.
    let (first, second) = (temp(), temp());
    let away = ["--dashboard-url", "http://127.0.0.1:9"];
    let mut one = Running::start(first.path(), &[&["process"][..], &at, &away].concat());
    let stats = || {
        let admin = nsq_protocol::Admin::with_tls(
            &https,
            crate::support::DEADLINE,
            TlsConfig::new().root_ca_file(authority.ca_file()),
        );
        admin.stats(&nsq_protocol::StatsFilter::default()).unwrap()
    };
    let (topic, channel) = ("plays".parse().unwrap(), "processor".parse().unwrap());
    wait_until("it is connected", || {
        stats().channel(&topic, &channel).is_some_and(|channel| channel.client_count > 0)
    });
    let two = output(second.path(), &[&["process"][..], &at, &away].concat());
    assert_exit(&two, 1);
    says(&String::from_utf8_lossy(&two.stderr), "another processor reads this channel");
    assert!(!one.has_ended());
    drop(one);

    let tls = TlsConfig::new().root_ca_file(authority.ca_file());
    let producer = ProducerConfig::new().nsqd(&tcp).tls(tls);
    Producer::connect(producer).unwrap().publish(&topic, b"{}").unwrap();
    wait_until("it waits", || stats().channel(&topic, &channel).unwrap().depth > 0);
    let args = ["reset", "--yes", "--nsqd-http-address", &https, "--nsqd-http-ca", &ca];
    assert_exit(&output(second.path(), &args), 0);
    assert_eq!(stats().channel(&topic, &channel).unwrap().depth, 0);
}
