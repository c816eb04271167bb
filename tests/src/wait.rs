//! Waiting for something to become true, with a deadline instead of a guessed sleep.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long anything may take on a slow, busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// Asks until `ask` has an answer. `what` completes the sentence "waited in vain until ...".
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, ask)
}

/// The same with a time of its own.
pub fn within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Asks until the answer is `expected`.
pub fn until_equal<T: PartialEq + Debug>(what: &str, expected: T, mut ask: impl FnMut() -> T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if answer == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "waited in vain until {what}: {answer:?} instead of {expected:?}"
        );
        std::thread::sleep(PAUSE);
    }
}
