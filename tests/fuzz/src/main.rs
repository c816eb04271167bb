//! A fuzzer for the target that the environment names; `cargo xtask fuzz` builds and starts it.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<granary_fuzz::Target> = LazyLock::new(granary_fuzz::chosen);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
