//! An nsqd that gives out again what a real one gave out once: the same message IDs and timestamps, at the same address.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use nsq_protocol::{CLOSE_WAIT, Frame, MessageId, MessageRef, OK};

/// A message as it was given out.
#[derive(Clone, Debug)]
pub(crate) struct ReplayedMessage {
    pub(crate) id: MessageId,
    pub(crate) timestamp_ns: i64,
    pub(crate) body: String,
}

/// Reads lines of ID, timestamp and body.
pub(crate) fn read_messages(file: &Path) -> Vec<ReplayedMessage> {
    let text = std::fs::read_to_string(file).unwrap();
    let message = |line: &str| {
        let mut parts = line.splitn(3, '\t');
        let mut part = || parts.next().expect("ID, timestamp, body");
        let id = part().parse().unwrap();
        ReplayedMessage { id, timestamp_ns: part().parse().unwrap(), body: part().to_owned() }
    };
    text.lines().map(message).collect()
}

/// Listens at `address` and gives the messages, each once, to whoever subscribes. Its threads end with the test's process.
pub(crate) fn serve(address: &str, messages: Vec<ReplayedMessage>) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        // Another consumer gets them again: nsqd gives out what was not finished.
        for stream in listener.incoming().map_while(Result::ok) {
            let messages = messages.clone();
            std::thread::spawn(move || give_out(&stream, &messages));
        }
    });
}

/// Speaks to one consumer, until it goes.
fn give_out(stream: &TcpStream, messages: &[ReplayedMessage]) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream);
    lines.read_exact(&mut [0; 4])?;
    let send = |frame: Frame<'_>| {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        (&*stream).write_all(&wire)
    };
    let (mut line, mut is_ready) = (String::new(), false);
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.trim_end().split(' ').next().unwrap_or_default() {
            "IDENTIFY" => {
                let mut size = [0; 4];
                lines.read_exact(&mut size)?;
                lines.read_exact(&mut vec![0; u32::from_be_bytes(size) as usize])?;
                send(Frame::Response(br#"{"max_rdy_count":2500,"version":"1.3.0"}"#))?;
            }
            "SUB" => send(Frame::Response(OK))?,
            "CLS" => send(Frame::Response(CLOSE_WAIT))?,
            "RDY" if !std::mem::replace(&mut is_ready, true) => {
                for ReplayedMessage { id, timestamp_ns, body } in messages {
                    send(Frame::Message(MessageRef {
                        timestamp_ns: *timestamp_ns,
                        attempts: 2,
                        id: *id,
                        body: body.as_bytes(),
                        skipped: 0,
                    }))?;
                }
            }
            // RDY of less, FIN, NOP: nothing is answered.
            _ => {}
        }
    }
}
