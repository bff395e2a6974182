//! Configurations from a file, in go-nsq's words: what serde reads becomes options (pure).

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::client::consumer::config::ConsumerConfig;
use crate::client::producer::config::ProducerConfig;
use crate::codec::names::{ChannelName, TopicName};
use crate::error::Error;

/// Where nsqds are, as `nsqd` in the tools' own files.
const NSQDS: &str = "nsqd_tcp_addresses";

/// Where nsqlookupds are, likewise.
const LOOKUPDS: &str = "nsqlookupd_http_addresses";

/// What an option may be given as.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Flag(bool),
    Whole(i64),
    Number(f64),
    Text(String),
    List(Vec<String>),
}

impl Value {
    /// As the texts that an option takes, one after the other.
    fn texts(self) -> Vec<String> {
        match self {
            Self::Flag(flag) => vec![flag.to_string()],
            Self::Whole(number) => vec![number.to_string()],
            Self::Number(number) => vec![number.to_string()],
            Self::Text(text) => vec![text],
            Self::List(texts) => texts,
        }
    }
}

/// A table of options, in its order.
struct Options(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Table(PhantomData<()>);
        impl<'de> Visitor<'de> for Table {
            type Value = Options;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("options by go-nsq's names")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Options, M::Error> {
                let mut options = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value().map_err(|_| {
                        let wanted =
                            "wanted is a text, a number, true or false, or a list of texts";
                        M::Error::custom(format!("option {name}: {wanted}"))
                    })?;
                    options.push((name, value));
                }
                Ok(Options(options))
            }
        }
        from.deserialize_map(Table(PhantomData))
    }
}

/// From go-nsq's option names: see [`ConsumerConfig::set_option`]. Beside them stand `topic` and `channel`, which there must be,
/// and `nsqd_tcp_addresses` and `nsqlookupd_http_addresses`, each a text or a list. What a [`ProducerConfig`] alone has is
/// passed over, so that one file can be both.
///
/// # Example
/// ```
/// use nsq_protocol::{ConsumerConfig, ProducerConfig};
///
/// let file = r#"
///     topic = "plays"
///     channel = "count"
///     nsqlookupd_http_addresses = ["127.0.0.1:4161", "127.0.0.1:5161"]
///     max_in_flight = 200
///     msg_timeout = "90s"
///     deflate = true
///     publish_timeout = "5s"
/// "#;
/// let consumer: ConsumerConfig = toml::from_str(file)?;
/// let producer: ProducerConfig = toml::from_str(file)?;
/// assert_eq!((consumer.get_max_in_flight(), consumer.get_lookup().get_addresses().len()), (200, 2));
/// assert_eq!(producer.get_lookup().get_addresses()[0], "127.0.0.1:4161");
/// let error = toml::from_str::<ProducerConfig>("publish_timeout = \"soon\"").unwrap_err();
/// assert!(error.to_string().contains("option publish_timeout is \"soon\": wanted is a duration"));
/// # Ok::<(), toml::de::Error>(())
/// ```
impl<'de> Deserialize<'de> for ConsumerConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Options(options) = Options::deserialize(from)?;
        let text = |wanted: &'static str| {
            let found = options.iter().find(|(name, _)| name == wanted);
            match found.ok_or_else(|| D::Error::missing_field(wanted))? {
                (_, Value::Text(text)) => Ok(text),
                _ => Err(D::Error::custom(format!("{wanted}: wanted is a text"))),
            }
        };
        let topic = TopicName::new(text("topic")?).map_err(D::Error::custom)?;
        let channel = ChannelName::new(text("channel")?).map_err(D::Error::custom)?;
        let mut config = Self::new(topic, channel);
        let others = ProducerConfig::option_names();
        for (name, value) in options {
            match &*name {
                "topic" | "channel" => {}
                NSQDS => config = config.nsqds(value.texts()),
                LOOKUPDS => config.lookup = config.lookup.addresses(value.texts()),
                _ => set(&name, value, &Self::option_names(), &others, |value| {
                    config.set_option(&name, value)
                })
                .map_err(D::Error::custom)?,
            }
        }
        Ok(config)
    }
}

/// As a [`ConsumerConfig`] is read; what only that has is passed over.
impl<'de> Deserialize<'de> for ProducerConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Options(options) = Options::deserialize(from)?;
        let mut config = Self::new();
        let others = ConsumerConfig::option_names();
        for (name, value) in options {
            match &*name {
                "topic" | "channel" => {}
                NSQDS => config = config.nsqds(value.texts()),
                LOOKUPDS => config.lookup = config.lookup.addresses(value.texts()),
                _ => set(&name, value, &Self::option_names(), &others, |value| {
                    config.set_option(&name, value)
                })
                .map_err(D::Error::custom)?,
            }
        }
        Ok(config)
    }
}

/// Sets an option, or passes over one that only `others` have.
fn set(
    name: &str,
    value: Value,
    own: &[&str],
    others: &[&str],
    mut set: impl FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    if others.contains(&name) && !own.contains(&name) {
        return Ok(());
    }
    value.texts().iter().try_for_each(|value| set(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fails(json: &str, want: &str) {
        let error = serde_json::from_str::<ConsumerConfig>(json).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }

    #[test]
    fn a_file_becomes_both_and_its_faults_are_named() {
        let file = r#"{"topic":"t","channel":"c","nsqd_tcp_addresses":"h:4150","sample_rate":7,"snappy":true,
            "lookupd_poll_jitter":0.5,"response_timeout":"2s","broadcast_map":["a=b:1","c=d:2"],"client_id":"me"}"#;
        let consumer: ConsumerConfig = serde_json::from_str(file).unwrap();
        assert_eq!((consumer.sample_rate, consumer.lookup.poll_jitter), (7, 0.5));
        assert_eq!(consumer.lookup.broadcast_map.len(), 2);
        let producer: ProducerConfig = serde_json::from_str(file).unwrap();
        assert_eq!(producer.response_timeout.as_secs(), 2);
        for (nsqds, connection) in [
            (consumer.nsqd_addresses, consumer.connection),
            (producer.nsqd_addresses, producer.connection),
        ] {
            assert_eq!((&nsqds[..], &*connection.client_id), (&["h:4150".to_owned()][..], "me"));
            assert!(connection.compression.is_snappy());
        }
        fails(r#"{"topic":"t"}"#, "missing field `channel`");
        fails(r#"{"topic":"a b","channel":"c"}"#, "is not an NSQ name");
        fails(r#"{"topic":1,"channel":"c"}"#, "topic: wanted is a text");
        fails(
            r#"{"topic":"t","channel":"c","colour":"red"}"#,
            "there is no consumer option \"colour\"",
        );
        fails(r#"{"topic":"t","channel":"c","sample_rate":200}"#, "option sample_rate is \"200\"");
        fails(r#"{"topic":"t","channel":"c","rdy":{}}"#, "option rdy: wanted is a text, a number");
        fails("[]", "options by go-nsq's names");
    }
}
