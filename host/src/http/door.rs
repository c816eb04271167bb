//! Where calls are taken on or refused when more come in than the host can do: drives `granary_core::admission`.

use std::sync::{Mutex, MutexGuard};

use granary_core::admission::{Admission, Settings};
use granary_core::api::Code;
use granary_core::time::Time;

use super::error::Refusal;
use super::metrics::Metrics;
use crate::clock::Clock;

/// The one door of all connections.
#[derive(Debug)]
pub(super) struct Door {
    clock: Clock,
    admission: Mutex<Admission>,
}

impl Door {
    pub(super) fn new(settings: Settings) -> Door {
        Door {
            clock: Clock::start(),
            admission: Mutex::new(Admission::new(settings)),
        }
    }

    /// Takes a call on that has waited for so long for a worker thread, with so many others in flight. Returns when it began
    /// to wait.
    pub(super) fn admit(&self, waited_nanos: u64, in_flight: usize, metrics: &Metrics) -> Result<Time, Refusal> {
        let now = self.clock.time();
        if self.admission().admits(now, waited_nanos, in_flight) {
            return Ok(Time(now.0.saturating_sub(waited_nanos)));
        }
        metrics.surplus_refused.inc();
        let detail =
            "more calls come in than the host can do, and this one is of the surplus: try again later, or less often";
        Err(Refusal::new(Code::Overloaded, detail))
    }

    /// A call that was taken on is answered that came then.
    pub(super) fn answered(&self, came: Time) {
        let took = self.clock.time().nanos_since(came);
        self.admission().answered(took);
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().expect("no panic under this lock")
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[test]
    fn a_surplus_hears_that_it_is_one() {
        let metrics = Metrics::new(Registry::new()).unwrap();
        // Any wait is long, any answer late, each call a window.
        let door = Door::new(Settings {
            target_nanos: 0,
            wait_nanos: 0,
            window_nanos: 1,
            least_samples: 1,
            always: 0,
        });
        let refusal = loop {
            match door.admit(1_000_000, 9, &metrics) {
                Ok(came) => door.answered(came),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!(refusal.code(), Code::Overloaded);
        assert_eq!(metrics.surplus_refused.get(), 1);
    }
}
