//! Any message body, read by our decoder and by serde_json: they say the same, whatever the decoder has read before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use playcounts::model::play::{Play, PlayDecoder};

fuzz_target!(|data: &[u8]| {
    let by_serde = Play::decode_by_serde(data);
    let play = by_serde.clone().map(|(play, _)| play);
    let mut decoder = PlayDecoder::default();
    assert_eq!(decoder.decode(data), play);
    let ignored = by_serde.map(|(_, ignored)| ignored).unwrap_or_default();
    assert_eq!(decoder.clone().take_ignored(), ignored);
    assert_eq!(decoder.decode(data), play);
});
