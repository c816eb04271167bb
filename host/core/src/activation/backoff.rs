//! A grain whose turns fail again and again isn't rebuilt as fast as requests come.
//!
//! Each failed turn costs a restore: the stored image is read and laid into a fresh instance, many times the price of a turn. One
//! failure, or a few among good turns, costs no time. From the [`Limits::backoff_after`]th in a row on the grain rests before it's
//! rebuilt, twice as long after each further failure, up to a bound. Requests wait in the mailbox meanwhile, within its bounds and their own
//! deadlines. The first good turn forgets everything.
//!
//! **Not here:** what a failed turn is (the machine), timers (the driver).

use super::Limits;
use crate::time::Time;

/// Failures in a row, and until when the grain rests.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Time>,
}

impl Backoff {
    /// A turn failed and took its instance along.
    pub(super) fn failed(&mut self, now: Time, limits: &Limits) {
        self.failures = self.failures.saturating_add(1);
        let Some(doublings) = self.failures.checked_sub(limits.backoff_after.max(1)) else {
            return;
        };
        let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
        let pause_nanos = limits
            .backoff_first_nanos
            .saturating_mul(factor)
            .min(limits.backoff_most_nanos);
        self.until = Some(now.plus_nanos(pause_nanos));
    }

    /// A turn ended well.
    pub(super) fn succeeded(&mut self) {
        *self = Backoff::default();
    }

    /// When the grain may be rebuilt, if that isn't yet.
    pub(super) fn rests_until(&self, now: Time) -> Option<Time> {
        self.until.filter(|until| *until > now)
    }

    /// When the rest ends or ended, if there was one since the last good turn.
    pub(super) fn until(&self) -> Option<Time> {
        self.until
    }

    /// Failed turns since the last good one.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        backoff_after: 3,
        backoff_first_nanos: 10,
        backoff_most_nanos: 1000,
        mailbox_messages: 1,
        mailbox_bytes: 1,
        pipeline_turns: 1,
        pipeline_bytes: 1,
    };

    /// How long the grain rests after each of `count` failures at time 0.
    fn rests(count: usize) -> Vec<u64> {
        let mut backoff = Backoff::default();
        let rest = |backoff: &mut Backoff| {
            backoff.failed(Time(0), &LIMITS);
            backoff.rests_until(Time(0)).map_or(0, |until| until.0)
        };
        (0..count).map(|_| rest(&mut backoff)).collect()
    }

    #[test]
    fn a_rest_begins_with_the_third_failure_and_doubles_up_to_a_bound() {
        assert_eq!(rests(12), [0, 0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        assert_eq!(rests(200)[199], 1000);
    }

    #[test]
    fn a_good_turn_forgets_all_failures() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.failed(Time(0), &LIMITS);
        }
        backoff.succeeded();
        assert_eq!((backoff.failures(), backoff.until()), (0, None));
        backoff.failed(Time(0), &LIMITS);
        assert_eq!(backoff.rests_until(Time(0)), None);
    }

    #[test]
    fn a_rest_is_over_at_its_time() {
        let mut backoff = Backoff::default();
        for _ in 0..3 {
            backoff.failed(Time(5), &LIMITS);
        }
        assert_eq!(backoff.rests_until(Time(14)), Some(Time(15)));
        assert_eq!(backoff.rests_until(Time(15)), None);
    }
}
