//! Any text as a configuration file: taken, or refused with a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use playcounts::command::check_config_text;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = check_config_text(text) {
        assert!(error.starts_with("FILE:") && !error.contains('\n'), "{error:?}");
    }
});
