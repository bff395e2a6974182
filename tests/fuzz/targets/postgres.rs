//! Any bytes of a PostgreSQL server, as its part of a login or as answers, and any connection string: taken or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use playcounts::postgres::{PgConfig, fuzz_answers, fuzz_login};

fuzz_target!(|data: &[u8]| {
    let [what, plan, bytes @ ..] = data else { return };
    match what % 3 {
        0 => fuzz_login(bytes),
        1 => fuzz_answers(*plan, bytes),
        _ => {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            // The user's own home is left out.
            if let Ok(config) = PgConfig::parse(text, &|_| None) {
                let _ = config.to_string();
            }
        }
    }
});
