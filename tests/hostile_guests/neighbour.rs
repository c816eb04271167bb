//! A grain of another type that is called all the time, and must not notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use granary_tests::{Client, Host};

/// Calls of a round at least: enough for a p99 that one slow call doesn't make.
const CALLS: usize = 300;

/// A counter and what is known of it.
pub(crate) struct Neighbour {
    client: Client,
    value: i64,
}

impl Neighbour {
    /// Deploys the counter and calls it until it is warm.
    pub(crate) fn settle(host: &Host) -> Neighbour {
        host.deploy("counter");
        let mut neighbour = Neighbour {
            client: host.client(),
            value: 0,
        };
        neighbour.quiet_round();
        neighbour
    }

    /// The p99 of a round without attacks.
    pub(crate) fn quiet_round(&mut self) -> Duration {
        p99((0..CALLS).map(|_| self.call()).collect())
    }

    /// The p99 of all calls while `attack` runs.
    pub(crate) fn round_beside(&mut self, attack: impl FnOnce() + Send) -> Duration {
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                // Also when the attack's own expectations fail: the round has to end.
                let _ended = OnDrop(&ended);
                attack();
            });
            let mut times = Vec::new();
            while times.len() < CALLS || !ended.load(Ordering::Relaxed) {
                times.push(self.call());
            }
            p99(times)
        })
    }

    /// Adds one, checks the value, says how long it took.
    fn call(&mut self) -> Duration {
        let started = Instant::now();
        let value = self.client.call("counter/neighbour/add", "[1]").integer();
        let took = started.elapsed();
        self.value += 1;
        assert_eq!(value, self.value, "the neighbour's value");
        took
    }
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}
