//! Manifests and indexes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pintle_images::fuzzing::manifest(bytes));
