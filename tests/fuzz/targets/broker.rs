//! Any bytes from a client of the broker, plain or behind what IDENTIFY agrees on: it answers, closes, and serves the next one.
#![no_main]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nsq_protocol::MAGIC;
use playcounts::broker::{Broker, BrokerConfig};
use playcounts::http::{ServerTls, TlsFiles};

/// What is asked for first.
const UPGRADES: [&str; 4] = [r#"{}"#, r#"{"snappy":true}"#, r#"{"deflate":true}"#, r#"{"tls_v1":true}"#];

/// Clients of one broker: topics that they make stay, and messages.
const CLIENTS: u32 = 500;

/// A broker that has not answered or closed by then hangs. Behind damage it reads on for 1 s.
const WAIT: Duration = Duration::from_secs(10);

static SERVED: Mutex<Option<(Broker, u32)>> = Mutex::new(None);

fn start() -> Broker {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let files = TlsFiles { cert: dir.path().join("cert"), key: dir.path().join("key") };
    std::fs::write(&files.cert, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    Broker::start(BrokerConfig {
        tcp_address: "127.0.0.1:0".to_owned(),
        http_address: None,
        https_address: None,
        tls: Some(Arc::new(ServerTls::load(files).unwrap())),
        max_memory: 64 << 20,
        ..BrokerConfig::default()
    })
    .unwrap()
}

fn connect(served: &mut MutexGuard<'_, Option<(Broker, u32)>>) -> TcpStream {
    if served.as_ref().is_none_or(|(_, clients)| *clients == CLIENTS) {
        **served = Some((start(), 0));
    }
    let (broker, clients) = served.as_mut().unwrap();
    *clients += 1;
    let stream = TcpStream::connect(broker.tcp_addr()).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream
}

/// IDENTIFY, and its answer in clear.
fn identify(stream: &mut TcpStream, json: &str) {
    let mut hello = MAGIC.to_vec();
    hello.extend(b"IDENTIFY\n");
    hello.extend((json.len() as u32).to_be_bytes());
    hello.extend(json.as_bytes());
    stream.write_all(&hello).unwrap();
    let mut size = [0; 4];
    stream.read_exact(&mut size).expect("an answer to IDENTIFY");
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut answer).expect("an answer to IDENTIFY");
}

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else { return };
    let mut served = SERVED.lock().unwrap();
    let mut stream = connect(&mut served);
    identify(&mut stream, UPGRADES[usize::from(*first) % UPGRADES.len()]);
    // It may have closed meanwhile.
    let _ = stream.write_all(data);
    let _ = stream.shutdown(Shutdown::Write);
    match stream.read_to_end(&mut Vec::new()) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("it neither answers nor closes")
        }
        _ => {}
    }
    identify(&mut connect(&mut served), "{}");
});
