//! The ordered table of small values behind the log: one value a grain, revisions of modules, what image files hold.
//!
//! sled is the real one; tests have another that loses what wasn't flushed. Only the checkpointer writes to it, but for revisions.
//!
//! ```text
//! g type 0 key         a grain's head and image, see `head_value`
//! t type 0 key         a mark beside the head of a deleted grain, so that the next start finds it
//! r type 0 revision    a ModuleRecord (revision: 4 bytes, big-endian, so that they are in order)
//! c type 0             the type's current revision; without one it's the highest
//! b type 0 key         in no value's key, but in entries of image files: a grain's image from before a move
//! h                    how many grains have such an image
//! f number             how much of an image file is in use (number: 8 bytes, big-endian)
//! ```
//!
//! A type holds no zero byte, so a grain's key can't reach into another type's range.

use std::ops::Bound;

use granary_core::id::{GrainKey, GrainName, GrainType, Revision};

use super::StorageError;

/// A change to one key: its new value, or `None` to remove it.
pub(crate) type HeadChange = (Vec<u8>, Option<Vec<u8>>);

/// See the module.
pub(crate) trait Heads: Send + Sync {
    /// A key's value.
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;
    /// Sets a key's value. It lasts after the next [`Heads::flush`].
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StorageError>;
    /// Makes all changes or, after a crash, none. They last after the next [`Heads::flush`]. Dearer than single puts: sled stops
    /// its readers and syncs twice for each.
    fn apply(&self, changes: Vec<HeadChange>) -> Result<(), StorageError>;
    /// Makes everything applied last. An error is the disk's and final.
    fn flush(&self) -> Result<(), StorageError>;
    /// Visits keys and values in order from `from` on until `visit` returns false.
    fn scan(&self, from: Bound<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError>;
    /// Bytes on the disk.
    fn disk_bytes(&self) -> u64;
    /// Syncs so far that really reached the disk.
    fn syncs(&self) -> u64;
    /// How often it was copied into a new one since the start, to give back disk.
    fn copies(&self) -> u64 {
        0
    }
}

/// What a key is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Grain = b'g' as isize,
    Grave = b't' as isize,
    Revision = b'r' as isize,
    Current = b'c' as isize,
    Before = b'b' as isize,
    Held = b'h' as isize,
    ImageFile = b'f' as isize,
}

impl Table {
    /// The first byte of its keys.
    pub(crate) fn prefix(self) -> u8 {
        self as u8
    }
}

/// The key of a grain's value, or of its grave.
pub(crate) fn grain_key(table: Table, grain: &GrainName) -> Vec<u8> {
    named(table, &grain.kind, grain.key.as_str().as_bytes())
}

/// The key behind which a type's keys that start with `prefix` are.
pub(crate) fn type_key(table: Table, kind: &GrainType, prefix: &str) -> Vec<u8> {
    named(table, kind, prefix.as_bytes())
}

/// The key of a type's revision.
pub(crate) fn revision_key(kind: &GrainType, revision: Revision) -> Vec<u8> {
    named(Table::Revision, kind, &revision.0.to_be_bytes())
}

/// The key of a type's current revision.
pub(crate) fn current_key(kind: &GrainType) -> Vec<u8> {
    named(Table::Current, kind, &[])
}

/// The key of what's known of an image file.
pub(crate) fn image_file_key(number: u64) -> Vec<u8> {
    let mut key = vec![Table::ImageFile.prefix()];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn named(table: Table, kind: &GrainType, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + kind.as_str().len() + rest.len());
    key.push(table.prefix());
    key.extend_from_slice(kind.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(rest);
    key
}

/// The type in a key of a grain, a grave, a revision or a current revision, and what comes behind it.
pub(crate) fn split_key(key: &[u8]) -> Option<(GrainType, &[u8])> {
    let end = key.iter().position(|byte| *byte == 0)?;
    let kind = std::str::from_utf8(key.get(1..end)?).ok()?;
    Some((GrainType::new(kind).ok()?, &key[end + 1..]))
}

/// The grain that a key of a grain or grave is about.
pub(crate) fn grain_in_key(key: &[u8]) -> Option<GrainName> {
    let (kind, key) = split_key(key)?;
    let key = GrainKey::new(std::str::from_utf8(key).ok()?).ok()?;
    Some(GrainName::new(kind, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_which_grain_it_is_about() {
        let grain = GrainName::new(GrainType::new("a-b").unwrap(), GrainKey::new("\0x/ü").unwrap());
        assert_eq!(grain_in_key(&grain_key(Table::Grain, &grain)), Some(grain));
        for bad in [&b""[..], b"g", b"ga", b"ga\0", b"g\0k", b"gA\0k", b"ga\0\xff"] {
            assert_eq!(grain_in_key(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn keys_are_ordered_like_names() {
        let grain = |kind, key| GrainName::new(GrainType::new(kind).unwrap(), GrainKey::new(key).unwrap());
        let names = [
            grain("a", "\0"),
            grain("a", "b"),
            grain("a", "bb"),
            grain("a-b", "a"),
            grain("b", "\0"),
        ];
        assert!(names.is_sorted());
        assert!(names.map(|name| grain_key(Table::Grain, &name)).is_sorted());
        let kind = GrainType::new("a").unwrap();
        assert!(
            [2, 255, 256, 70_000]
                .map(|n| revision_key(&kind, Revision(n)))
                .is_sorted()
        );
    }
}
