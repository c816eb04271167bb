//! When a group of records is worth a sync.
//!
//! A sync costs the same for one record as for fifty: a write, a wait for the disk, threads that are woken. Started for the first
//! record that comes, it lets few others share it, and a busy host's processors spend their time on syncs instead of turns. So when many more
//! calls are in flight than there are processors, a group waits for company: a sync would only take a processor from those that are on their
//! way to it. It goes when all in flight have joined, and meanwhile more have come: how many wait in sockets nobody knows. The
//! records of few callers go at once.
//!
//! A group of many bytes goes at once, too: what writing it takes is no less for being shared, and whoever joined would wait for all of it.
//!
//! Calls may be on their way for long: guests compute, or wait for others. So a group goes, too, when nobody has joined it for a
//! moment, and after some milliseconds in any case.

use std::time::{Duration, Instant};

/// With more calls in flight than this for each processor, a group waits for those that haven't joined it.
const MANY: usize = 4;
/// A group of so many bytes waits for nobody.
const LARGE: usize = 64 << 10;
/// When nobody joins for so long, nobody is waited for: two or three syncs of a fast disk. Each time that somebody has, the next look
/// is after twice the time, for a look costs a switch of threads.
const MOMENT: Duration = Duration::from_micros(300);
/// A group that still grows goes after this time: more company than that is of little use.
const LONGEST: Duration = Duration::from_millis(3);

/// Waits for company, one group after the other.
#[derive(Debug)]
pub(super) struct Patience {
    processors: usize,
    waiting: Option<Waiting>,
}

/// The group at the front waits.
#[derive(Debug)]
struct Waiting {
    until: Instant,
    /// When somebody has to have joined, and how many there were before.
    look: Instant,
    records: usize,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(processors: usize) -> Patience {
        Patience {
            processors,
            waiting: None,
        }
    }

    /// How long a group of this size waits yet, with so many calls in flight, those of the records among them; nothing when it goes.
    pub(super) fn wait(&mut self, now: Instant, group: Size, in_flight: usize) -> Option<Duration> {
        let left = self.left(now, group, in_flight);
        if left.is_none() {
            self.waiting = None;
        }
        left
    }

    fn left(&mut self, now: Instant, group: Size, in_flight: usize) -> Option<Duration> {
        if in_flight <= self.processors * MANY || group.is_enough(in_flight) {
            return None;
        }
        let records = group.records;
        let waiting = self.waiting.get_or_insert(Waiting {
            until: now + LONGEST,
            look: now + MOMENT,
            records,
            pause: MOMENT,
        });
        if now >= waiting.look {
            if records == waiting.records {
                return None;
            }
            waiting.records = records;
            waiting.pause *= 2;
            waiting.look = now + waiting.pause;
        }
        let left = waiting.look.min(waiting.until).saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

/// How much is in a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Size {
    /// Whether all calls in flight have joined, or it's large.
    pub(super) fn is_enough(self, in_flight: usize) -> bool {
        self.records >= in_flight || self.bytes >= LARGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(records: usize) -> Size {
        Size { records, bytes: 1 }
    }

    #[test]
    fn a_large_group_waits_for_nobody() {
        let large = Size {
            records: 1,
            bytes: LARGE,
        };
        assert_eq!(Patience::new(2).wait(Instant::now(), large, 64), None);
    }

    #[test]
    fn the_records_of_few_callers_go_at_once() {
        let mut patience = Patience::new(2);
        let now = Instant::now();
        for (records, in_flight) in [(1, 0), (1, 1), (1, 8), (64, 64)] {
            assert_eq!(
                patience.wait(now, of(records), in_flight),
                None,
                "{records} of {in_flight}"
            );
        }
    }

    #[test]
    fn a_group_that_many_could_join_waits_until_they_have() {
        let mut patience = Patience::new(2);
        let now = Instant::now();
        assert_eq!(patience.wait(now, of(1), 64), Some(MOMENT));
        assert!(patience.wait(now, of(63), 64).is_some());
        assert_eq!(patience.wait(now, of(66), 66), None);
        assert_eq!(patience.wait(now, of(1), 9), Some(MOMENT), "the next group begins anew");
    }

    #[test]
    fn a_group_that_nobody_joins_goes_after_a_moment() {
        let mut patience = Patience::new(2);
        let start = Instant::now();
        assert_eq!(patience.wait(start, of(1), 64), Some(MOMENT));
        assert_eq!(patience.wait(start + MOMENT / 3, of(1), 64), Some(MOMENT - MOMENT / 3));
        assert_eq!(patience.wait(start + MOMENT, of(1), 64), None);
    }

    #[test]
    fn a_group_that_grows_goes_after_some_milliseconds() {
        let mut patience = Patience::new(2);
        let start = Instant::now();
        let (mut now, mut looks) = (start, 0);
        while let Some(left) = patience.wait(now, of(1 + looks), 64) {
            now += left;
            looks += 1;
            assert!(looks < 10);
        }
        assert_eq!(now - start, LONGEST);
    }
}
