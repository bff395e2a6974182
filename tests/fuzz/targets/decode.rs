//! Any message body, read by our decoder and by serde_json: they say the same, whatever the decoder has read before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use playcounts::model::play::{Play, PlayDecoder};

fuzz_target!(|data: &[u8]| {
    let by_serde = Play::decode_by_serde(data);
    let mut decoder = PlayDecoder::default();
    assert_eq!(decoder.decode(data), by_serde);
    assert_eq!(decoder.decode(data), by_serde);
});
