//! A dashboard on a free port and a directory of its own, and a client that speaks to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nsq_protocol::{
    Admin, Batch, BodiesBuf, Consumer, ConsumerConfig, Producer, ProducerConfig, RdyMode,
};
use playcounts::broker::{Broker, BrokerConfig};
use playcounts::dashboard::{Dashboard, DashboardConfig, Keep, WatchedQueue};
use playcounts::nsqd::depth::QueueDepth;
use playcounts::nsqd::http_tls::HttpTls;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::timing::DEADLINE;
use playcounts::model::video_id::VideoId;

/// A running dashboard and its directory, both gone at the end of the test.
pub(crate) struct Running {
    pub(crate) dashboard: Dashboard,
    pub(crate) data: TempDir,
}

/// The defaults of the tests: a free port, an empty directory.
pub(crate) fn config(data: &TempDir) -> DashboardConfig {
    DashboardConfig {
        http_address: "127.0.0.1:0".to_owned(),
        data_dir: data.path().to_owned(),
        write_token: None,
        read_token: None,
        configuration: json!([{"name": "messages", "value": 100_000}, {"name": "threads", "value": 2}]),
        clean: false,
        keep: Keep::default(),
        watched: None,
        allowed_hosts: Vec::new(),
        video_url: None,
        idle_alert: None,
        webhook: None,
        embed: Vec::new(),
        tls: None,
    }
}

/// A broker that holds plays, and a consumer that holds some of them.
pub(crate) struct Queue {
    // Given back before the consumer ends, which waits for them.
    _held: Vec<Batch>,
    _consumer: Option<Consumer>,
    _broker: Broker,
    /// What a dashboard watches of it.
    pub(crate) watched: WatchedQueue,
}

impl Queue {
    /// With so many messages waiting, in flight and deferred.
    pub(crate) fn start(wanted: QueueDepth) -> Self {
        let broker = Broker::start(BrokerConfig {
            tcp_address: "127.0.0.1:0".to_owned(),
            http_address: Some("127.0.0.1:0".to_owned()),
            ..BrokerConfig::default()
        })
        .unwrap();
        let nsqd = broker.tcp_addr().to_string();
        let watched = WatchedQueue {
            nsqds: vec![broker.http_addr().unwrap().to_string()],
            lookupds: Vec::new(),
            tls: HttpTls::default(),
            topic: "plays".parse().unwrap(),
            channel: "processor".parse().unwrap(),
            depth_alert: None,
        };
        let (topic, channel) = (watched.topic, watched.channel);
        let admin = Admin::new(&watched.nsqds[0]);
        admin.create_topic(&topic).unwrap();
        admin.create_channel(&topic, &channel).unwrap();
        let producer = Producer::connect(ProducerConfig::default().nsqd(&nsqd)).unwrap();
        let QueueDepth { depth, in_flight, deferred } = wanted;
        let mut bodies = BodiesBuf::new();
        (0..depth + in_flight).for_each(|_| bodies.push(b"{}"));
        producer.publish_many(&topic, &bodies).unwrap();
        for _ in 0..deferred {
            producer.publish_deferred(&topic, Duration::from_secs(3600), b"{}").unwrap();
        }
        let mut held = Vec::new();
        let consumer = (in_flight > 0).then(|| {
            let config = ConsumerConfig::new(topic, channel).nsqd(&nsqd).rdy(RdyMode::Fixed);
            let config = config.max_in_flight(in_flight as u32);
            let consumer = Consumer::start(config).unwrap();
            let batches = consumer.batches();
            while held.iter().map(Batch::len).sum::<usize>() < in_flight as usize {
                held.push(batches.recv_timeout(DEADLINE).unwrap());
            }
            consumer
        });
        Self { _held: held, _consumer: consumer, _broker: broker, watched }
    }
}

/// Starts a dashboard with the defaults.
pub(crate) fn start() -> Running {
    let data = tempfile::tempdir().unwrap();
    let dashboard = Dashboard::start(config(&data)).unwrap();
    Running { dashboard, data }
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }

    /// The body of an answer that came in chunks.
    #[track_caller]
    pub(crate) fn unchunked(&self) -> String {
        let (mut body, mut whole) = (&self.body[..], Vec::new());
        loop {
            let end = body.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let size = usize::from_str_radix(str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
            whole.extend(&body[end + 2..end + 2 + size]);
            body = &body[end + 2 + size + 2..];
            if size == 0 {
                assert!(body.is_empty());
                return String::from_utf8(whole).unwrap();
            }
        }
    }
}

/// Sends one request; `extra` holds whole header lines.
#[track_caller]
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    extra: &str,
    body: &[u8],
) -> Answer {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let host = if extra.contains("Host:") { String::new() } else { format!("Host: {address}\r\n") };
    let head = format!(
        "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{extra}Content-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[end + 4..].to_vec() }
}

impl Running {
    /// Sends one request; `extra` holds whole header lines.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, extra: &str, body: &[u8]) -> Answer {
        ask(self.dashboard.local_addr(), method, path, extra, body)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", b"")
    }

    /// Sends `value` and insists on the status.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, value: &Value, status: u16) -> Answer {
        let answer = self.ask("POST", path, "", value.to_string().as_bytes());
        assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
        answer
    }

    /// Tells the counts of videos, at most 20, as processor 1.
    #[track_caller]
    pub(crate) fn tell(&self, version: u64, counts: &[(VideoId, u64)]) {
        self.post("/api/counts", &update(version, counts), 200);
    }
}

/// A good message of processor 1.
pub(crate) fn update(version: u64, counts: &[(VideoId, u64)]) -> Value {
    let counts: Vec<_> =
        counts.iter().map(|(id, plays)| json!({"video_id": id, "plays": plays, "last_played_at": 1_700_000_000_000_u64})).collect();
    json!({"processor": Uuid::from_u128(1), "version": version, "counts": counts})
}

/// A processor's report.
pub(crate) fn consumption(rejection: Option<&str>) -> Value {
    json!({
        "received": 1200, "counted": 1180, "duplicates": 15, "rejected": 5, "last_rejection": rejection,
        "per_second": 842.5, "realtime_ms": 1.25,
        "since_start": {"mean": 3.5, "p50": 2.0, "p99": 40.25, "max": 180.0},
    })
}

/// What processor `me`, 1 or 2, tells of a ledger that it shares with the other and with the dead 3 and 4; 1 publishes for 3.
pub(crate) fn shared_ledger(me: u128) -> Value {
    let processor = |id: u128| {
        let lease = if id < 3 { 9_500 } else { -75_000 };
        let publisher = (id == 3).then(|| Uuid::from_u128(1));
        let told = (id == 4).then_some(0);
        json!({
            "id": Uuid::from_u128(id), "lease_ms_left": lease, "epoch": id as u64, "is_me": id == me, "is_alive": id < 3,
            "published_by": publisher, "last_record": id as u64 * 10, "plays": id as u64 * 1_000, "untold": told,
        })
    };
    let processors = [1, 2, 3, 4].map(processor);
    json!({
        "kind": "postgres", "name": "db.example:5432/plays", "processors": processors,
        "commit_ms_p50": 1.5, "commit_ms_p99": 8.25,
    })
}

/// The video whose id starts with `first`.
pub(crate) fn video(first: u8) -> VideoId {
    VideoId::from_u128((u128::from(first) << 120) | 0x4000_8000_0000_0000_0000)
}
