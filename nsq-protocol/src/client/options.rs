//! Settings by go-nsq's option names, as text: what the tools' `--consumer-opt` and `--producer-opt` take (pure).
//!
//! Four tables, of what connections, nsqlookupds, consumers and producers have. A consumer takes its own and those of the
//! first two, and so does a producer.

#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::time::Duration;

use crate::client::consumer::config::ConsumerConfig;
use crate::client::lookup::config::LookupConfig;
use crate::client::producer::config::ProducerConfig;
#[cfg(any(feature = "snappy", feature = "deflate"))]
use crate::codec::compression::Compression;
use crate::error::Error;
use crate::flow::policy::RdyMode;
use crate::io::config::ConnectionConfig;
#[cfg(feature = "tls")]
use crate::io::tls_config::{ClientCertificate, TlsConfig, TlsVersion};

/// Deflate's level where only `deflate` is asked for, as go-nsq and nsqd have it.
#[cfg(feature = "deflate")]
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
    #[cfg(feature = "deflate")]
    ("deflate", |config, text| {
        let level = config.compression.deflate_level().unwrap_or(DEFLATE_LEVEL);
        compress(config, flag(text)?, Compression::Deflate { level })
    }),
    #[cfg(feature = "deflate")]
    ("deflate_level", |config, text| {
        compress(config, true, Compression::Deflate { level: number(text, 1, 9)? })
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
    #[cfg(feature = "snappy")]
    ("snappy", |config, text| compress(config, flag(text)?, Compression::Snappy)),
    #[cfg(feature = "tls")]
    ("tls_cert", |config, text| {
        client_certificate(config).cert_file = file(text)?;
        Ok(())
    }),
    #[cfg(feature = "tls")]
    ("tls_insecure_skip_verify", |config, text| {
        if flag(text)? {
            let tls = config.tls.take().unwrap_or_default();
            config.tls = Some(tls.dangerous_accept_any_certificate());
        }
        Ok(())
    }),
    #[cfg(feature = "tls")]
    ("tls_key", |config, text| {
        client_certificate(config).key_file = file(text)?;
        Ok(())
    }),
    #[cfg(feature = "tls")]
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
    #[cfg(feature = "tls")]
    ("tls_root_ca_file", |config, text| {
        let path = file(text)?;
        tls(config).root_ca_files.push(path);
        Ok(())
    }),
    #[cfg(feature = "tls")]
    ("tls_server_name", |config, text| {
        tls(config).server_name = Some(text.to_owned());
        Ok(())
    }),
    #[cfg(feature = "tls")]
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

/// How nsqlookupds are asked, by consumers and by producers.
const LOOKUP: &[Setting<LookupConfig>] = &[
    ("broadcast_map", |config, text| {
        let (from, to) = text
            .split_once('=')
            .filter(|(from, to)| !from.is_empty() && !to.is_empty())
            .ok_or("wanted is broadcast_address[:port]=host:port")?;
        config.broadcast_map.insert(from.to_owned(), to.to_owned());
        Ok(())
    }),
    ("lookupd_poll_interval", |config, text| duration_to(&mut config.poll_interval, text)),
    ("lookupd_poll_jitter", |config, text| {
        config.poll_jitter = text
            .parse()
            .ok()
            .filter(|jitter| (0.0..=1.0).contains(jitter))
            .ok_or("wanted is 0 to 1")?;
        Ok(())
    }),
    ("lookupd_poll_timeout", |config, text| duration_to(&mut config.request_timeout, text)),
];

/// What a consumer has besides.
const CONSUMER: &[Setting<ConsumerConfig>] = &[
    ("auto_touch", |config, text| {
        config.auto_touch = flag(text)?;
        Ok(())
    }),
    ("backoff_multiplier", |config, text| duration_to(&mut config.backoff_min, text)),
    ("default_requeue_delay", |config, text| {
        config.default_requeue_delay = duration(text)?;
        // go-nsq has one delay for a handler that failed, however it did.
        config.panic_requeue_delay = config.default_requeue_delay;
        Ok(())
    }),
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
    ("max_requeue_delay", |config, text| duration_to(&mut config.max_requeue_delay, text)),
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

#[cfg(feature = "tls")]
fn tls(config: &mut ConnectionConfig) -> &mut TlsConfig {
    config.tls.get_or_insert_default()
}

#[cfg(feature = "tls")]
fn client_certificate(config: &mut ConnectionConfig) -> &mut ClientCertificate {
    tls(config).client_certificate.get_or_insert_with(|| ClientCertificate {
        cert_file: PathBuf::new(),
        key_file: PathBuf::new(),
    })
}

/// Turns a compression on or off; on not beside another one.
#[cfg(any(feature = "snappy", feature = "deflate"))]
fn compress(config: &mut ConnectionConfig, on: bool, wanted: Compression) -> Result<(), String> {
    let is_same = std::mem::discriminant(&config.compression) == std::mem::discriminant(&wanted);
    match on {
        true if is_same || config.compression == Compression::None => config.compression = wanted,
        true => return Err("snappy and deflate cannot be used together".to_owned()),
        false if is_same => config.compression = Compression::None,
        false => {}
    }
    Ok(())
}

/// The feature that an option needs, where this build does not have it.
fn missing_feature(name: &str) -> Option<&'static str> {
    let (feature, is_there) = match name {
        "deflate" | "deflate_level" => ("deflate", cfg!(feature = "deflate")),
        "snappy" => ("snappy", cfg!(feature = "snappy")),
        _ if name.starts_with("tls_") => ("tls", cfg!(feature = "tls")),
        _ => return None,
    };
    (!is_there).then_some(feature)
}

#[cfg(feature = "tls")]
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

fn all_names<C>(table: &[Setting<C>], lookup: &[Setting<LookupConfig>]) -> Vec<&'static str> {
    let mut names: Vec<_> = names(table).chain(names(lookup)).chain(names(CONNECTION)).collect();
    names.sort_unstable();
    names
}

fn unknown(of: &str, name: &str, known: &[&str]) -> Error {
    let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_' || *c == '-';
    let name: String = name.chars().take_while(is_name).take(MAX_SHOWN).collect();
    if let Some(feature) = missing_feature(&name) {
        let what = format!(
            "option {name}: nsq-protocol is built without its feature `{feature}`, which it needs"
        );
        return Error::Config { what };
    }
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
        let known = || all_names::<ConnectionConfig>(&[], &[]);
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
            .or_else(|| apply(LOOKUP, &mut self.lookup, name, value))
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
        all_names(CONSUMER, LOOKUP)
    }
}

impl ProducerConfig {
    /// Sets what go-nsq calls `name`, from text; what [`ConnectionConfig::set_option`] takes, too.
    ///
    /// # Errors
    /// As [`ConnectionConfig::set_option`].
    pub fn set_option(&mut self, name: &str, value: &str) -> Result<(), Error> {
        apply(PRODUCER, self, name, value)
            .or_else(|| apply(LOOKUP, &mut self.lookup, name, value))
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
        all_names(PRODUCER, LOOKUP)
    }
}

#[cfg(test)]
mod tests;
