//! A host's log on a disk that loses what wasn't synced.
//!
//! The log is prefix-durable: what a crash leaves is all that was synced and, with luck, some of what came after, in order. A torn
//! record is found by its checksum and cut, so it's as good as lost; the count keeps them apart.
//!
//! **Not here:** damage to what was synced. The host refuses to start on that, which its own tests show.

use crate::dice::Dice;

/// See the module's text.
#[derive(Debug)]
pub struct Disk<R> {
    records: Vec<R>,
    durable: usize,
    syncing: Option<usize>,
}

/// What a crash did to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All was durable.
    Nothing,
    /// What wasn't synced had reached the disk nevertheless.
    Kept,
    /// All that wasn't synced is gone.
    All,
    /// A record was half written, it and those after are gone.
    Torn,
}

impl<R> Default for Disk<R> {
    fn default() -> Disk<R> {
        Disk {
            records: Vec::new(),
            durable: 0,
            syncing: None,
        }
    }
}

impl<R> Disk<R> {
    /// Appends.
    pub fn append(&mut self, record: R) {
        self.records.push(record);
    }

    /// Begins a sync of all that is there. False when one is under way, or there is nothing to sync.
    pub fn begin_sync(&mut self) -> bool {
        let idle = self.syncing.is_none() && self.durable < self.records.len();
        if idle {
            self.syncing = Some(self.records.len());
        }
        idle
    }

    /// The sync is over; returns the records that it made durable.
    pub fn end_sync(&mut self) -> &[R] {
        let before = self.durable;
        self.durable = self.syncing.take().unwrap_or(before);
        &self.records[before..self.durable]
    }

    /// Loses what a crash loses. Returns what, and which records are on the disk now that nobody was told of.
    pub fn crash(&mut self, dice: &mut Dice) -> (Loss, &[R]) {
        self.syncing = None;
        let before = self.durable;
        let unsynced = self.records.len() - before;
        let loss = match (unsynced, dice.below(3)) {
            (0, _) => Loss::Nothing,
            (_, 0) => Loss::All,
            (_, 1) => Loss::Kept,
            _ => Loss::Torn,
        };
        let kept = match loss {
            Loss::Kept => unsynced,
            Loss::Torn => dice.below(unsynced as u64) as usize,
            Loss::Nothing | Loss::All => 0,
        };
        self.records.truncate(before + kept);
        self.durable = self.records.len();
        (loss, &self.records[before..])
    }

    /// What is there.
    pub fn records(&self) -> &[R] {
        &self.records
    }

    /// How many records are durable.
    pub fn durable(&self) -> u64 {
        self.durable as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loses_only_what_was_not_synced() {
        let mut losses = Vec::new();
        for seed in 0..50 {
            let mut disk = Disk::default();
            disk.append(1);
            assert!(disk.begin_sync() && !disk.begin_sync());
            disk.append(2);
            assert_eq!(disk.end_sync(), [1]);
            disk.append(3);
            let (loss, _) = disk.crash(&mut Dice::new(seed));
            losses.push(loss);
            assert_eq!(disk.records(), &[1, 2, 3][..disk.records().len()]);
            assert!(!disk.records().is_empty() && disk.durable() == disk.records().len() as u64);
        }
        for loss in [Loss::All, Loss::Kept, Loss::Torn] {
            assert!(losses.contains(&loss));
        }
    }
}
