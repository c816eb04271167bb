//! Virtual time: what happens when, in an order that a seed repeats.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Nanoseconds of virtual time since the run began.
pub type Nanos = u64;
/// Nanoseconds of a microsecond.
pub const MICROS: Nanos = 1_000;
/// Nanoseconds of a millisecond.
pub const MILLIS: Nanos = 1_000_000;
/// Nanoseconds of a second.
pub const SECONDS: Nanos = 1_000_000_000;

/// Events by time; those of one time in the order in which they were put in.
#[derive(Debug)]
pub struct Queue<E> {
    now: Nanos,
    count: u64,
    heap: BinaryHeap<Reverse<Entry<E>>>,
}

#[derive(Debug)]
struct Entry<E> {
    at: Nanos,
    number: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Entry<E>) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Entry<E>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Entry<E>) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Queue<E> {
        Queue {
            now: 0,
            count: 0,
            heap: BinaryHeap::new(),
        }
    }
}

impl<E> Queue<E> {
    /// Puts in an event that happens `after` from now.
    pub fn put(&mut self, after: Nanos, event: E) {
        self.count += 1;
        self.heap.push(Reverse(Entry {
            at: self.now + after,
            number: self.count,
            event,
        }));
    }

    /// Goes on to the next event.
    pub fn take(&mut self) -> Option<E> {
        let Reverse(entry) = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }

    /// The time.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// How many events there have been.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_put_in() {
        let mut queue = Queue::default();
        for (after, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            queue.put(after, event);
        }
        let order: String = std::iter::from_fn(|| queue.take()).collect();
        assert_eq!((order.as_str(), queue.now()), ("abcd", 5));
    }
}
