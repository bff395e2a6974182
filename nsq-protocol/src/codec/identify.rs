//! IDENTIFY: what a client says of itself and asks for, and what nsqd agrees to (pure).

use serde::{Deserialize, Serialize};

use crate::codec::go_json::null_is_default;

/// The JSON body of IDENTIFY. Absent fields are nsqd's defaults; times are in ms.
///
/// nsqd takes JSON integers only, ignores unknown keys, and refuses a wrong type with `E_BAD_BODY`.
/// The ranges are those of nsqd 1.3.0's defaults.
///
/// # Example
/// ```
/// use nsq_protocol::{Command, IdentifyRequest};
///
/// let mut request = IdentifyRequest::default();
/// request.feature_negotiation = true;
/// let json = serde_json::to_vec(&request)?;
/// let mut wire = Vec::new();
/// Command::Identify(&json).encode(&mut wire);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct IdentifyRequest {
    /// Names this client in nsqadmin; usually the short host name.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub client_id: String,
    /// The host it runs on.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub hostname: String,
    /// The program, as `name/version`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub user_agent: String,
    /// Ask for the JSON answer; without it the answer is `OK`, and TLS and compression are not negotiated.
    #[serde(deserialize_with = "null_is_default")]
    pub feature_negotiation: bool,
    /// 1000 to 60000; 0: nsqd's default, 30000; -1: none, which forbids SUB.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub heartbeat_interval: i64,
    /// Bytes, 64 to 65536; 0: nsqd's default, 16384; -1: unbuffered.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub output_buffer_size: i64,
    /// 25 to 30000; 0: nsqd's default, 250; -1: no timer.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub output_buffer_timeout: i64,
    /// Ask for TLS behind the answer.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub tls_v1: bool,
    /// Ask for snappy behind the answer, and behind TLS.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub snappy: bool,
    /// Ask for deflate, likewise; not together with snappy.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub deflate: bool,
    /// 1 to 6; 0: nsqd's default, 6.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub deflate_level: i64,
    /// Per cent of messages to deliver, 1 to 99; 0: all. nsqd 1.3.0 really delivers one per cent more.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub sample_rate: i64,
    /// In-flight limit of this connection's messages, 1000 to 900000; 0: nsqd's default, 60000.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_is_default")]
    pub msg_timeout: i64,
    /// Where the client runs, for nsqd after 1.3.0.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub topology_region: String,
    /// Where in the region, for nsqd after 1.3.0.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub topology_zone: String,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// nsqd's JSON answer to IDENTIFY with feature negotiation, fields in its order; times in ms.
///
/// A field that an older nsqd leaves out reads as nsqd 1.3.0's default.
///
/// # Example
/// ```
/// use nsq_protocol::IdentifyResponse;
///
/// let answer: IdentifyResponse = serde_json::from_str(r#"{"max_rdy_count":100}"#)?;
/// assert_eq!((answer.max_rdy_count, answer.msg_timeout), (100, 60_000));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct IdentifyResponse {
    /// The largest RDY this nsqd takes.
    pub max_rdy_count: i64,
    /// nsqd's version.
    pub version: String,
    /// How far TOUCH can stretch a message's in-flight time.
    pub max_msg_timeout: i64,
    /// In-flight limit of this connection's messages.
    pub msg_timeout: i64,
    /// TLS follows.
    pub tls_v1: bool,
    /// Deflate follows, behind TLS.
    pub deflate: bool,
    /// At that level.
    pub deflate_level: i64,
    /// The highest level that this nsqd allows.
    pub max_deflate_level: i64,
    /// Snappy follows, behind TLS.
    pub snappy: bool,
    /// Per cent of messages delivered; 0: all.
    pub sample_rate: i64,
    /// AUTH must follow.
    pub auth_required: bool,
    /// Bytes that nsqd gathers before it writes.
    pub output_buffer_size: i64,
    /// How long it gathers them.
    pub output_buffer_timeout: i64,
}

impl Default for IdentifyResponse {
    fn default() -> Self {
        Self {
            max_rdy_count: 2500,
            version: String::new(),
            max_msg_timeout: 900_000,
            msg_timeout: 60_000,
            tls_v1: false,
            deflate: false,
            deflate_level: 6,
            max_deflate_level: 6,
            snappy: false,
            sample_rate: 0,
            auth_required: false,
            output_buffer_size: 16_384,
            output_buffer_timeout: 250,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_nsqds_fields_in_nsqds_order() {
        let answer = IdentifyResponse { version: "1.3.0".into(), ..Default::default() };
        let json = r#"{"max_rdy_count":2500,"version":"1.3.0","max_msg_timeout":900000,"msg_timeout":60000,"tls_v1":false,"deflate":false,"deflate_level":6,"max_deflate_level":6,"snappy":false,"sample_rate":0,"auth_required":false,"output_buffer_size":16384,"output_buffer_timeout":250}"#;
        assert_eq!(serde_json::to_string(&answer).unwrap(), json);
        assert_eq!(serde_json::from_str::<IdentifyResponse>(json).unwrap(), answer);
        assert_eq!(serde_json::from_str::<IdentifyResponse>("{}").unwrap().max_rdy_count, 2500);
    }

    #[test]
    fn a_request_says_only_what_differs_from_the_default() {
        let request = IdentifyRequest {
            feature_negotiation: true,
            heartbeat_interval: -1,
            ..Default::default()
        };
        let json = r#"{"feature_negotiation":true,"heartbeat_interval":-1}"#;
        assert_eq!(serde_json::to_string(&request).unwrap(), json);
        let read = |text| serde_json::from_str::<IdentifyRequest>(text);
        assert_eq!(read(json).unwrap(), request);
        assert_eq!(
            read(r#"{"short_id":"x","msg_timeout":null}"#).unwrap(),
            IdentifyRequest::default()
        );
        assert!(read(r#"{"msg_timeout":"1s"}"#).is_err());
        assert!(read(r#"{"msg_timeout":1.5}"#).is_err());
    }
}
