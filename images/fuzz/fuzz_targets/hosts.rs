//! `hosts.toml` files.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| pintle_images::fuzzing::hosts(text));
