//! Many seeds on all cores, told of in their order.
//!
//! A run knows nothing of any other, so they may go side by side; what comes of them is handed on by number, so that two passes say the
//! same and the first finding is the first.
//!
//! **Not here:** what a seed means ([`crate::world`], [`crate::whole`]).

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

/// Runs each seed, and gives what came of it to `take`, in the seeds' order, until that breaks off.
pub fn each<R: Send>(
    seeds: Range<u64>,
    run: impl Fn(u64) -> R + Sync,
    mut take: impl FnMut(u64, R) -> ControlFlow<()>,
) {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicU64::new(seeds.start);
    let (sender, results) = mpsc::sync_channel(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, run) = (sender.clone(), &next, &run);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // Nobody listens any more once something was found.
                    if seed >= seeds.end || sender.send((seed, run(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut early, mut due) = (BTreeMap::new(), seeds.start);
        for (seed, result) in results {
            early.insert(seed, result);
            while let Some(result) = early.remove(&due) {
                if take(due, result).is_break() {
                    return;
                }
                due += 1;
            }
        }
    });
}

/// The first seed of which `look` says something, and what.
pub fn first<R: Send>(seeds: Range<u64>, look: impl Fn(u64) -> Option<R> + Sync) -> Option<(u64, R)> {
    let mut found = None;
    each(seeds, look, |seed, result| match result {
        Some(result) => {
            found = Some((seed, result));
            ControlFlow::Break(())
        }
        None => ControlFlow::Continue(()),
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_seeds_order_until_nobody_wants_more() {
        let mut taken = Vec::new();
        let run = |seed: u64| {
            (0..seed % 7).for_each(|_| thread::yield_now());
            seed
        };
        each(3..90, run, |seed, result| {
            taken.push((seed, result));
            match seed < 60 {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        assert_eq!(taken, (3..=60).map(|seed| (seed, seed)).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_seed_is_found_whatever_ends_first() {
        let found = first(0..50, |seed| (seed % 10 == 9).then_some(seed * 2));
        assert_eq!(found, Some((9, 18)));
        assert_eq!(first(0..9, |seed| (seed % 10 == 9).then_some(())), None);
    }
}
