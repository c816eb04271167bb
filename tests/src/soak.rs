//! What `cargo xtask soak` has longer and larger, and what only it measures.
//!
//! An ordinary run of the tests has no assertion on time, memory or rate: it has to hold on any machine, whatever else that one does.
//! Soak runs on a machine that is left alone, by whoever wants to know.

/// Whether this is a soak run.
pub fn is_on() -> bool {
    std::env::var_os("GRANARY_SOAK").is_some()
}

/// A size: the small one in an ordinary run, the large one in soak.
pub fn or<T>(small: T, large: T) -> T {
    if is_on() { large } else { small }
}

/// Prints a figure, and asserts what is expected of it in soak.
#[track_caller]
pub fn measured(figure: &str, holds: bool) {
    println!("measured: {figure}");
    assert!(holds || !is_on(), "{figure}");
}
