//! Moves grains' states from the log into the snapshot store, so that the log can be freed.
//!
//! A round takes the oldest segments of the log and every grain that has its oldest commit in one of them, and writes for each
//! *one* new image: the old one merged with all of the grain's durable commits, those in newer segments too. Then come, in this
//! order: sync of the image files, heads into the snapshot store, its flush, and only then are the commits dropped from the
//! index and the segments freed. A crash between any two of these leaves commits in the log that an image already covers;
//! they are skipped by their numbers.
//!
//! Rounds start when the log is a third full or holds commits of very many grains, when a grain has so many commits in the log that its activation would be slow, and at close.
//! They never touch activations or memories.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use granary_core::id::{GrainName, Lsn};
use granary_core::reply_table::ReplyTable;

use super::config::StorageConfig;
use super::fatal::Fatal;
use super::grains::{Sources, merged};
use super::head_value::{BeforeImage, HeadValue, ImagePlace, ImageRef, PackedImage};
use super::heads::{HeadChange, Heads, Table, grain_in_key, grain_key};
use super::held::Held;
use super::image_files::ImageFiles;
use super::index::Index;
use super::log::{CommitLog, Incarnation, Records};
use super::{Before, StorageError};

/// How long a round that found the disk full is followed by none.
const RETRY: Duration = Duration::from_secs(1);
const UNPOISONED: &str = "no thread panics while it holds the checkpointer's lock";

/// Writes checkpoints. One thread runs it.
pub(crate) struct Checkpointer {
    pub(crate) log: Arc<CommitLog>,
    pub(crate) index: Arc<Index>,
    pub(crate) heads: Arc<dyn Heads>,
    pub(crate) images: Arc<ImageFiles>,
    pub(crate) fatal: Fatal,
    /// From so many bytes in the log on, segments are freed,
    free_from_bytes: u64,
    /// and from so many grains on that have commits there.
    free_from_grains: u64,
    /// Whether that has been asked for.
    is_asked: AtomicBool,
    batch_grains: usize,
    inline_limit: usize,
    rounds: AtomicU64,
    held: Held,
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
struct Wanted {
    /// Whether the log passed the mark from which it's freed.
    log: bool,
    /// Grains with long chains.
    grains: Vec<GrainName>,
    stop: bool,
}

/// What a batch will change.
#[derive(Default)]
struct Chunk {
    /// Changes that hang together: references to image files with the files' counts, heads with their graves.
    together: Vec<HeadChange>,
    added: Vec<ImageRef>,
    dropped: Vec<ImageRef>,
    /// By how many the number of images from before a move rises.
    held: i64,
    /// The grains in it, and up to which of their commits.
    written: Vec<(GrainName, Lsn)>,
}

impl Checkpointer {
    pub(crate) fn new(
        log: Arc<CommitLog>,
        index: Arc<Index>,
        heads: Arc<dyn Heads>,
        images: Arc<ImageFiles>,
        fatal: Fatal,
        config: &StorageConfig,
    ) -> Result<Checkpointer, StorageError> {
        Ok(Checkpointer {
            held: Held::read(&*heads)?,
            log,
            index,
            heads,
            images,
            fatal,
            // The rest is room for what is appended while a checkpoint runs.
            free_from_bytes: config.log_limit_bytes / 3,
            free_from_grains: config.log_grains,
            is_asked: AtomicBool::new(false),
            batch_grains: config.checkpoint_batch_grains,
            inline_limit: config.inline_limit_bytes,
            rounds: AtomicU64::new(0),
            wanted: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Asks for segments to be freed if there is too much in them. Returns at once.
    pub(crate) fn log_grew(&self) {
        if self.is_over(self.log.live_bytes()) && !self.is_asked.swap(true, Ordering::Relaxed) {
            self.wanted.lock().expect(UNPOISONED).log = true;
            self.changed.notify_one();
        }
    }

    /// Whether segments have to be freed of a log of so many bytes.
    fn is_over(&self, bytes: u64) -> bool {
        bytes > self.free_from_bytes || self.index.grains() > self.free_from_grains
    }

    /// Asks for a grain's chain to be cut. Returns at once.
    pub(crate) fn chain_grew(&self, grain: &GrainName) {
        self.wanted.lock().expect(UNPOISONED).grains.push(grain.clone());
        self.changed.notify_one();
    }

    /// Ends [`Checkpointer::run`] after the round that's under way.
    pub(crate) fn stop(&self) {
        self.wanted.lock().expect(UNPOISONED).stop = true;
        self.changed.notify_one();
    }

    /// Rounds done.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Grains whose image from before a move is kept.
    pub(crate) fn held(&self) -> u64 {
        self.held.count()
    }

    /// Does what is asked for until stopped.
    pub(crate) fn run(&self) {
        loop {
            let mut wanted = self.wanted.lock().expect(UNPOISONED);
            while !wanted.stop && !wanted.log && wanted.grains.is_empty() {
                wanted = self.changed.wait(wanted).expect(UNPOISONED);
            }
            if wanted.stop {
                return;
            }
            let grains = std::mem::take(&mut wanted.grains);
            wanted.log = false;
            drop(wanted);
            self.is_asked.store(false, Ordering::Relaxed);
            let segments = self.segments_to_free();
            if !self.round_or_die(&segments, grains) {
                return;
            }
            self.log_grew();
        }
    }

    /// Writes images of all grains with commits in the log and frees all of it. Nothing is appended any more.
    pub(crate) fn finish(&self) {
        if !self.log.drain() {
            return;
        }
        self.log.seal();
        let segments: Vec<_> = self
            .log
            .sealed()
            .into_iter()
            .map(|(incarnation, _)| incarnation)
            .collect();
        self.round_or_die(&segments, Vec::new());
    }

    /// The oldest segments, as many as have to go to bring the log below its mark; the oldest one if that's for its grains, whose number
    /// shows how many are left when it's gone.
    fn segments_to_free(&self) -> Vec<Incarnation> {
        let mut bytes = self.log.live_bytes();
        let is_over = self.is_over(bytes);
        if is_over && self.log.sealed().is_empty() {
            self.log.seal();
        }
        let mut segments = Vec::new();
        for (incarnation, len) in self.log.sealed() {
            let is_first = segments.is_empty();
            if bytes <= self.free_from_bytes && !(is_first && is_over) {
                break;
            }
            bytes -= len.min(bytes);
            segments.push(incarnation);
        }
        segments
    }

    /// A round; false when there can't be another.
    fn round_or_die(&self, segments: &[Incarnation], grains: Vec<GrainName>) -> bool {
        let mut listed: Vec<(GrainName, Incarnation)> = Vec::new();
        for segment in segments {
            if !self.log.settle(*segment) {
                return false;
            }
            let grains = self.index.take_oldest_in(*segment);
            listed.extend(grains.into_iter().map(|grain| (grain, *segment)));
        }
        // In the snapshot store's order, so that neighbours are written together; once each, however often they are named.
        let mut all: Vec<_> = listed.iter().map(|(grain, _)| grain).chain(&grains).collect();
        all.sort_unstable();
        all.dedup();
        match self.round(segments, &all, &listed) {
            Ok(stuck) if stuck.is_empty() => true,
            Ok(stuck) => {
                let again = listed.iter().filter(|(grain, _)| stuck.contains(&grain));
                again.for_each(|(grain, segment)| self.index.enlist(grain, *segment));
                self.wait_for_space(Vec::new())
            }
            Err(StorageError::Io(error)) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(%error, "no checkpoint for want of space, will try again");
                listed
                    .iter()
                    .for_each(|(grain, segment)| self.index.enlist(grain, *segment));
                self.wait_for_space(grains)
            }
            Err(error) => {
                (self.fatal)(&format!("a checkpoint failed: {error}"));
                false
            }
        }
    }

    fn wait_for_space(&self, grains: Vec<GrainName>) -> bool {
        let mut wanted = self.wanted.lock().expect(UNPOISONED);
        wanted.grains.extend(grains);
        let (wanted, _) = self
            .changed
            .wait_timeout_while(wanted, RETRY, |wanted| !wanted.stop)
            .expect(UNPOISONED);
        !wanted.stop
    }

    /// Returns the grains that can't be written, since what is stored of them is damaged. Their commits stay in the log, and so do
    /// the segments from the first that has one of them; all others are served as ever.
    fn round<'a>(
        &self,
        segments: &[Incarnation],
        grains: &[&'a GrainName],
        listed: &[(GrainName, Incarnation)],
    ) -> Result<Vec<&'a GrainName>, StorageError> {
        let mut stuck = Vec::new();
        // Read once: an image never covers a commit that isn't durable.
        let durable = self.log.durable();
        let mut written = Vec::new();
        let mut chunk = Chunk::default();
        let mut rest = grains;
        while !rest.is_empty() {
            let (gathered, count) = self.sources().gather(rest, durable)?;
            let (now, later) = rest.split_at(count);
            for grain in now {
                match self.write_grain(grain, &gathered, durable, &mut chunk) {
                    Err(StorageError::Corrupt(what)) => {
                        tracing::error!(%grain, what, "a grain can't be checkpointed: `granary repair` says what is damaged");
                        stuck.push(*grain);
                    }
                    written => written?,
                }
                if chunk.written.len() >= self.batch_grains {
                    written.append(&mut self.apply(std::mem::take(&mut chunk))?);
                }
            }
            rest = later;
        }
        written.append(&mut self.apply(chunk)?);
        self.heads.flush().map_err(unretryable)?;
        for (grain, upto) in &written {
            self.index.drop_upto(grain, *upto);
        }
        let first_kept = listed.iter().filter(|(grain, _)| stuck.contains(&grain));
        let first_kept = first_kept.map(|(_, segment)| *segment).min();
        segments
            .iter()
            .filter(|segment| first_kept.is_none_or(|kept| **segment < kept))
            .try_for_each(|segment| self.log.free(*segment))
            .map_err(unretryable)?;
        self.images.remove_doomed()?;
        self.images.retire_sparse();
        while let Some(sparse) = self.images.sparse() {
            match self.empty_image_file(sparse) {
                Err(StorageError::Corrupt(what)) => {
                    tracing::error!(
                        what,
                        "an image file can't be emptied: `granary repair` says what is damaged"
                    );
                    break;
                }
                emptied => emptied?,
            }
        }
        self.rounds.fetch_add(1, Ordering::Relaxed);
        Ok(stuck)
    }

    /// Adds a grain's next image to `chunk`.
    fn write_grain(
        &self,
        grain: &GrainName,
        gathered: &Records,
        durable: Lsn,
        chunk: &mut Chunk,
    ) -> Result<(), StorageError> {
        // Checkpointed since it was named.
        if self.index.entries(grain).is_empty() {
            return Ok(());
        }
        let assembled = self.sources().assemble_of(gathered, grain, durable)?;
        let old = assembled.old_value;
        chunk.written.push((grain.clone(), assembled.upto));
        let Some(stored) = assembled.stored else {
            self.remove(grain, old, chunk);
            return Ok(());
        };
        // The same commit has all of it in common, not its number only: another history may have used that.
        if old
            .as_ref()
            .is_some_and(|old| old.stored_head() == stored.stored_head())
        {
            return Ok(());
        }
        let key = grain_key(Table::Grain, grain);
        let image = if stored.deleted {
            chunk.together.push((grain_key(Table::Grave, grain), Some(Vec::new())));
            None
        } else {
            if old.as_ref().is_some_and(|old| old.image.is_none()) {
                chunk.together.push((grain_key(Table::Grave, grain), None));
            }
            let packed = PackedImage::pack(&merged(&stored.parts), &stored.replies);
            Some(self.place(&key, packed, self.inline_limit, chunk)?)
        };
        let before = match assembled.before {
            None => None,
            Some(before) => Some(self.place_before(grain, before, image.as_ref(), chunk)?),
        };
        let value = HeadValue {
            vacant: stored.is_vacant(),
            head: stored.head,
            image,
            before,
        };
        self.replace(key, old.as_ref(), &value, chunk)
    }

    /// Takes out what the snapshot store has of a grain.
    fn remove(&self, grain: &GrainName, old: Option<HeadValue>, chunk: &mut Chunk) {
        let Some(old) = old else { return };
        chunk.held -= i64::from(old.before.is_some());
        chunk.dropped.extend(old.places().filter_map(ImagePlace::in_file));
        if old.image.is_none() {
            chunk.together.push((grain_key(Table::Grave, grain), None));
        }
        chunk.together.push((grain_key(Table::Grain, grain), None));
    }

    /// Puts a grain's new value in the place of its old one.
    fn replace(
        &self,
        key: Vec<u8>,
        old: Option<&HeadValue>,
        new: &HeadValue,
        chunk: &mut Chunk,
    ) -> Result<(), StorageError> {
        let moved = |value: Option<&HeadValue>| i64::from(value.is_some_and(|value| value.before.is_some()));
        let held = moved(Some(new)) - moved(old);
        let is_alone = |value: &HeadValue| match &value.image {
            Some(ImagePlace::Inline(_)) => value.before.is_none(),
            _ => false,
        };
        if is_alone(new) && old.is_none_or(is_alone) {
            return self.heads.put(key, new.encode()).map_err(unretryable);
        }
        chunk.held += held;
        let places = old.into_iter().flat_map(HeadValue::places);
        chunk.dropped.extend(places.filter_map(ImagePlace::in_file));
        chunk.together.push((key, Some(new.encode())));
        Ok(())
    }

    /// Finds a place for an image: in the value when that leaves it below `inline_limit`, in an image file otherwise.
    fn place(&self, key: &[u8], packed: PackedImage, inline_limit: usize, chunk: &mut Chunk) -> io::Result<ImagePlace> {
        if packed.bytes.len() <= inline_limit {
            return Ok(ImagePlace::Inline(packed));
        }
        let place = self.images.append(key, &packed)?;
        chunk.added.push(place);
        Ok(ImagePlace::File(place))
    }

    /// Finds a place for an image from before a move, beside the one from after it.
    fn place_before(
        &self,
        grain: &GrainName,
        before: Before,
        after: Option<&ImagePlace>,
        chunk: &mut Chunk,
    ) -> io::Result<BeforeImage> {
        let taken = match after {
            Some(ImagePlace::Inline(after)) => after.bytes.len(),
            _ => 0,
        };
        let packed = PackedImage::pack(&merged(&before.parts), &ReplyTable::new());
        let key = grain_key(Table::Before, grain);
        Ok(BeforeImage {
            module: before.module,
            revision: before.revision,
            place: self.place(&key, packed, self.inline_limit - taken, chunk)?,
        })
    }

    /// Puts a batch into the snapshot store and returns which grains it was.
    fn apply(&self, mut chunk: Chunk) -> Result<Vec<(GrainName, Lsn)>, StorageError> {
        self.images.sync()?;
        chunk
            .together
            .append(&mut self.images.count(&chunk.added, &chunk.dropped));
        chunk.together.extend(self.held.change(chunk.held));
        if !chunk.together.is_empty() {
            self.heads.apply(chunk.together).map_err(unretryable)?;
        }
        Ok(chunk.written)
    }

    /// Copies what's live in an image file on and removes the file.
    fn empty_image_file(&self, number: u64) -> Result<(), StorageError> {
        let mut chunk = Chunk::default();
        // By grain: two entries of the file may be one grain's.
        let mut values: BTreeMap<GrainName, HeadValue> = BTreeMap::new();
        for (key, place) in self.images.entries(number)? {
            let grain = grain_in_key(&key);
            let grain = grain.ok_or_else(|| StorageError::Corrupt("an image file names no grain".into()))?;
            let mut read;
            let value = match values.get_mut(&grain) {
                Some(value) => value,
                None => {
                    let Some(value) = self.sources().head_value(&grain)? else {
                        continue;
                    };
                    read = value;
                    &mut read
                }
            };
            if let Some(found) = value.place_mut(&place) {
                let packed = self.images.read(&place)?;
                let packed = packed.ok_or_else(|| StorageError::Corrupt("a live image file is gone".into()))?;
                // Not into the value: the grain's other image may have taken the room there.
                let moved = self.images.append(&key, &packed)?;
                *found = ImagePlace::File(moved);
                chunk.added.push(moved);
                chunk.dropped.push(place);
                let value = value.clone();
                values.insert(grain, value);
            }
        }
        let changed = values.into_iter();
        let changed = changed.map(|(grain, value)| (grain_key(Table::Grain, &grain), Some(value.encode())));
        chunk.together.extend(changed);
        self.apply(chunk)?;
        self.heads.flush().map_err(unretryable)?;
        self.images.remove_doomed()?;
        Ok(())
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            log: &self.log,
            index: &self.index,
            heads: &*self.heads,
            images: &self.images,
        }
    }
}

/// The snapshot store and the log's segments are in an unknown state after any error, also one for want of space.
fn unretryable(error: StorageError) -> StorageError {
    match error {
        StorageError::Io(error) => StorageError::Io(io::Error::other(error)),
        other => other,
    }
}
