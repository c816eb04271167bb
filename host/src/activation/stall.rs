//! Turns that wait while the commit log has no room: writers go as slowly as the disk, and no call fails for a crowd that passes.
//!
//! The log is full when commits come faster than checkpoints free it, for example while some grains write megabytes each turn. A call
//! that has time left waits for the next checkpoint instead of failing; the mailbox behind it fills, and its limit refuses then.
//! Waiting is in order of arrival, and only the first looks, so that ten thousand waiting grains cost no more than one.
//!
//! **Not here:** a disk below its reserve, which no checkpoint mends: that is refused at once.

use std::time::Duration;

use tokio::sync::Mutex;

use crate::storage::StorageError;

/// Longer than this no turn waits for room, whatever its deadline: a disk that frees nothing for so long is in trouble, and callers
/// have to learn it.
const LONGEST: Duration = Duration::from_secs(5);
/// Between the first one's looks at the log.
const PAUSE: Duration = Duration::from_millis(2);

/// The line of those that wait.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    first: Mutex<()>,
}

impl Stall {
    /// Waits until `admit` no longer says that storage is overloaded, and returns its answer. `left` is the time until the turn's
    /// deadline: a part of it is kept for the turn itself.
    pub(super) async fn wait(
        &self,
        admit: impl Fn() -> Result<(), StorageError>,
        left: Duration,
    ) -> Result<(), StorageError> {
        let until_free = async {
            let _first = self.first.lock().await;
            loop {
                match admit() {
                    Err(StorageError::Overloaded) => tokio::time::sleep(PAUSE).await,
                    answer => return answer,
                }
            }
        };
        let longest = LONGEST.min(left / 4 * 3);
        tokio::time::timeout(longest, until_free)
            .await
            .unwrap_or(Err(StorageError::Overloaded))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    const LEFT: Duration = Duration::from_secs(2);

    /// A log that has room after so many looks.
    fn full_for(looks: u32) -> impl Fn() -> Result<(), StorageError> {
        let looks = Cell::new(looks);
        move || match looks.get() {
            0 => Ok(()),
            left => {
                looks.set(left - 1);
                Err(StorageError::Overloaded)
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_goes_on_as_soon_as_there_is_room() {
        let begun = Instant::now();
        Stall::default().wait(full_for(10), LEFT).await.unwrap();
        assert_eq!(begun.elapsed(), 10 * PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_refused_while_its_caller_can_still_be_told() {
        for (left, longest) in [(LEFT, Duration::from_millis(1500)), (Duration::from_secs(60), LONGEST)] {
            let begun = Instant::now();
            let refused = Stall::default().wait(full_for(u32::MAX), left).await;
            assert!(matches!(refused, Err(StorageError::Overloaded)));
            let waited = begun.elapsed();
            assert!(waited >= longest && waited < longest + 2 * PAUSE, "{waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waiting_does_not_mend_is_told_at_once() {
        let begun = Instant::now();
        let below = || Err(StorageError::DiskReserve { free: 0, reserve: 1 });
        let refused = Stall::default().wait(below, LEFT).await;
        assert!(matches!(refused, Err(StorageError::DiskReserve { .. })));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_are_let_in_one_after_the_other_and_only_the_first_looks() {
        let (stall, looks, free) = (Stall::default(), Cell::new(0), Cell::new(false));
        let admit = || {
            looks.set(looks.get() + 1);
            if free.get() {
                Ok(())
            } else {
                Err(StorageError::Overloaded)
            }
        };
        let frees = async {
            tokio::time::sleep(10 * PAUSE).await;
            assert!(looks.get() <= 11, "{} looks of two", looks.get());
            free.set(true);
        };
        let (one, other, ()) = tokio::join!(stall.wait(admit, LEFT), stall.wait(admit, LEFT), frees);
        assert!(one.is_ok() && other.is_ok());
    }
}
