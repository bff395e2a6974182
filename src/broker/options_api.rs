//! `/config/OPTION` of the HTTP API: what an option is, in nsqd's words, and the two that can be changed while it runs.

use log::LevelFilter;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::config::{BrokerConfig, TlsRequired};
use super::hub::Hub;
use super::lookupd::register::register_with;
use super::lookupd::registry::check_addresses;
use super::statsd;
use crate::http::{Request, Response};
use crate::runtime::log_level;
use std::sync::Arc;
use std::time::Duration;

/// The largest value: 64 addresses are far below.
const MAX_VALUE: usize = 64 << 10;

/// nsqd's words for how much is logged, and ours. It knows no level below debug.
const LEVELS: [(&str, u8, LevelFilter); 5] = [
    ("debug", 1, LevelFilter::Debug),
    ("info", 2, LevelFilter::Info),
    ("warn", 3, LevelFilter::Warn),
    ("error", 4, LevelFilter::Error),
    ("fatal", 5, LevelFilter::Off),
];

/// Answers a GET, and a PUT with what holds from then on.
pub(super) fn answer(
    hub: &Arc<Hub>,
    request: &Request,
    option: &str,
) -> Result<Response, ApiError> {
    if request.method == "PUT" {
        change(hub, option, &request.body)?;
    }
    let value = match option {
        "nsqlookupd_tcp_addresses" => Some(json!(hub.lookupds.addresses())),
        "log_level" => Some(json!(level_number(log::max_level()))),
        _ => in_use(hub, option).or_else(|| value(&hub.config, option)),
    };
    Ok(match value.ok_or(ApiError::InvalidOption)? {
        // A text is told as it is, as by nsqd.
        Value::String(text) => Response::text(200, text),
        value => Response::json(200, &value),
    })
}

fn change(hub: &Arc<Hub>, option: &str, body: &[u8]) -> Result<(), ApiError> {
    if body.is_empty() || body.len() > MAX_VALUE {
        return Err(ApiError::NoValue);
    }
    match option {
        "nsqlookupd_tcp_addresses" => {
            let addresses: Vec<String> =
                serde_json::from_slice(body).map_err(|_| ApiError::InvalidValue)?;
            check_addresses(&addresses).map_err(|_| ApiError::InvalidValue)?;
            register_with(hub, &addresses).map_err(|error| {
                log::error!("broker: cannot register with all nsqlookupds: {error}");
                ApiError::Internal
            })?;
            log::info!("broker: nsqlookupds are {} from now on", addresses.join(", "));
        }
        "log_level" => {
            let known =
                |(word, ..): &&(&str, u8, LevelFilter)| body.eq_ignore_ascii_case(word.as_bytes());
            let (_, _, level) = LEVELS.iter().find(known).ok_or(ApiError::InvalidValue)?;
            log_level::set(*level);
        }
        _ => return Err(ApiError::InvalidOption),
    }
    Ok(())
}

fn level_number(level: LevelFilter) -> u8 {
    LEVELS.iter().find(|(_, _, known)| *known == level).map_or(1, |(_, number, _)| *number)
}

/// What is made of an option of which only a part is given, as nsqd tells it; while ports are being bound, what was given.
fn in_use(hub: &Hub, option: &str) -> Option<Value> {
    let (config, node) = (&hub.config, hub.lookupds.node());
    let http_port = node.map_or(config.broadcast_http_port, |node| node.http_port);
    Some(match option {
        "broadcast_tcp_port" => {
            json!(node.map_or(config.broadcast_tcp_port, |node| node.tcp_port))
        }
        "broadcast_http_port" => json!(http_port),
        "statsd_prefix" => json!(statsd::prefix(config, http_port)),
        _ => return None,
    })
}

/// What an option is; durations in nanoseconds, as Go has them. (pure)
fn value(config: &BrokerConfig, option: &str) -> Option<Value> {
    let time = |duration: Duration| json!(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    let text = |text: &Option<String>| json!(text.as_deref().unwrap_or_default());
    Some(match option {
        "tcp_address" => json!(config.tcp_address),
        "http_address" => text(&config.http_address),
        "https_address" => text(&config.https_address),
        // nsqd's numbers of them.
        "tls_required" => json!(match config.tls_required {
            TlsRequired::No => 0,
            TlsRequired::ExceptHttp => 1,
            TlsRequired::Always => 2,
        }),
        "auth_http_addresses" => {
            json!(config.auth.as_ref().map(|servers| servers.names()).unwrap_or_default())
        }
        "snappy" => json!(config.snappy),
        "deflate" => json!(config.deflate),
        "max_deflate_level" => json!(config.max_deflate_level),
        "broadcast_address" => json!(config.broadcast_address),
        "http_client_connect_timeout" => time(config.http_client_connect_timeout),
        "http_client_request_timeout" => time(config.http_client_request_timeout),
        "data_path" => {
            json!(
                config
                    .data_path
                    .as_ref()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default()
            )
        }
        "sync_every" => json!(config.sync_every),
        "sync_timeout" => time(config.sync_timeout),
        "mem_queue_size" => json!(config.mem_queue_size),
        "msg_timeout" => time(config.msg_timeout),
        "max_msg_timeout" => time(config.max_msg_timeout),
        "max_msg_size" => json!(config.max_msg_size),
        "max_body_size" => json!(config.max_body_size),
        "max_req_timeout" => time(config.max_req_timeout),
        "max_heartbeat_interval" => time(config.max_heartbeat_interval),
        "max_rdy_count" => json!(config.max_rdy_count),
        "max_output_buffer_size" => json!(config.max_output_buffer_size),
        "max_output_buffer_timeout" => time(config.max_output_buffer_timeout),
        "min_output_buffer_timeout" => time(config.min_output_buffer_timeout),
        "output_buffer_timeout" => time(config.output_buffer_timeout),
        "max_channel_consumers" => json!(config.max_channel_consumers),
        "statsd_address" => text(&config.statsd_address),
        "statsd_interval" => time(config.statsd_interval),
        "statsd_mem_stats" => json!(config.statsd_mem_stats),
        "statsd_udp_packet_size" => json!(config.statsd_udp_packet_size),
        "statsd_exclude_ephemeral" => json!(config.statsd_exclude_ephemeral),
        "e2e_processing_latency_window_time" => time(config.e2e_processing_latency_window_time),
        "e2e_processing_latency_percentiles" => json!(config.e2e_processing_latency_percentiles),
        _ => return None,
    })
}
