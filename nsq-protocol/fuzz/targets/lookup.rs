//! See `bodies::lookup`.
#![no_main]

#[path = "../../tests/it/seeds/bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::lookup(data));
