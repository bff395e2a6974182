//! Reads what an nsqlookupd answers: where the nsqds are that have a topic, and which channels it has (pure).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

#[cfg(feature = "http")]
use crate::codec::names::ChannelName;

/// How much of an unexpected answer goes into an error, characters.
const EXCERPT: usize = 100;

/// Reasons kept of entries that were left out of one answer; the others are only counted.
const MAX_REASONS: usize = 3;

/// The longest host name that DNS knows.
const MAX_HOST: usize = 253;

/// What one nsqlookupd says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LookupResponse {
    /// Where to connect to, `host:port`, after the broadcast map.
    pub(crate) nsqds: Vec<String>,
    /// Their HTTP APIs, in the same order.
    pub(crate) http: Vec<String>,
    /// Entries left out, and why, of the first few.
    pub(crate) left_out: usize,
    pub(crate) reasons: Vec<String>,
}

/// An answer, also in the wrapper that nsqlookupd had before 1.0.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WireResponse {
    producers: Option<Vec<Value>>,
    data: Option<WireData>,
    status_code: Option<i64>,
    status_txt: Option<String>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireData {
    producers: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct WireNode {
    broadcast_address: String,
    tcp_port: i64,
    /// A caller that needs it finds out that 0 is no port.
    #[serde(default)]
    http_port: i64,
}

/// Reads the answer to `/lookup`, with its HTTP status.
///
/// An unknown topic is no error: before the first publish nobody knows it.
pub(crate) fn read_response(
    status: u16,
    body: &[u8],
    map: &BTreeMap<String, String>,
) -> Result<LookupResponse, String> {
    let excerpt = || {
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT)]);
        text.escape_debug().take(EXCERPT).collect::<String>()
    };
    // An array, too, would read as a struct: one with every field at its default.
    let object = if body.trim_ascii_start().starts_with(b"{") { body } else { b"" };
    let wire: WireResponse = match serde_json::from_slice(object) {
        Ok(wire) => wire,
        Err(error) if status == 200 => {
            return Err(format!("no such JSON object ({error}): {}", excerpt()));
        }
        Err(_) => return Err(format!("status {status}: {}", excerpt())),
    };
    let said = wire.message.or(wire.status_txt).unwrap_or_default();
    if said == "TOPIC_NOT_FOUND" {
        return Ok(LookupResponse::default());
    }
    let status = wire.status_code.unwrap_or(i64::from(status));
    if status != 200 {
        return Err(format!("status {status}: {:.100}", said.escape_debug().to_string()));
    }
    // `data` may be null, as Go writes it, but then there must be a list beside it.
    let listed = wire.producers.or(wire.data.map(|data| data.producers.unwrap_or_default()));
    let Some(producers) = listed else {
        // Go writes an empty list as null, too; without the key it is somebody else's JSON.
        let has_key = serde_json::from_slice::<BTreeMap<String, Value>>(body)
            .is_ok_and(|keys| keys.contains_key("producers"));
        return match has_key {
            true => Ok(LookupResponse::default()),
            false => Err(format!("JSON without \"producers\": {}", excerpt())),
        };
    };
    let mut response = LookupResponse::default();
    for producer in producers {
        match dial_address(producer, map) {
            Ok((tcp, http)) => {
                response.nsqds.push(tcp);
                response.http.push(http);
            }
            Err(reason) => {
                response.left_out += 1;
                if response.reasons.len() < MAX_REASONS {
                    response.reasons.push(reason);
                }
            }
        }
    }
    Ok(response)
}

/// An answer to `/channels`, also in the wrapper.
#[cfg(feature = "http")]
#[derive(Deserialize)]
struct WireChannels {
    channels: Option<Vec<String>>,
    data: Option<Box<WireChannels>>,
}

/// Reads the answer to `/channels`, with its HTTP status. What is no name of a channel is left out.
#[cfg(feature = "http")]
pub(crate) fn read_channels(status: u16, body: &[u8]) -> Result<Vec<ChannelName>, String> {
    let excerpt = || {
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT)]);
        text.escape_debug().take(EXCERPT).collect::<String>()
    };
    if status != 200 {
        return Err(format!("status {status}: {}", excerpt()));
    }
    // An array, too, would read as a struct.
    let object = if body.trim_ascii_start().starts_with(b"{") { body } else { b"" };
    let wire: WireChannels = serde_json::from_slice(object)
        .map_err(|error| format!("no such JSON object ({error}): {}", excerpt()))?;
    let names = wire.channels.or(wire.data.and_then(|data| data.channels));
    let names = names.ok_or_else(|| format!("JSON without \"channels\": {}", excerpt()))?;
    Ok(names.iter().filter_map(|name| ChannelName::new(name).ok()).collect())
}

/// For the fuzz targets: reads an answer, and gives the addresses or the error's text.
#[cfg(feature = "unstable-internals")]
pub fn fuzz_lookup(status: u16, body: &[u8]) -> Result<Vec<String>, String> {
    let map = BTreeMap::from([
        ("nsqd-1".to_owned(), "127.0.0.1:32768".to_owned()),
        ("nsqd-2:4150".to_owned(), "other".to_owned()),
    ]);
    read_response(status, body, &map).map(|response| response.nsqds)
}

/// Where to connect to for one entry, and its HTTP API.
fn dial_address(entry: Value, map: &BTreeMap<String, String>) -> Result<(String, String), String> {
    let WireNode { broadcast_address: host, tcp_port, http_port } =
        serde_json::from_value(entry)
            .map_err(|error| format!("an entry that is no such object: {error}"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let named = |host: &str, port: &str| match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    if let Some(to) = map.get(&named(host, &tcp_port.to_string())).or_else(|| map.get(host)) {
        let has_port = to.rsplit_once(':').is_some_and(|(host, port)| {
            port.parse::<u16>().is_ok() && (!host.contains(':') || host.starts_with('['))
        });
        let host = if has_port { to.rsplit_once(':').map_or(&**to, |(host, _)| host) } else { to };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tcp = if has_port { to.clone() } else { named(host, &tcp_port.to_string()) };
        return Ok((tcp, named(host, &http_port.to_string())));
    }
    let shown = || host.escape_debug().take(MAX_HOST).collect::<String>();
    let bad = |c: char| c.is_whitespace() || c.is_control() || "/?#@\\\"[]".contains(c);
    if host.is_empty() || host.len() > MAX_HOST || host.contains(bad) {
        return Err(format!("the broadcast address \"{}\" is no host name", shown()));
    }
    if !(1..=i64::from(u16::MAX)).contains(&tcp_port) {
        return Err(format!("{} with the TCP port {tcp_port}", shown()));
    }
    Ok((named(host, &tcp_port.to_string()), named(host, &http_port.to_string())))
}

#[cfg(test)]
mod tests;
