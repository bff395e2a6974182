//! What nsqd tells of itself over HTTP, as it spells it (pure).

use serde::{Deserialize, Serialize};

use crate::codec::go_json::null_is_default;
use crate::codec::names::{ChannelName, TopicName};

/// What [`crate::Admin::info`] tells.
///
/// # Example
/// ```no_run
/// let info = nsq_protocol::Admin::new("127.0.0.1:4151").info()?;
/// println!("nsqd {}, which others reach at {}", info.version, info.broadcast_address);
/// # Ok::<(), nsq_protocol::AdminError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct NodeInfo {
    /// nsqd's version.
    pub version: String,
    /// Where clients reach it, as it tells nsqlookupd.
    pub broadcast_address: String,
    /// Its host.
    pub hostname: String,
    /// Its HTTP port.
    pub http_port: u16,
    /// Its TCP port.
    pub tcp_port: u16,
    /// When it started, in seconds since the Unix epoch.
    pub start_time: i64,
}

/// What [`crate::Admin::stats`] tells.
///
/// # Example
/// ```
/// use nsq_protocol::NodeStats;
///
/// // As Admin::stats reads it.
/// let answer = r#"{"health":"OK","topics":[{"topic_name":"plays","depth":7}]}"#;
/// let stats: NodeStats = serde_json::from_str(answer)?;
/// assert_eq!(stats.topic(&"plays".parse()?).map(|topic| topic.depth), Some(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct NodeStats {
    /// nsqd's version.
    pub version: String,
    /// `OK`, or what ails its disk.
    pub health: String,
    /// When it started, in seconds since the Unix epoch.
    pub start_time: i64,
    /// By name.
    #[serde(deserialize_with = "null_is_default")]
    pub topics: Vec<TopicStats>,
    /// Connections that published.
    #[serde(deserialize_with = "null_is_default")]
    pub producers: Vec<ClientStats>,
}

/// One topic.
///
/// # Example
/// ```
/// use nsq_protocol::TopicStats;
///
/// /// Messages that some channel, or none yet, still has to deal with.
/// fn unfinished(topic: &TopicStats) -> i64 {
///     let channels = topic.channels.iter();
///     topic.depth + channels.map(|of| of.depth + of.in_flight_count + of.deferred_count).sum::<i64>()
/// }
/// assert_eq!(unfinished(&TopicStats::default()), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct TopicStats {
    /// Its name.
    pub topic_name: String,
    /// By name.
    #[serde(deserialize_with = "null_is_default")]
    pub channels: Vec<ChannelStats>,
    /// Messages not yet given to the channels, in memory and on disk.
    pub depth: i64,
    /// Of these, on disk.
    pub backend_depth: i64,
    /// Messages published.
    pub message_count: u64,
    /// Their bytes.
    pub message_bytes: u64,
    /// Whether messages are kept from the channels.
    pub paused: bool,
    /// From published to finished, over its channels.
    #[serde(deserialize_with = "null_is_default")]
    pub e2e_processing_latency: Latency,
}

/// One channel.
///
/// # Example
/// ```
/// use nsq_protocol::ChannelStats;
///
/// let answer = r#"{"channel_name":"count","depth":3,"in_flight_count":2,"client_count":1}"#;
/// let channel: ChannelStats = serde_json::from_str(answer)?;
/// assert_eq!(channel.depth + channel.in_flight_count, 5); // what is queued, and what is being worked on
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Its name.
    pub channel_name: String,
    /// Messages queued, in memory and on disk; without those in flight and deferred.
    pub depth: i64,
    /// Of these, on disk.
    pub backend_depth: i64,
    /// Delivered, not answered, not timed out.
    pub in_flight_count: i64,
    /// Waiting for a delay to pass.
    pub deferred_count: i64,
    /// Messages from the topic.
    pub message_count: u64,
    /// REQs.
    pub requeue_count: u64,
    /// Messages whose msg-timeout passed.
    pub timeout_count: u64,
    /// Consumers.
    pub client_count: i64,
    /// The consumers, where asked for.
    #[serde(deserialize_with = "null_is_default")]
    pub clients: Vec<ClientStats>,
    /// Whether messages are kept from the consumers.
    pub paused: bool,
    /// From published to finished.
    #[serde(deserialize_with = "null_is_default")]
    pub e2e_processing_latency: Latency,
}

/// How long messages took, of an nsqd that measures it: `--e2e-processing-latency-percentile`.
///
/// # Example
/// ```
/// use nsq_protocol::Latency;
///
/// let answer = r#"{"count":9,"percentiles":[{"quantile":0.99,"value":1500000}]}"#;
/// let latency: Latency = serde_json::from_str(answer)?;
/// let p99 = latency.percentiles.iter().find(|of| of.quantile == 0.99);
/// assert_eq!(p99.map(|of| of.value / 1e6), Some(1.5)); // ms
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Latency {
    /// Messages measured, within nsqd's window.
    pub count: u64,
    /// As many as nsqd was told to keep; empty where it measures nothing.
    #[serde(deserialize_with = "null_is_default")]
    pub percentiles: Vec<Percentile>,
}

/// One percentile.
///
/// # Example
/// ```
/// let answer = r#"{"quantile":0.5,"value":250000}"#;
/// let median: nsq_protocol::Percentile = serde_json::from_str(answer)?;
/// assert_eq!(median.value, 250_000.0); // ns: a quarter of a millisecond
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Percentile {
    /// 0 to 1.
    pub quantile: f64,
    /// In ns.
    pub value: f64,
}

/// One connection.
///
/// # Example
/// ```
/// use nsq_protocol::ClientStats;
///
/// let answer = r#"{"hostname":"worker-1","ready_count":10,"in_flight_count":10}"#;
/// let client: ClientStats = serde_json::from_str(answer)?;
/// assert!(client.in_flight_count >= client.ready_count, "it has all that it asked for");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ClientStats {
    /// From its IDENTIFY.
    pub client_id: String,
    /// From its IDENTIFY.
    pub hostname: String,
    /// From its IDENTIFY.
    pub user_agent: String,
    /// Its IP address and port.
    pub remote_address: String,
    /// 3: subscribed; 4: closing.
    pub state: i64,
    /// Its RDY.
    pub ready_count: i64,
    /// Delivered to it, not answered, not timed out.
    pub in_flight_count: i64,
    /// Deliveries.
    pub message_count: u64,
    /// FINs.
    pub finish_count: u64,
    /// REQs.
    pub requeue_count: u64,
    /// When it connected, in seconds since the Unix epoch.
    pub connect_ts: i64,
    /// Whether it uses TLS.
    pub tls: bool,
    /// Whether it uses snappy.
    pub snappy: bool,
    /// Whether it uses deflate.
    pub deflate: bool,
    /// What it published, of a producer; nsqd 1.3.0 names one topic only.
    #[serde(deserialize_with = "null_is_default")]
    pub pub_counts: Vec<PubCount>,
}

/// What one connection published to one topic.
///
/// # Example
/// ```
/// let answer = r#"{"topic":"plays","count":12}"#;
/// let published: nsq_protocol::PubCount = serde_json::from_str(answer)?;
/// assert_eq!((published.topic.as_str(), published.count), ("plays", 12));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PubCount {
    /// The topic.
    pub topic: String,
    /// Messages.
    pub count: u64,
}

impl NodeStats {
    /// The statistics of one topic.
    pub fn topic(&self, name: &TopicName) -> Option<&TopicStats> {
        self.topics.iter().find(|topic| topic.topic_name == name.as_str())
    }

    /// The statistics of one channel.
    pub fn channel(&self, topic: &TopicName, channel: &ChannelName) -> Option<&ChannelStats> {
        let channels = &self.topic(topic)?.channels;
        channels.iter().find(|of| of.channel_name == channel.as_str())
    }
}
