//! Fuzz targets: each takes any bytes, and panics when something that must hold of them does not.
//!
//! `cargo xtask fuzz TARGET --seconds N` runs one under libFuzzer; the ordinary tests feed every target with its corpus and
//! with mutations of that. An input that once broke something stays in the corpus under a name that says what it was.
//!
//! **Not here:** what the host's parts promise. That's in `granary_host::fuzzing`, next to what it looks into.

mod commit;

use granary_host::fuzzing;

/// A target: any bytes in.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("commit", commit::commit),
    ("head", fuzzing::head_value),
    ("http", fuzzing::http_arguments),
    ("image", fuzzing::image_file),
    ("log", fuzzing::log_replay),
    ("module", fuzzing::module),
];

/// The variable that names the target of a fuzzer.
pub const VARIABLE: &str = "GRANARY_FUZZ_TARGET";

/// The target that the environment names.
///
/// # Panics
///
/// When there is none: a fuzzer without a target can only be a mistake.
pub fn chosen() -> Target {
    let name = std::env::var(VARIABLE).unwrap_or_default();
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    match found {
        Some((_, target)) => *target,
        None => panic!("{VARIABLE} is `{name}`: it is one of {}", names.join(", ")),
    }
}
