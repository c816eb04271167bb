//! A grain's state put together from its image and its commits in the log: what an activation starts from, and what a
//! checkpoint makes the next image of.
//!
//! A checkpoint may run at the same time. What keeps the view whole is an order: the index is read first, the snapshot store
//! second, and a checkpoint drops commits from the index only after the store has the image with them. So the store's image
//! is at least as new as the first indexed commit needs it to be. Commits that it covers are skipped unread. Where something
//! was freed in between (a segment, an image file) there is a newer image, and all is read again.
//!
//! An activation reads its own grain's records. A checkpoint reads those of many grains at once ([`Sources::gather`]): a hot
//! grain's lie between those of all others, and each would cost a system call.

use std::borrow::Cow;
use std::ops::Bound;

use granary_core::commit::{Change, Commit, Delta};
use granary_core::id::{GrainName, Lsn, Seq};
use granary_core::reply_table::ReplyTable;

use super::heads::{Heads, Table, grain_in_key, grain_key};
use super::image_files::ImageFiles;
use super::index::{Entry, Index};
use super::log::{CommitLog, Records};
use super::{Before, StorageError, Stored, StoredHead};
use crate::storage::head_value::{BeforeImage, HeadValue, ImagePlace, PackedImage};

/// Each try again means that a checkpoint of this very grain was finished in the meantime.
const TRIES: usize = 100;
/// When so many bytes of records are gathered, no other grain's are added: what a checkpoint takes of memory for them.
const GATHER_BYTES: u64 = 16 << 20;

/// The places where parts of a grain's state are.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) log: &'a CommitLog,
    pub(crate) index: &'a Index,
    pub(crate) heads: &'a dyn Heads,
    pub(crate) images: &'a ImageFiles,
}

/// A grain's state, and what the snapshot store has of it.
pub(crate) struct Assembled {
    /// `None` when it never committed, or nothing is left of it.
    pub(crate) stored: Option<Stored>,
    /// The state from before the last commit, when that's in the log and moved the grain to another module.
    pub(crate) before: Option<Before>,
    pub(crate) old_value: Option<HeadValue>,
    /// The place of the last commit in the index that is in it; 0 when none is.
    pub(crate) upto: Lsn,
}

impl Sources<'_> {
    /// A grain's state with all commits up to `upto`.
    pub(crate) fn assemble(&self, grain: &GrainName, upto: Lsn) -> Result<Assembled, StorageError> {
        self.assemble_of(&Records::default(), grain, upto)
    }

    /// The same, with records that were gathered before; those that aren't among them are read.
    pub(crate) fn assemble_of(
        &self,
        gathered: &Records,
        grain: &GrainName,
        upto: Lsn,
    ) -> Result<Assembled, StorageError> {
        for _ in 0..TRIES {
            if let Some(assembled) = self.try_assemble(gathered, grain, upto)? {
                return Ok(assembled);
            }
        }
        Err(missing_parts(grain))
    }

    /// Reads the commits up to `upto` of the first of `grains`, as many as fit into the limit, and says of how many.
    pub(crate) fn gather(&self, grains: &[&GrainName], upto: Lsn) -> Result<(Records, usize), StorageError> {
        let (mut positions, mut bytes, mut count) = (Vec::new(), 0, 0);
        for grain in grains {
            if bytes >= GATHER_BYTES {
                break;
            }
            let entries = self.entries(grain, upto);
            let needed = entries[last_deletion(&entries).unwrap_or(0)..].iter();
            positions.extend(needed.map(|entry| {
                bytes += u64::from(entry.position.len);
                entry.position
            }));
            count += 1;
        }
        positions.sort_unstable_by_key(|position| position.lsn);
        match self.log.read(&positions) {
            Ok(records) => Ok((records.unwrap_or_default(), count)),
            // Which grain's it is shows when each is read by itself.
            Err(StorageError::Corrupt(_)) => Ok((Records::default(), count)),
            Err(error) => Err(error),
        }
    }

    fn entries(&self, grain: &GrainName, upto: Lsn) -> Vec<Entry> {
        let mut entries = self.index.entries(grain);
        entries.truncate(entries.partition_point(|entry| entry.position.lsn <= upto));
        entries
    }

    /// `None` when a part was freed under way.
    fn try_assemble(
        &self,
        gathered: &Records,
        grain: &GrainName,
        upto: Lsn,
    ) -> Result<Option<Assembled>, StorageError> {
        let entries = self.entries(grain, upto);
        let old_value = self.head_value(grain)?;
        // A copy of a whole state, and what follows it, needs no image; one that is there may be of a history that was given up.
        let copy = entries.iter().rposition(|entry| entry.whole);
        let image_seq = match copy {
            Some(_) => Seq(0),
            None => old_value.as_ref().map_or(Seq(0), |value| value.head.seq),
        };
        let last_lsn = entries
            .last()
            .filter(|last| last.seq >= image_seq)
            .map(|last| last.position.lsn);
        let covered = entries.partition_point(|entry| entry.seq <= image_seq);
        let fresh = &entries[copy.unwrap_or(covered)..];
        if copy.is_none() && fresh.first().is_some_and(|first| first.seq != image_seq.next()) {
            return Err(StorageError::Corrupt(format!(
                "commits of {grain} are missing: its image is of commit {}, and the log goes on with {}",
                image_seq.0, fresh[0].seq.0
            )));
        }
        // Nothing before a deletion matters but for the numbering.
        let deletion = last_deletion(fresh);
        let (mut stored, mut before) = (None, None);
        if deletion.is_none()
            && copy.is_none()
            && let Some(value) = &old_value
        {
            match self.image(grain, value)? {
                Some(image) => stored = Some(image),
                None => return Ok(None),
            }
        }
        let needed = &fresh[deletion.unwrap_or(0)..];
        let missing = needed.iter().map(|entry| entry.position);
        let missing: Vec<_> = missing.filter(|position| gathered.at(position.lsn).is_none()).collect();
        let Some(read) = self.log.read(&missing)? else {
            return Ok(None);
        };
        for entry in needed {
            let lsn = entry.position.lsn;
            let (body, hash) = gathered
                .at(lsn)
                .or_else(|| read.at(lsn))
                .expect("all that was missing is read");
            let commit = decode(grain, entry, body)?;
            if deletion.is_none() && !entry.whole {
                check_chain(&commit, stored.as_ref())?;
            }
            before = apply(&mut stored, commit, hash);
        }
        stored.take_if(|stored| stored.head.is_nothing());
        if let Some(stored) = &mut stored {
            stored.lsn = last_lsn.unwrap_or(Lsn(0));
        }
        Ok(Some(Assembled {
            stored,
            before,
            old_value,
            upto: entries.last().map_or(Lsn(0), |last| last.position.lsn),
        }))
    }

    /// See [`Storage::head`](super::Storage::head).
    pub(crate) fn head(&self, grain: &GrainName) -> Result<Option<StoredHead>, StorageError> {
        let indexed = match self.index.head(grain) {
            Some((head, true)) => return Ok(Some(head).filter(|head| !head.head.is_nothing())),
            other => other.map(|(head, _)| head),
        };
        let value = self.head_value(grain)?;
        let stored = value.map(|value| value.stored_head());
        // The index may hold commits that an image covers already; what it has goes on from the image, so that their numbers tell.
        Ok(indexed.into_iter().chain(stored).max_by_key(|known| known.head.seq))
    }

    /// See [`Storage::each`](super::Storage::each).
    pub(crate) fn each(&self, visit: &mut dyn FnMut(GrainName, StoredHead)) -> Result<(), StorageError> {
        let prefix = Table::Grain.prefix();
        let mut damaged = None;
        self.heads.scan(Bound::Included(&[prefix]), &mut |key, value| {
            if key.first() != Some(&prefix) {
                return false;
            }
            match (grain_in_key(key), HeadValue::decode(value)) {
                (Some(grain), Ok(value)) => {
                    // What the index has is newer, or will be said with it.
                    if self.index.head(&grain).is_none() {
                        visit(grain, value.stored_head());
                    }
                }
                _ => damaged = Some("the snapshot store's value of a grain".to_owned()),
            }
            damaged.is_none()
        })?;
        if let Some(what) = damaged {
            return Err(StorageError::Corrupt(what));
        }
        for grain in self.index.names() {
            if let Some(found) = self.head(&grain)? {
                visit(grain, found);
            }
        }
        Ok(())
    }

    /// See [`Storage::load_before`](super::Storage::load_before).
    pub(crate) fn load_before(&self, grain: &GrainName) -> Result<Option<Before>, StorageError> {
        for _ in 0..TRIES {
            let assembled = self.assemble(grain, Lsn(u64::MAX))?;
            let last = assembled.stored.map(|stored| stored.head);
            // The store's is of another commit than the last one unless no later commit is in the log.
            let image = assembled.old_value.filter(|value| Some(&value.head) == last.as_ref());
            let Some(image) = image.and_then(|value| value.before) else {
                return Ok(assembled.before);
            };
            if let Some(before) = self.before(grain, &image)? {
                return Ok(Some(before));
            }
        }
        Err(missing_parts(grain))
    }

    /// The state from before a move in the snapshot store; `None` when the image's file is gone.
    fn before(&self, grain: &GrainName, image: &BeforeImage) -> Result<Option<Before>, StorageError> {
        let Some(packed) = self.packed(&image.place)? else {
            return Ok(None);
        };
        let (delta, _) = unpacked(grain, &packed)?;
        Ok(Some(Before {
            module: image.module,
            revision: image.revision,
            parts: vec![delta],
        }))
    }

    /// What the snapshot store has of a grain.
    pub(crate) fn head_value(&self, grain: &GrainName) -> Result<Option<HeadValue>, StorageError> {
        let Some(bytes) = self.heads.value(&grain_key(Table::Grain, grain))? else {
            return Ok(None);
        };
        let value = HeadValue::decode(&bytes);
        value
            .map(Some)
            .map_err(|error| StorageError::Corrupt(format!("the snapshot store's value of {grain}: {error}")))
    }

    /// The state in the snapshot store; `None` when the image's file is gone.
    fn image(&self, grain: &GrainName, value: &HeadValue) -> Result<Option<Stored>, StorageError> {
        let mut stored = Stored {
            head: value.head.clone(),
            deleted: value.image.is_none(),
            parts: Vec::new(),
            replies: Default::default(),
            lsn: Lsn(0),
        };
        let Some(place) = &value.image else {
            return Ok(Some(stored));
        };
        let Some(packed) = self.packed(place)? else {
            return Ok(None);
        };
        let (delta, replies) = unpacked(grain, &packed)?;
        stored.parts.push(delta);
        stored.replies = replies;
        Ok(Some(stored))
    }

    /// What is at a place; `None` when the file is gone.
    fn packed<'p>(&self, place: &'p ImagePlace) -> Result<Option<Cow<'p, PackedImage>>, StorageError> {
        match place {
            ImagePlace::Inline(packed) => Ok(Some(Cow::Borrowed(packed))),
            ImagePlace::File(place) => Ok(self.images.read(place)?.map(Cow::Owned)),
        }
    }
}

fn last_deletion(entries: &[Entry]) -> Option<usize> {
    entries.iter().rposition(|entry| entry.deletes)
}

fn unpacked(grain: &GrainName, packed: &PackedImage) -> Result<(Delta, ReplyTable), StorageError> {
    let unpacked = packed.unpack();
    unpacked.map_err(|error| StorageError::Corrupt(format!("an image of {grain}: {error}")))
}

fn missing_parts(grain: &GrainName) -> StorageError {
    StorageError::Corrupt(format!("parts of {grain} that its head or the index name aren't there"))
}

/// The commit that the index says is in `body`.
fn decode(grain: &GrainName, entry: &Entry, body: &[u8]) -> Result<Commit, StorageError> {
    let seq = entry.seq.0;
    let commit = Commit::decode(body);
    let commit = commit.map_err(|error| StorageError::Corrupt(format!("commit {seq} of {grain}: {error}")))?;
    if commit.grain != *grain || commit.seq != entry.seq {
        return Err(StorageError::Corrupt(format!(
            "where commit {seq} of {grain} should be there is commit {} of {}",
            commit.seq.0, commit.grain
        )));
    }
    Ok(commit)
}

/// Whether `commit` was made on top of `before`.
fn check_chain(commit: &Commit, before: Option<&Stored>) -> Result<(), StorageError> {
    let hash = before.map_or([0; 16], |stored| stored.head.hash);
    if commit.prev_hash == hash {
        return Ok(());
    }
    Err(StorageError::Corrupt(format!(
        "commit {} of {} was made on top of another commit than the one before it",
        commit.seq.0, commit.grain
    )))
}

/// The state after one more commit. Returns the one before when the commit moved the grain to another module.
pub(crate) fn apply(stored: &mut Option<Stored>, commit: Commit, hash: [u8; 16]) -> Option<Before> {
    let head = commit.head(hash);
    let next = stored.get_or_insert_with(|| Stored {
        head: head.clone(),
        deleted: false,
        parts: Vec::new(),
        replies: Default::default(),
        lsn: Lsn(0),
    });
    let existed = next.exists();
    next.deleted = commit.change.deletes();
    let mut before = None;
    match commit.change {
        Change::Delete => {
            next.parts.clear();
            next.replies = Default::default();
        }
        Change::Whole { state, .. } => {
            next.parts = state.into_iter().collect();
            next.replies = Default::default();
            commit.replies.into_iter().for_each(|reply| next.replies.insert(reply));
        }
        Change::Delta(vacancy) if vacancy.is_vacancy() => {
            next.parts = vec![vacancy];
            commit.replies.into_iter().for_each(|reply| next.replies.insert(reply));
        }
        Change::Delta(delta) => {
            if next.is_vacant() {
                next.parts.clear();
            }
            // A memory is only ever patched under the module that wrote it: another one starts from its own base image.
            if next.head.module != head.module {
                let parts = std::mem::take(&mut next.parts);
                before = existed.then_some(Before {
                    module: next.head.module,
                    revision: next.head.revision,
                    parts,
                });
            }
            next.parts.push(delta);
            commit.replies.into_iter().for_each(|reply| next.replies.insert(reply));
        }
    }
    next.head = head;
    before
}

/// All parts as one.
pub(crate) fn merged(parts: &[Delta]) -> Delta {
    match parts {
        [only] => only.clone(),
        parts => Delta::merge(parts).unwrap_or_default(),
    }
}
