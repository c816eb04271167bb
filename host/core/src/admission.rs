//! Which calls a host takes on when more come in than it can do.
//!
//! A host that takes on everything keeps everybody waiting: with more calls than its processors can do, the number in flight only
//! grows, and with it every call's latency. So it takes on no more calls in a second than it answers as soon as two signs
//! come together:
//!
//! - **the processors are busy**: most calls wait for a worker thread before anybody looks at them;
//! - **calls take long**: most of those that were answered had been in flight for longer than the target.
//!
//! Neither does by itself. Calls take long on an idle host when guests or disks are slow, and fewer of them at a time
//! wouldn't make them faster; processors are busy on a host that is used well. While both hold, somewhat fewer calls are taken on than are
//! answered, so what waits gets less; when one of them doesn't, somewhat more; and when that refuses nobody, all are. A rate
//! rather than a number in flight, as usual for limits by latency: calls that wait for something else than a processor, a hot
//! grain's mailbox say, are in flight as well, by the thousand maybe, and refusing others doesn't make them fewer.
//!
//! Calls of grains that have many others in flight are refused first, and don't count for the others: whoever floods one grain mustn't push
//! out those who call another.
//!
//! **Not here:** how waits are measured and calls counted (`granary_host::http`).

use crate::time::Time;

/// See the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a call may be in flight on a busy host.
    pub target_nanos: u64,
    /// Most calls waiting longer than this for a worker thread means that the processors are busy.
    pub wait_nanos: u64,
    /// How often the rate is thought over.
    pub window_nanos: u64,
    /// Fewer answers in a window say nothing: it's made longer, up to 20 times.
    pub least_samples: u32,
    /// While fewer are in flight none is refused: that many at a time keep the processors at work.
    pub always: usize,
}

impl Settings {
    /// 10 ms in flight, 0.5 ms of waiting, windows of 30 ms with at least 16 calls, 64 calls for each of so many worker threads.
    pub fn of_threads(threads: usize) -> Settings {
        Settings {
            target_nanos: 10_000_000,
            wait_nanos: 500_000,
            window_nanos: 30_000_000,
            least_samples: 16,
            always: threads.saturating_mul(64),
        }
    }
}

/// The machine. Each call goes through [`Admission::admits`]; each that was taken on and answered, through [`Admission::answered`].
#[derive(Clone, Debug)]
pub struct Admission {
    settings: Settings,
    /// In an overload: who is taken on.
    rate: Option<Rate>,
    window_began: Time,
    window: Window,
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Rate {
    calls_a_nano: f64,
    tokens: f64,
    filled: Time,
}

impl Rate {
    fn take(&mut self, now: Time, most_nanos: u64, is_crowded: bool) -> bool {
        let most = self.calls_a_nano * most_nanos as f64 + 1.0;
        let more = self.calls_a_nano * now.nanos_since(self.filled) as f64;
        self.tokens = (self.tokens + more).min(most);
        self.filled = now;
        // Half of the bucket is for the others.
        let kept = if is_crowded { most / 2.0 } else { 0.0 };
        let is_there = self.tokens >= 1.0 + kept;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }
}

/// What was seen since a window's begin.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    came: u32,
    /// Of those that came, those that waited long for a worker thread.
    waited: u32,
    refused: u32,
    answered: u32,
    /// Of those that were answered, those that had been in flight for longer than the target, and than twice that.
    slow: u32,
    very_slow: u32,
}

impl Window {
    /// Whether the processors are busy.
    fn is_busy(&self, least: u32) -> bool {
        self.came >= least && self.waited > self.came / 2
    }

    /// How many are to be taken on for each that is answered.
    fn share(&self, least: u32) -> f64 {
        let is_most = |some: u32| self.answered >= least && some > self.answered / 2;
        match (self.is_busy(least), is_most(self.slow), is_most(self.very_slow)) {
            (true, true, true) => FAR_FEWER,
            (true, true, false) => FEWER,
            _ => MORE,
        }
    }
}

/// Calls taken on for each that is answered: while they take more than twice the target, while they take more than the target, and else.
const FAR_FEWER: f64 = 0.5;
const FEWER: f64 = 0.9;
const MORE: f64 = 1.05;
/// How much longer a window may be than usual.
const LONGEST: u64 = 20;

impl Admission {
    /// Of a host that has nothing to do.
    pub fn new(settings: Settings) -> Admission {
        Admission {
            settings,
            rate: None,
            window_began: Time::default(),
            window: Window::default(),
        }
    }

    /// Whether a call is taken on that is looked at `now`, after waiting for so long, with so many in flight. `is_crowded` when
    /// many of those are for the same grain; for a call that isn't, those of crowds aren't counted.
    pub fn admits(&mut self, now: Time, waited_nanos: u64, in_flight: usize, is_crowded: bool) -> bool {
        let passed = now.nanos_since(self.window_began);
        if self.is_over(passed) {
            self.rate = self.next_rate(now, passed);
            self.window = Window::default();
            self.window_began = now;
        }
        let window = &mut self.window;
        window.came = window.came.saturating_add(1);
        window.waited += u32::from(waited_nanos > self.settings.wait_nanos);
        let Some(rate) = &mut self.rate else { return true };
        let is_taken = rate.take(now, self.settings.target_nanos, is_crowded) || in_flight < self.settings.always;
        window.refused += u32::from(!is_taken);
        is_taken
    }

    /// A call that was taken on is answered, after so long in flight.
    pub fn answered(&mut self, took_nanos: u64) {
        let window = &mut self.window;
        window.answered = window.answered.saturating_add(1);
        window.slow += u32::from(took_nanos > self.settings.target_nanos);
        window.very_slow += u32::from(took_nanos > self.settings.target_nanos.saturating_mul(2));
    }

    /// Whether calls may be refused at present.
    pub fn is_overloaded(&self) -> bool {
        self.rate.is_some()
    }

    fn is_over(&self, passed: u64) -> bool {
        let window = self.settings.window_nanos;
        let enough = self.window.answered >= self.settings.least_samples;
        passed >= if enough { window } else { window.saturating_mul(LONGEST) }
    }

    fn next_rate(&self, now: Time, passed: u64) -> Option<Rate> {
        let share = self.window.share(self.settings.least_samples);
        if share >= 1.0 && self.window.refused == 0 {
            return None;
        }
        let before = self.rate.unwrap_or(Rate {
            calls_a_nano: 0.0,
            tokens: f64::INFINITY,
            filled: now,
        });
        Some(Rate {
            calls_a_nano: f64::from(self.window.answered) / passed as f64 * share,
            ..before
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::rng::Rng;

    /// What has to be done for a call, in microseconds of the one processor.
    const TAKE: u64 = 20;
    const FINISH: u64 = 30;
    const REFUSE: u64 = 10;
    /// Of the usual settings, in microseconds.
    const TARGET: u64 = 10_000;

    enum Task {
        /// A call that came at this microsecond.
        Take { came: u64, is_crowded: bool },
        /// The same, once it was looked at.
        Finish { came: u64, taken: u64, is_crowded: bool },
    }

    #[derive(Debug, Default)]
    struct Seen {
        refused: usize,
        /// Of those, calls of grains that nobody floods.
        refused_elsewhere: usize,
        answered: usize,
        /// Of the second half, in order of size.
        latencies: Vec<u64>,
    }

    impl Seen {
        fn p99(&self) -> u64 {
            self.latencies[self.latencies.len() * 99 / 100]
        }
    }

    /// A processor that does one task after the other, for four seconds in which so many percent of what it can do come in;
    /// `others` are in flight all the time without wanting the processor; nine of ten calls are of one grain if `is_flood`.
    fn offered(percent: u64, others: usize, is_flood: bool) -> Seen {
        const END: u64 = 4_000_000;
        let mut admission = Admission::new(Settings::of_threads(1));
        let (mut rng, mut seen) = (Rng::new(percent), Seen::default());
        let (mut now, mut next) = (0, 0);
        // All, and those of no crowd.
        let (mut tasks, mut in_flight, mut single) = (VecDeque::new(), others, others);
        let most = 2 * (TAKE + FINISH) * 100 / percent;
        while now < END {
            while next <= now {
                let is_crowded = is_flood && rng.below(10) > 0;
                tasks.push_back(Task::Take { came: next, is_crowded });
                next += rng.below(most + 1);
            }
            match tasks.pop_front() {
                None => now = next,
                Some(Task::Take { came, is_crowded }) => {
                    let ahead = if is_crowded { in_flight } else { single };
                    if admission.admits(Time(now * 1000), (now - came) * 1000, ahead, is_crowded) {
                        in_flight += 1;
                        single += usize::from(!is_crowded);
                        let taken = now;
                        tasks.push_back(Task::Finish {
                            came,
                            taken,
                            is_crowded,
                        });
                        now += TAKE;
                    } else {
                        seen.refused += 1;
                        seen.refused_elsewhere += usize::from(!is_crowded);
                        now += REFUSE;
                    }
                }
                Some(Task::Finish {
                    came,
                    taken,
                    is_crowded,
                }) => {
                    now += FINISH;
                    in_flight -= 1;
                    single -= usize::from(!is_crowded);
                    seen.answered += 1;
                    admission.answered((now - taken) * 1000);
                    if now > END / 2 {
                        seen.latencies.push(now - came);
                    }
                }
            }
        }
        seen.latencies.sort_unstable();
        seen
    }

    #[test]
    fn what_the_host_can_do_is_not_refused() {
        for percent in [20, 60, 90] {
            assert_eq!(offered(percent, 0, false).refused, 0, "{percent} %");
        }
    }

    #[test]
    fn a_surplus_is_refused_and_the_others_are_answered_soon() {
        for percent in [120, 150, 200, 300] {
            let seen = offered(percent, 0, false);
            assert!(seen.p99() < 3 * TARGET, "{percent} %: {} us", seen.p99());
            // All that the refusals leave of the processor goes into answers: a + r = offered, 50 a + 10 r = all.
            let all = 4_000_000.0;
            let calls = all / 50.0 * percent as f64 / 100.0;
            let best = (all - 10.0 * calls) / 40.0;
            assert!(
                seen.answered as f64 > 0.9 * best,
                "{percent} %: {} of {best}",
                seen.answered
            );
        }
    }

    #[test]
    fn calls_that_wait_for_something_else_take_nobodys_place() {
        let (alone, among) = (offered(150, 0, false), offered(150, 5_000, false));
        let share = among.answered as f64 / alone.answered as f64;
        assert!(share > 0.95, "{share}");
        assert!(among.p99() < 3 * TARGET, "{} us", among.p99());
        assert_eq!(offered(90, 5_000, false).refused, 0);
    }

    #[test]
    fn a_flood_of_one_grain_pushes_out_no_others() {
        for percent in [150, 200] {
            let seen = offered(percent, 0, true);
            assert!(seen.refused > 10_000, "{percent} %: {} refused", seen.refused);
            assert_eq!(seen.refused_elsewhere, 0, "{percent} %");
        }
    }

    #[test]
    fn slow_guests_on_an_idle_host_are_no_overload() {
        let mut admission = Admission::new(Settings::of_threads(1));
        for number in 0..10_000 {
            assert!(admission.admits(Time(number * 1_000_000), 100_000, 2_000, false));
            admission.answered(900_000_000);
        }
    }

    #[test]
    fn a_few_calls_are_always_taken_on() {
        let mut admission = Admission::new(Settings::of_threads(2));
        for number in 0..10_000 {
            // A machine that others keep busy.
            assert!(admission.admits(Time(number * 1_000_000), 50_000_000, 127, false));
            admission.answered(900_000_000);
        }
        assert!(admission.is_overloaded());
        let refused = (0..100).filter(|_| !admission.admits(Time(10_000_000_000), 50_000_000, 128, false));
        assert!(refused.count() > 90);
    }

    #[test]
    fn an_overload_ends_when_nobody_is_refused() {
        let mut admission = Admission::new(Settings::of_threads(1));
        for number in 0..1_000 {
            admission.admits(Time(number * 1_000_000), 5_000_000, 200, false);
            admission.answered(20_000_000);
        }
        assert!(admission.is_overloaded());
        for number in 1_000..1_200 {
            admission.admits(Time(number * 1_000_000), 10_000, 20, false);
            admission.answered(1_000_000);
        }
        assert!(!admission.is_overloaded());
    }
}
