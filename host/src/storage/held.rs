//! How many grains have an image from before a move to another module: a figure for operators, who can tell from it how much
//! of the disk would be free without rollbacks.
//!
//! It lies in the snapshot store and changes in the same batch as the images, since counting them would take a look at every
//! grain.

use std::sync::atomic::{AtomicU64, Ordering};

use granary_core::codec::{Reader, put_varint};

use super::StorageError;
use super::heads::{HeadChange, Heads, Table};

/// See the module.
pub(crate) struct Held(AtomicU64);

impl Held {
    /// The stored count.
    pub(crate) fn read(heads: &dyn Heads) -> Result<Held, StorageError> {
        let count = match heads.value(&key())? {
            None => 0,
            Some(value) => Reader::new(&value).varint().map_err(|error| {
                StorageError::Corrupt(format!(
                    "the snapshot store's count of images from before a move: {error}"
                ))
            })?,
        };
        Ok(Held(AtomicU64::new(count)))
    }

    /// Counts `more`, and returns what the snapshot store must hold if that's not zero.
    pub(crate) fn change(&self, more: i64) -> Option<HeadChange> {
        if more == 0 {
            return None;
        }
        let count = self.count().saturating_add_signed(more);
        self.0.store(count, Ordering::Relaxed);
        let (key, value) = record(count);
        Some((key, Some(value)))
    }

    /// The count.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the snapshot store holds of a count.
pub(crate) fn record(count: u64) -> (Vec<u8>, Vec<u8>) {
    let mut value = Vec::new();
    put_varint(&mut value, count);
    (key(), value)
}

fn key() -> Vec<u8> {
    vec![Table::Held.prefix()]
}
