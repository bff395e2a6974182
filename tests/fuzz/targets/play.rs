//! Any message body: a play that survives its encoding, or a rejection of one bounded line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use playcounts::model::play::{Play, Rejection};

fuzz_target!(|data: &[u8]| match Play::decode(data) {
    Ok(play) => {
        let mut body = Vec::new();
        play.encode(&mut body);
        assert_eq!(Play::decode(&body), Ok(play));
    }
    Err(reason) => {
        assert!(reason.as_str().chars().count() <= Rejection::MAX_LEN);
        assert!(!reason.as_str().contains(char::is_control));
    }
});
