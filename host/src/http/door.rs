//! Where calls are taken on or refused when more come in than the host can do: drives `granary_core::admission`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use granary_core::admission::{Admission, Settings};
use granary_core::api::Code;
use granary_core::id::GrainName;
use granary_core::time::Time;

use super::error::Refusal;
use super::metrics::Metrics;

/// Calls in flight are counted by their grains' hashes in so many places: two grains that share one are rare, and harmless.
const PLACES: usize = 4096;
/// With so many calls of one grain in flight, further ones are the first to be refused.
const CROWD: u32 = 8;

/// The one door of all connections.
#[derive(Debug)]
pub(super) struct Door {
    started: Instant,
    admission: Mutex<Admission>,
    in_flight: Box<[AtomicU32]>,
}

/// A call that was taken on.
pub(super) struct Entered<'a> {
    door: &'a Door,
    place: &'a AtomicU32,
    /// When it began to wait.
    came: Time,
}

impl Door {
    pub(super) fn new(settings: Settings) -> Door {
        Door {
            started: Instant::now(),
            admission: Mutex::new(Admission::new(settings)),
            in_flight: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Takes a call on that has waited for so long for a worker thread, with so many others in flight.
    pub(super) fn admit(
        &self,
        grain: &GrainName,
        waited_nanos: u64,
        in_flight: usize,
        metrics: &Metrics,
    ) -> Result<Entered<'_>, Refusal> {
        let place = &self.in_flight[place(grain)];
        let is_crowded = place.load(Ordering::Relaxed) >= CROWD;
        let now = self.time();
        if self.admission().admits(now, waited_nanos, in_flight, is_crowded) {
            place.fetch_add(1, Ordering::Relaxed);
            let came = Time(now.0.saturating_sub(waited_nanos));
            return Ok(Entered {
                door: self,
                place,
                came,
            });
        }
        metrics.surplus_refused.inc();
        let detail =
            "more calls come in than the host can do, and this one is of the surplus: try again later, or less often";
        Err(Refusal::new(Code::Overloaded, detail))
    }

    fn time(&self) -> Time {
        Time(self.started.elapsed().as_nanos() as u64)
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().expect("no panic under this lock")
    }
}

impl Entered<'_> {
    /// The call is answered; one whose client went away isn't.
    pub(super) fn answered(self) {
        let took = self.door.time().nanos_since(self.came);
        self.door.admission().answered(took);
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.place.fetch_sub(1, Ordering::Relaxed);
    }
}

fn place(grain: &GrainName) -> usize {
    let mut hasher = DefaultHasher::new();
    (grain.kind.as_str(), grain.key.as_str()).hash(&mut hasher);
    hasher.finish() as usize % PLACES
}

#[cfg(test)]
mod tests {
    use granary_core::id::{GrainKey, GrainType};
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
        let grain = GrainName::new(GrainType::new("counter").unwrap(), GrainKey::new("a").unwrap());
        let refusal = loop {
            match door.admit(&grain, 1_000_000, 9, &metrics) {
                Ok(entered) => entered.answered(),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!(refusal.code(), Code::Overloaded);
        assert_eq!(metrics.surplus_refused.get(), 1);
        assert_eq!(door.in_flight[place(&grain)].load(Ordering::Relaxed), 0);
    }
}
