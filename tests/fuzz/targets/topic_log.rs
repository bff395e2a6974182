//! A topic's log that a broker wrote, then changes to what its frames say: a broker starts on it and delivers, or refuses it. Where
//! it has started, it starts again.
#![no_main]

mod memory;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use memory::Memory;
use nsq_protocol::MAGIC;
use playcounts::broker::{Broker, BrokerConfig};
use playcounts::journal::{FsDisk, Journal, JournalConfig, JournalKind, Position, read};

const SEGMENT: &str = "0000000001.segment";

fn start(data_path: &Path) -> anyhow::Result<Broker> {
    Broker::start(BrokerConfig {
        tcp_address: "127.0.0.1:0".to_owned(),
        http_address: None,
        data_path: Some(data_path.to_owned()),
        max_memory: 64 << 20,
        ..BrokerConfig::default()
    })
}

/// Sends commands, and reads what is answered until nothing comes.
fn talk(broker: &Broker, commands: &[u8]) {
    let mut stream = TcpStream::connect(broker.tcp_addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    stream.write_all(MAGIC).unwrap();
    let _ = stream.write_all(commands);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// The frames of a topic with two channels: messages that are deferred, in flight, requeued and finished.
fn written() -> &'static [Vec<u8>] {
    static WRITTEN: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let broker = start(dir.path()).unwrap();
        talk(&broker, b"SUB t a\nRDY 2\nPUB t\n\0\0\0\x01aPUB t\n\0\0\0\x01bPUB t\n\0\0\0\x01c");
        talk(&broker, b"SUB t b\nREQ 0000000000000001 60000\nRDY 1\nDPUB t 60000\n\0\0\0\x01d");
        talk(&broker, b"MPUB t\n\0\0\0\x12\0\0\0\x02\0\0\0\x01e\0\0\0\x05ffffg");
        broker.shutdown();
        let disk = FsDisk::open(&dir.path().join("topic-t")).unwrap();
        let mut frames = Vec::new();
        let all = Position { segment: 1, number: 1 };
        read(&*disk, all, |_, frame| {
            frames.push(frame.to_vec());
            Ok(())
        })
        .unwrap();
        assert!(frames.len() > 4, "{frames:?}");
        frames
    })
}

fuzz_target!(|data: &[u8]| {
    let mut frames = written().to_vec();
    let (edits, more) = data.split_at(data.len().min(64) / 4 * 4);
    for edit in edits.chunks_exact(4) {
        let count = frames.len();
        let frame = &mut frames[usize::from(edit[0]) % count];
        let at = usize::from(edit[1]) % frame.len();
        match edit[2] {
            0 => frame.truncate(at.max(1)),
            1 => frame.insert(at, edit[3]),
            _ => frame[at] ^= edit[3],
        }
    }
    if !more.is_empty() {
        frames.push(more.to_vec());
    }
    let disk = Memory::of(&Default::default());
    let config = JournalConfig { kind: JournalKind::Topic, segment_bytes: 1 << 20, ..memory::config() };
    let (mut journal, _) = Journal::open(disk.clone(), config, None, |_, _| Ok(())).unwrap();
    frames.iter().for_each(|frame| drop(journal.put(frame).unwrap()));
    drop(journal);
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let topic = dir.path().join("topic-t");
    std::fs::create_dir(&topic).unwrap();
    std::fs::write(topic.join(SEGMENT), &disk.files()[SEGMENT]).unwrap();
    let Ok(broker) = start(dir.path()) else { return };
    broker.stats();
    talk(&broker, b"SUB t a\nRDY 100\n");
    talk(&broker, b"SUB t new\nRDY 100\nPUB t\n\0\0\0\x01z");
    broker.stats();
    broker.shutdown();
    start(dir.path()).expect("it has started on it before").shutdown();
});
