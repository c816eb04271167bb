//! Where calls are taken on or refused when more come in than the host can do: drives `granary_core::admission`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
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
    /// Calls in flight that weren't of a crowd when they came.
    single: AtomicUsize,
}

/// A call that was taken on.
pub(super) struct Entered<'a> {
    door: &'a Door,
    place: &'a AtomicU32,
    is_crowded: bool,
    /// When it began to wait.
    came: Time,
}

impl Door {
    pub(super) fn new(settings: Settings) -> Door {
        Door {
            started: Instant::now(),
            admission: Mutex::new(Admission::new(settings)),
            in_flight: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
            single: AtomicUsize::new(0),
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
        // A crowd that waits is no reason to refuse others, however long it is.
        let ahead = if is_crowded {
            in_flight
        } else {
            self.single.load(Ordering::Relaxed)
        };
        let now = self.time();
        if self.admission().admits(now, waited_nanos, ahead, is_crowded) {
            place.fetch_add(1, Ordering::Relaxed);
            self.single.fetch_add(usize::from(!is_crowded), Ordering::Relaxed);
            let came = Time(now.0.saturating_sub(waited_nanos));
            return Ok(Entered {
                door: self,
                place,
                is_crowded,
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
        self.door
            .single
            .fetch_sub(usize::from(!self.is_crowded), Ordering::Relaxed);
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

    /// Any wait is long, any answer late, each call a window.
    fn strict(always: usize) -> Door {
        Door::new(Settings {
            target_nanos: 0,
            wait_nanos: 0,
            window_nanos: 1,
            least_samples: 1,
            always,
        })
    }

    fn grain(key: &str) -> GrainName {
        GrainName::new(GrainType::new("counter").unwrap(), GrainKey::new(key).unwrap())
    }

    #[test]
    fn a_surplus_hears_that_it_is_one() {
        let metrics = Metrics::new(Registry::new()).unwrap();
        let door = strict(0);
        let grain = grain("a");
        let refusal = loop {
            match door.admit(&grain, 1_000_000, 9, &metrics) {
                Ok(entered) => entered.answered(),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!(refusal.code(), Code::Overloaded);
        assert_eq!(metrics.surplus_refused.get(), 1);
        assert_eq!(door.in_flight[place(&grain)].load(Ordering::Relaxed), 0);
        assert_eq!(door.single.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_crowd_that_waits_keeps_nobody_else_out() {
        let metrics = Metrics::new(Registry::new()).unwrap();
        let door = strict(CROWD as usize + 1);
        let admit = |key, in_flight| door.admit(&grain(key), 1_000_000, in_flight, &metrics);
        let mut waiting: Vec<_> = (0..CROWD).map(|_| admit("a", 0).ok().unwrap()).collect();
        for _ in 0..100 {
            while let Ok(entered) = admit("a", 1000) {
                entered.answered();
            }
            // One more of them is refused, and still there's room for those who aren't many.
            assert!(admit("b", 1000).is_ok());
        }
        waiting.clear();
        assert_eq!(door.single.load(Ordering::Relaxed), 0);
    }
}
