//! A host's clock, which runs at a rate of its own and begins anew with each start.
//!
//! **Not here:** true time ([`crate::queue`]).

use granary_core::time::Time;

use crate::queue::Nanos;

/// See the file's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    base: Nanos,
    base_local: u64,
    /// Its nanoseconds for a million of true ones.
    rate: u64,
}

impl Clock {
    /// A clock that shows 0 and counts `rate` nanoseconds for a million of true ones.
    pub fn new(now: Nanos, rate: u64) -> Clock {
        Clock {
            base: now,
            base_local: 0,
            rate,
        }
    }

    /// Shows 0 again.
    pub fn restart(&mut self, now: Nanos) {
        (self.base, self.base_local) = (now, 0);
    }

    /// From now on it runs at this rate.
    pub fn skew(&mut self, now: Nanos, rate: u64) {
        (self.base, self.base_local, self.rate) = (now, self.local(now).0, rate);
    }

    /// What it shows.
    pub fn local(&self, now: Nanos) -> Time {
        Time(self.base_local + (u128::from(now - self.base) * u128::from(self.rate) / 1_000_000) as u64)
    }

    /// True nanoseconds until it shows this.
    pub fn until(&self, now: Nanos, local: Time) -> Nanos {
        let ahead = u128::from(local.0.saturating_sub(self.local(now).0));
        (ahead * 1_000_000 / u128::from(self.rate)) as u64 + 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_keeps_its_time_when_its_rate_changes() {
        let mut clock = Clock::new(1_000, 1_000_000);
        assert_eq!(clock.local(3_000), Time(2_000));
        clock.skew(3_000, 2_000_000);
        assert_eq!(clock.local(3_000), Time(2_000));
        assert_eq!(clock.local(4_000), Time(4_000));
        let due = clock.until(4_000, Time(9_000));
        assert!(clock.local(4_000 + due) >= Time(9_000), "{due}");
        clock.restart(5_000);
        assert_eq!(clock.local(5_000), Time(0));
    }
}
