//! Tests of `options`.

use super::*;

fn consumer() -> ConsumerConfig {
    ConsumerConfig::new("t".parse().unwrap(), "c".parse().unwrap())
}

/// `option` makes the setting that `read` shows be `want`.
#[track_caller]
fn check<T: PartialEq + std::fmt::Debug>(
    option: &str,
    read: impl Fn(&ConsumerConfig) -> T,
    want: T,
) {
    let mut config = consumer();
    config.parse_option(option).unwrap();
    assert_eq!(read(&config), want, "{option}");
}

#[track_caller]
fn fails(option: &str, want: &str) {
    let error = consumer().parse_option(option).unwrap_err().to_string();
    assert!(error.contains(want), "{error}");
}

#[test]
fn every_option_sets_its_field() {
    let secs = Duration::from_secs;
    check("msg_timeout,1m30s", |c| c.msg_timeout, Some(secs(90)));
    check("msg_timeout,0", |c| c.msg_timeout, None);
    check("max_in_flight,7", |c| c.max_in_flight, 7);
    check("sample_rate,99", |c| c.sample_rate, 99);
    check("rdy,fixed", |c| c.rdy, RdyMode::Fixed);
    check("auto_touch", |c| c.auto_touch, true);
    check("max_attempts,5", |c| c.max_attempts, 5);
    check("backoff_multiplier,2s", |c| c.backoff_min, secs(2));
    check("max_backoff_duration,0", |c| c.backoff_max, Duration::ZERO);
    check("low_rdy_timeout,20s", |c| c.low_rdy_timeout, secs(20));
    check("low_rdy_idle_timeout,5s", |c| c.low_rdy_idle_timeout, secs(5));
    check("default_requeue_delay,80s", |c| c.panic_requeue_delay, secs(80));
    check("default_requeue_delay,80s", |c| c.default_requeue_delay, secs(80));
    check("max_requeue_delay,10m", |c| c.max_requeue_delay, secs(600));
    check("stop_timeout,2s", |c| c.stop_timeout, secs(2));
    check("lookupd_poll_interval,15s", |c| c.lookup.poll_interval, secs(15));
    check("lookupd_poll_jitter,0.5", |c| c.lookup.poll_jitter, 0.5);
    check("lookupd_poll_timeout,3s", |c| c.lookup.request_timeout, secs(3));
    check(
        "broadcast_map,a:1=b:2",
        |c| c.lookup.broadcast_map.get("a:1").cloned(),
        Some("b:2".to_owned()),
    );
}

#[test]
fn every_option_of_a_connection_sets_its_field() {
    let secs = Duration::from_secs;
    check("client_id,me", |c| c.connection.client_id.clone(), "me".to_owned());
    check("hostname,h", |c| c.connection.hostname.clone(), "h".to_owned());
    check("user_agent,a/1, b", |c| c.connection.user_agent.clone(), "a/1, b".to_owned());
    check("topology_region,r", |c| c.connection.topology_region.clone(), "r".to_owned());
    check("topology_zone,z", |c| c.connection.topology_zone.clone(), "z".to_owned());
    check("dial_timeout,1s", |c| c.connection.connect_timeout, secs(1));
    check("handshake_timeout,1s", |c| c.connection.handshake_timeout, secs(1));
    check("read_timeout,61s", |c| c.connection.read_timeout, Some(secs(61)));
    check("write_timeout,1500", |c| c.connection.write_timeout, Duration::from_millis(1500));
    check("heartbeat_interval,10s", |c| c.connection.heartbeat_interval, secs(10));
    check("reconnect_min,1s", |c| c.connection.reconnect_min, secs(1));
    check("reconnect_max,1m", |c| c.connection.reconnect_max, secs(60));
    check("max_msg_size,2000000", |c| c.connection.max_msg_size, 2_000_000);
    check("output_buffer_size,65536", |c| c.connection.output_buffer_size, Some(65536));
    check(
        "output_buffer_timeout,25ms",
        |c| c.connection.output_buffer_timeout,
        Some(Duration::from_millis(25)),
    );
    check("snappy", |c| c.connection.compression, Compression::Snappy);
    check("deflate,1", |c| c.connection.compression, Compression::Deflate { level: 6 });
    check("deflate_level,3", |c| c.connection.compression, Compression::Deflate { level: 3 });
    check("auth_secret,s,3", |c| c.connection.auth_secret.clone(), Some("s,3".into()));
    check("tls_v1", |c| c.connection.tls.clone(), Some(TlsConfig::new()));
    check("tls_v1,false", |c| c.connection.tls.clone(), None);
    let tls = |c: &ConsumerConfig| c.connection.tls.clone();
    check("tls_root_ca_file,f", tls, Some(TlsConfig::new().root_ca_file("f")));
    check("tls_cert,f", tls, Some(TlsConfig::new().client_certificate("f", "")));
    check("tls_key,f", tls, Some(TlsConfig::new().client_certificate("", "f")));
    check("tls_min_version,tls1.3", tls, Some(TlsConfig::new().min_version(TlsVersion::Tls13)));
    check("tls_min_version,tls1.0", tls, Some(TlsConfig::new()));
    check("tls_server_name,n", tls, Some(TlsConfig::new().server_name("n")));
    check(
        "tls_insecure_skip_verify",
        tls,
        Some(TlsConfig::new().dangerous_accept_any_certificate()),
    );
}

#[test]
fn every_option_of_the_tables_is_known_and_wants_sense() {
    for name in ConsumerConfig::option_names() {
        let error = consumer().set_option(name, "\0");
        assert!(
            !error.is_err_and(|error| error.to_string().contains("no consumer option")),
            "{name}"
        );
    }
    let names = ProducerConfig::option_names();
    assert!(names.is_sorted() && names.contains(&"tls_v1") && !names.contains(&"msg_timeout"));
    let mut producer = ProducerConfig::new();
    producer.parse_option("publish_timeout,7s").unwrap();
    producer.parse_option("response_timeout,8s").unwrap();
    producer.parse_option("snappy,true").unwrap();
    producer.parse_option("lookupd_poll_interval,15s").unwrap();
    producer.parse_option("broadcast_map,a:1=b:2").unwrap();
    assert_eq!(producer.lookup.poll_interval, Duration::from_secs(15));
    assert_eq!(producer.lookup.broadcast_map.len(), 1);
    assert_eq!(producer.publish_timeout, Duration::from_secs(7));
    assert_eq!(producer.connection.compression, Compression::Snappy);
    let error = producer.parse_option("msg_timeout,1s").unwrap_err().to_string();
    assert!(error.contains("no producer option \"msg_timeout\"; there are auth_secret"), "{error}");
}

#[test]
fn what_makes_no_sense_is_refused_with_what_is_wanted() {
    fails(
        "colour,red",
        "there is no consumer option \"colour\"; there are auth_secret, auto_touch",
    );
    fails("", "there is no consumer option \"\"");
    fails("auth_secret=hunter2", "no consumer option \"auth_secret\";");
    assert!(
        !consumer()
            .parse_option("auth_secret=hunter2")
            .unwrap_err()
            .to_string()
            .contains("hunter2")
    );
    fails("snappy,maybe", "option snappy is \"maybe\": wanted is true or false");
    fails("msg_timeout", "option msg_timeout is \"true\": wanted is a duration");
    fails("msg_timeout,-1s", "wanted is a duration");
    fails("msg_timeout,", "wanted is a duration");
    fails("msg_timeout,5 s", "wanted is a duration");
    fails("msg_timeout,1.2.3s", "wanted is a duration");
    fails("msg_timeout,9e99s", "wanted is a duration");
    fails("sample_rate,100", "wanted is a whole number from 0 to 99");
    fails("deflate_level,0", "wanted is a whole number from 1 to 9");
    fails("output_buffer_size,63", "from 64 to 65536");
    fails("lookupd_poll_jitter,2", "wanted is 0 to 1");
    fails("lookupd_poll_jitter,nan", "wanted is 0 to 1");
    fails("broadcast_map,a", "broadcast_address[:port]=host:port");
    fails("tls_min_version,2", "wanted is tls1.2 or tls1.3");
    fails("tls_root_ca_file,", "a file's name");
    let mut config = consumer();
    config.parse_option("snappy").unwrap();
    let error = config.parse_option("deflate").unwrap_err();
    assert!(error.to_string().contains("cannot be used together"), "{error}");
    config.parse_option("snappy,false").unwrap();
    config.parse_option("deflate_level,2").unwrap();
    config.parse_option("deflate").unwrap();
    assert_eq!(config.connection.compression, Compression::Deflate { level: 2 });
    config.parse_option("tls_root_ca_file,f").unwrap();
    config.parse_option("tls_v1,false").unwrap_err();
}

#[test]
fn durations_are_go_s() {
    for (text, want) in [
        ("60s", Some(60_000_000)),
        ("1h2m3s4ms5us", Some(3_723_004_005)),
        ("1.5h", Some(5_400_000_000)),
        (".5s", Some(500_000)),
        ("250", Some(250_000)),
        ("0", Some(0)),
        ("7µs", Some(7)),
        ("1d", None),
        ("s", None),
        ("1s2", None),
        (".", None),
    ] {
        let got = duration(text).ok().map(|duration| duration.as_micros());
        assert_eq!(got, want, "{text}");
    }
}
