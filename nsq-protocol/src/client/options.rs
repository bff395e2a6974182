//! Settings by go-nsq's option names, as text: what the tools' `--consumer-opt` and `--producer-opt` take (pure).
//!
//! Three tables, of what connections, consumers and producers have. A consumer takes its own and a connection's,
//! and so does a producer.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::config::{ConnectionConfig, ConsumerConfig, ProducerConfig};
use crate::codec::compression::Compression;
use crate::error::Error;
use crate::flow::policy::RdyMode;
use crate::io::tls::{ClientCertificate, TlsConfig, TlsVersion};

/// Deflate's level where only `deflate` is asked for, as go-nsq and nsqd have it.
const DEFLATE_LEVEL: u8 = 6;

/// How much of an unknown name an error shows, characters: whoever typed `auth_secret=…` must not find the rest of
/// it in a log.
const MAX_SHOWN: usize = 40;

/// One option: its name, and how its text is applied; the error says what is wrong with the text.
type Setting<C> = (&'static str, fn(&mut C, &str) -> Result<(), String>);

/// What a connection has.
const CONNECTION: &[Setting<ConnectionConfig>] = &[
    ("auth_secret", |config, text| {
        config.auth_secret = Some(text.into());
        Ok(())
    }),
    ("client_id", |config, text| set(&mut config.client_id, text)),
    ("deflate", |config, text| match (flag(text)?, config.compression) {
        (true, Compression::Snappy) => Err(one_compression()),
        (true, Compression::Deflate { .. }) => Ok(()),
        (true, Compression::None) => deflate(config, DEFLATE_LEVEL),
        (false, Compression::Deflate { .. }) => {
            config.compression = Compression::None;
            Ok(())
        }
        (false, _) => Ok(()),
    }),
    ("deflate_level", |config, text| match config.compression {
        Compression::Snappy => Err(one_compression()),
        _ => deflate(config, number(text, 1, 9)?),
    }),
    ("dial_timeout", |config, text| duration_to(&mut config.connect_timeout, text)),
    ("handshake_timeout", |config, text| duration_to(&mut config.handshake_timeout, text)),
    ("heartbeat_interval", |config, text| duration_to(&mut config.heartbeat_interval, text)),
    ("hostname", |config, text| set(&mut config.hostname, text)),
    ("max_msg_size", |config, text| {
        config.max_msg_size = number(text, 1, u32::MAX as usize)?;
        Ok(())
    }),
    ("output_buffer_size", |config, text| {
        config.output_buffer_size = Some(number(text, 64, 65536)?);
        Ok(())
    }),
    ("output_buffer_timeout", |config, text| {
        config.output_buffer_timeout = Some(duration(text)?);
        Ok(())
    }),
    ("read_timeout", |config, text| {
        config.read_timeout = Some(duration(text)?);
        Ok(())
    }),
    ("reconnect_max", |config, text| duration_to(&mut config.reconnect_max, text)),
    ("reconnect_min", |config, text| duration_to(&mut config.reconnect_min, text)),
    ("snappy", |config, text| match (flag(text)?, config.compression) {
        (true, Compression::Deflate { .. }) => Err(one_compression()),
        (true, _) => {
            config.compression = Compression::Snappy;
            Ok(())
        }
        (false, Compression::Snappy) => {
            config.compression = Compression::None;
            Ok(())
        }
        (false, _) => Ok(()),
    }),
    ("tls_cert", |config, text| {
        client_certificate(config).cert_file = file(text)?;
        Ok(())
    }),
    ("tls_insecure_skip_verify", |config, text| {
        if flag(text)? {
            let tls = config.tls.take().unwrap_or_default();
            config.tls = Some(tls.dangerous_accept_any_certificate());
        }
        Ok(())
    }),
    ("tls_key", |config, text| {
        client_certificate(config).key_file = file(text)?;
        Ok(())
    }),
    ("tls_min_version", |config, text| {
        let version = match text {
            // Older than what is spoken here, so that the minimum holds all the same.
            "ssl3.0" | "tls1.0" | "tls1.1" | "tls1.2" => TlsVersion::Tls12,
            "tls1.3" => TlsVersion::Tls13,
            _ => return Err("wanted is tls1.2 or tls1.3".to_owned()),
        };
        tls(config).min_version = version;
        Ok(())
    }),
    ("tls_root_ca_file", |config, text| {
        let path = file(text)?;
        tls(config).root_ca_files.push(path);
        Ok(())
    }),
    ("tls_server_name", |config, text| {
        tls(config).server_name = Some(text.to_owned());
        Ok(())
    }),
    ("tls_v1", |config, text| {
        match flag(text)? {
            true => drop(tls(config)),
            false if config.tls.is_some() => {
                return Err("another tls_ option asks for TLS".to_owned());
            }
            false => {}
        }
        Ok(())
    }),
    ("topology_region", |config, text| set(&mut config.topology_region, text)),
    ("topology_zone", |config, text| set(&mut config.topology_zone, text)),
    ("user_agent", |config, text| set(&mut config.user_agent, text)),
    ("write_timeout", |config, text| duration_to(&mut config.write_timeout, text)),
];

/// What a consumer has besides.
const CONSUMER: &[Setting<ConsumerConfig>] = &[
    ("auto_touch", |config, text| {
        config.auto_touch = flag(text)?;
        Ok(())
    }),
    ("backoff_multiplier", |config, text| duration_to(&mut config.backoff_min, text)),
    ("broadcast_map", |config, text| {
        let (from, to) = text
            .split_once('=')
            .filter(|(from, to)| !from.is_empty() && !to.is_empty())
            .ok_or("wanted is broadcast_address[:port]=host:port")?;
        config.lookup.broadcast_map.insert(from.to_owned(), to.to_owned());
        Ok(())
    }),
    ("default_requeue_delay", |config, text| duration_to(&mut config.panic_requeue_delay, text)),
    ("lookupd_poll_interval", |config, text| duration_to(&mut config.lookup.poll_interval, text)),
    ("lookupd_poll_jitter", |config, text| {
        config.lookup.poll_jitter = text
            .parse()
            .ok()
            .filter(|jitter| (0.0..=1.0).contains(jitter))
            .ok_or("wanted is 0 to 1")?;
        Ok(())
    }),
    ("lookupd_poll_timeout", |config, text| duration_to(&mut config.lookup.request_timeout, text)),
    ("low_rdy_idle_timeout", |config, text| duration_to(&mut config.low_rdy_idle_timeout, text)),
    ("low_rdy_timeout", |config, text| duration_to(&mut config.low_rdy_timeout, text)),
    ("max_attempts", |config, text| {
        config.max_attempts = number(text, 0, u16::MAX)?;
        Ok(())
    }),
    ("max_backoff_duration", |config, text| duration_to(&mut config.backoff_max, text)),
    ("max_in_flight", |config, text| {
        config.max_in_flight = number(text, 1, u32::MAX)?;
        Ok(())
    }),
    ("max_requeue_delay", |_, _| {
        Err("each requeue has the delay that it is given, so there is none to cut".to_owned())
    }),
    ("msg_timeout", |config, text| {
        config.msg_timeout = Some(duration(text)?).filter(|timeout| !timeout.is_zero());
        Ok(())
    }),
    ("rdy", |config, text| {
        config.rdy = match text {
            "adaptive" => RdyMode::Adaptive,
            "fixed" => RdyMode::Fixed,
            _ => return Err("wanted is adaptive or fixed".to_owned()),
        };
        Ok(())
    }),
    ("sample_rate", |config, text| {
        config.sample_rate = number(text, 0, 99)?;
        Ok(())
    }),
    ("stop_timeout", |config, text| duration_to(&mut config.stop_timeout, text)),
];

/// What a producer has besides.
const PRODUCER: &[Setting<ProducerConfig>] = &[
    ("max_body_size", |config, text| {
        config.max_body_size = number(text, 1, u32::MAX as usize)?;
        Ok(())
    }),
    ("publish_timeout", |config, text| duration_to(&mut config.publish_timeout, text)),
    ("response_timeout", |config, text| duration_to(&mut config.response_timeout, text)),
];

fn set(field: &mut String, text: &str) -> Result<(), String> {
    text.clone_into(field);
    Ok(())
}

fn tls(config: &mut ConnectionConfig) -> &mut TlsConfig {
    config.tls.get_or_insert_default()
}

fn client_certificate(config: &mut ConnectionConfig) -> &mut ClientCertificate {
    tls(config).client_certificate.get_or_insert_with(|| ClientCertificate {
        cert_file: PathBuf::new(),
        key_file: PathBuf::new(),
    })
}

fn deflate(config: &mut ConnectionConfig, level: u8) -> Result<(), String> {
    config.compression = Compression::Deflate { level };
    Ok(())
}

fn one_compression() -> String {
    "snappy and deflate exclude each other".to_owned()
}

fn file(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("wanted is a file's name".to_owned()) } else { Ok(text.into()) }
}

/// As Go's `strconv.ParseBool`.
fn flag(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("wanted is true or false".to_owned()),
    }
}

fn number<N>(text: &str, min: N, max: N) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = text.parse().ok().filter(|number| (&min..=&max).contains(&number));
    number.ok_or_else(|| format!("wanted is a whole number from {min} to {max}"))
}

fn duration_to(field: &mut Duration, text: &str) -> Result<(), String> {
    *field = duration(text)?;
    Ok(())
}

/// As Go's `time.ParseDuration`, of a sum of numbers with units, none negative; as in go-nsq, a bare whole number
/// is milliseconds.
fn duration(text: &str) -> Result<Duration, String> {
    let wanted =
        || "wanted is a duration such as 60s, 1m30s or 250ms; a bare number is ms".to_owned();
    if let Ok(ms) = text.parse::<u32>() {
        return Ok(Duration::from_millis(ms.into()));
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() || text.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let unit_at = rest.find(|c| !is_number(c)).ok_or_else(wanted)?;
        let (number, behind) = rest.split_at(unit_at);
        let end = behind.find(is_number).unwrap_or(behind.len());
        let unit = match &behind[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wanted()),
        };
        let seconds = number.parse::<f64>().map_err(|_| wanted())? * unit;
        let part = Duration::try_from_secs_f64(seconds).map_err(|_| wanted())?;
        sum = sum.checked_add(part).ok_or_else(wanted)?;
        rest = &behind[end..];
    }
    Ok(sum)
}

/// Applies the option if the table has it.
fn apply<C>(
    table: &[Setting<C>],
    config: &mut C,
    name: &str,
    value: &str,
) -> Option<Result<(), Error>> {
    let (_, apply) = table.iter().find(|(known, _)| *known == name)?;
    Some(apply(config, value).map_err(|wanted| Error::Config {
        what: match name {
            "auth_secret" => format!("option {name}: {wanted}"),
            _ => format!("option {name} is {value:?}: {wanted}"),
        },
    }))
}

fn names<C>(table: &[Setting<C>]) -> impl Iterator<Item = &'static str> {
    table.iter().map(|(name, _)| *name)
}

fn all_names<C>(table: &[Setting<C>]) -> Vec<&'static str> {
    let mut names: Vec<_> = names(table).chain(names(CONNECTION)).collect();
    names.sort_unstable();
    names
}

fn unknown(of: &str, name: &str, known: &[&str]) -> Error {
    let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_' || *c == '-';
    let name: String = name.chars().take_while(is_name).take(MAX_SHOWN).collect();
    let known = known.join(", ");
    Error::Config { what: format!("there is no {of} option {name:?}; there are {known}") }
}

/// `key,value` apart; a key alone means `true`, as in NSQ's tools.
fn split(option: &str) -> (&str, &str) {
    option.split_once(',').unwrap_or((option, "true"))
}

impl ConnectionConfig {
    /// Sets what go-nsq calls `name`, from text; durations as Go writes them (`60s`, `1m30s`; a bare number is ms).
    ///
    /// Any option whose name begins with `tls_` asks for TLS, and `deflate_level` for deflate. go-nsq's
    /// `dial_timeout` is [`ConnectionConfig::connect_timeout`]; the others have their own names.
    ///
    /// # Errors
    /// [`Error::Config`] for a value that makes no sense, or an unknown name: it lists those that there are.
    ///
    /// Source: <https://pkg.go.dev/github.com/nsqio/go-nsq#Config>
    pub fn set_option(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let known = || all_names::<ConnectionConfig>(&[]);
        apply(CONNECTION, self, name, value)
            .unwrap_or_else(|| Err(unknown("connection", name, &known())))
    }
}

impl ConsumerConfig {
    /// Sets what go-nsq calls `name`, from text; what [`ConnectionConfig::set_option`] takes, too.
    ///
    /// # Example
    /// ```
    /// use nsq_protocol::{ChannelName, ConsumerConfig, TopicName};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut config = ConsumerConfig::new(TopicName::new("plays")?, ChannelName::new("count")?);
    /// config.set_option("msg_timeout", "90s")?;
    /// config.parse_option("snappy")?;
    /// assert!(config.set_option("colour", "red").is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`ConnectionConfig::set_option`].
    pub fn set_option(&mut self, name: &str, value: &str) -> Result<(), Error> {
        apply(CONSUMER, self, name, value)
            .or_else(|| apply(CONNECTION, &mut self.connection, name, value))
            .unwrap_or_else(|| Err(unknown("consumer", name, &Self::option_names())))
    }

    /// As [`ConsumerConfig::set_option`], of `name,value` or, for `name,true`, of `name`: what NSQ's tools take with
    /// `--consumer-opt`.
    ///
    /// # Errors
    /// As [`ConnectionConfig::set_option`].
    pub fn parse_option(&mut self, option: &str) -> Result<(), Error> {
        let (name, value) = split(option);
        self.set_option(name, value)
    }

    /// What [`ConsumerConfig::set_option`] knows, sorted.
    pub fn option_names() -> Vec<&'static str> {
        all_names(CONSUMER)
    }
}

impl ProducerConfig {
    /// Sets what go-nsq calls `name`, from text; what [`ConnectionConfig::set_option`] takes, too.
    ///
    /// # Errors
    /// As [`ConnectionConfig::set_option`].
    pub fn set_option(&mut self, name: &str, value: &str) -> Result<(), Error> {
        apply(PRODUCER, self, name, value)
            .or_else(|| apply(CONNECTION, &mut self.connection, name, value))
            .unwrap_or_else(|| Err(unknown("producer", name, &Self::option_names())))
    }

    /// As [`ProducerConfig::set_option`], of `name,value` or, for `name,true`, of `name`: what NSQ's tools take with
    /// `--producer-opt`.
    ///
    /// # Errors
    /// As [`ConnectionConfig::set_option`].
    pub fn parse_option(&mut self, option: &str) -> Result<(), Error> {
        let (name, value) = split(option);
        self.set_option(name, value)
    }

    /// What [`ProducerConfig::set_option`] knows, sorted.
    pub fn option_names() -> Vec<&'static str> {
        all_names(PRODUCER)
    }
}

#[cfg(test)]
mod tests {
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
        check("default_requeue_delay,90s", |c| c.panic_requeue_delay, secs(90));
        check("stop_timeout,2s", |c| c.stop_timeout, secs(2));
        check("lookupd_poll_interval,15s", |c| c.lookup.poll_interval, secs(15));
        check("lookupd_poll_jitter,0.5", |c| c.lookup.poll_jitter, 0.5);
        check("lookupd_poll_timeout,3s", |c| c.lookup.request_timeout, secs(3));
        check(
            "broadcast_map,a:1=b:2",
            |c| c.lookup.broadcast_map.get("a:1").cloned(),
            Some("b:2".to_owned()),
        );
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
        assert_eq!(producer.publish_timeout, Duration::from_secs(7));
        assert_eq!(producer.connection.compression, Compression::Snappy);
        let error = producer.parse_option("msg_timeout,1s").unwrap_err().to_string();
        assert!(
            error.contains("no producer option \"msg_timeout\"; there are auth_secret"),
            "{error}"
        );
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
        fails("max_requeue_delay,1s", "each requeue has the delay that it is given");
        let mut config = consumer();
        config.parse_option("snappy").unwrap();
        let error = config.parse_option("deflate").unwrap_err();
        assert!(error.to_string().contains("exclude each other"), "{error}");
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
}
