//! Looking at a data folder for `granary repair`: what is damaged, what stays, what goes. Changes nothing.
//!
//! The state of a grain is its image with the commits since. A damaged image takes all of it; a cut log takes its end. What makes the
//! folder one that a host starts on is then a change to the snapshot store's content: a grain without a state becomes a deleted
//! one *with the number of its last known commit*, so that commits in the log which nothing can be made of any more are passed
//! over, and its numbering goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use granary_core::codec::Reader;
use granary_core::commit::Head;
use granary_core::id::{GrainName, GrainType, ModuleHash, Seq};

use super::super::StorageError;
use super::super::files::{File, Files, join, read_all};
use super::super::head_value::{HeadValue, ImagePlace, ImageRef};
use super::super::heads::{self, current_key, grain_in_key, grain_key, split_key};
use super::super::held;
use super::super::identity::{self, Identity};
use super::super::image_files::{self, IMAGE_DIR};
use super::super::log::salvage::{Salvage, Seen, salvage};
use super::super::modules;
use super::GAVE_UP;
use super::report::{LostRevision, RepairReport};
use super::state::State;

/// What the folder has of its host's cluster.
const CLUSTER: &str = "cluster";

/// What was found and what would be done.
#[derive(Debug)]
pub(super) struct Examination {
    pub(super) report: RepairReport,
    /// The identity to write, when the folder has none that can be read.
    pub(super) identity: Option<Identity>,
    pub(super) state: State,
    /// Whether `state` differs from what is stored.
    pub(super) rewrite: bool,
    pub(super) log: Salvage,
    /// Grains whose images move out of damaged files.
    pub(super) moving: Vec<(Vec<u8>, ImageRef)>,
    /// Files that go into the quarantine last, when nothing refers to them any more.
    pub(super) removed: Vec<String>,
}

/// Image files, opened once.
struct Images<'a> {
    files: &'a dyn Files,
    open: BTreeMap<u64, Option<Arc<dyn File>>>,
    damaged: BTreeSet<u64>,
}

/// Looks at everything.
pub(super) fn examine(dir: &Path, files: &dyn Files) -> Result<Examination, StorageError> {
    let mut report = RepairReport::default();
    let mut identity = read_identity(files, &mut report)?;
    let state = State::read(dir, files)?;
    report.problems.extend(state.problems.iter().cloned());
    report.more_may_be_lost |= state.incomplete;
    if let (None, Some(host)) = (&identity, state.host)
        && let stored = identity::next(files)?
        && stored.host != host
    {
        report
            .problems
            .push("`identity` names another host than the copy of the snapshot store".into());
        identity = Some(stored);
    }
    let log = salvage(files)?;
    report.problems.extend(log.problems.iter().cloned());
    report.more_may_be_lost |= log.more_may_be_lost;
    let rewrite = !state.problems.is_empty();
    let mut found = Examination {
        report,
        identity: None,
        state,
        rewrite,
        log,
        moving: Vec::new(),
        removed: Vec::new(),
    };
    let mut images = Images {
        files,
        open: BTreeMap::new(),
        damaged: BTreeSet::new(),
    };
    images.find_damaged(&mut found)?;
    let incarnation = found.grains(&mut images)?;
    found.image_files(&images);
    found.modules(files)?;
    if found.rewrite {
        found.counts();
    }
    if let Some(identity) = &mut identity {
        identity.host = found.state.host.unwrap_or(identity.host);
        identity.incarnation = identity.incarnation.max(incarnation + 1);
    }
    found.identity = identity;
    found.report.grains.sort_unstable();
    found.report.grains.dedup();
    Ok(found)
}

/// A new identity, when there is none that can be read.
fn read_identity(files: &dyn Files, report: &mut RepairReport) -> Result<Option<Identity>, StorageError> {
    match identity::next(files) {
        Ok(identity) if identity.is_new() => {
            report.problems.push("the file `identity` is missing".into());
            Ok(Some(identity))
        }
        Ok(_) => Ok(None),
        Err(StorageError::Corrupt(what)) if identity::is_newer(files) => Err(StorageError::Corrupt(what)),
        Err(StorageError::Corrupt(what)) => {
            report.problems.push(what);
            Ok(Some(identity::fresh()?))
        }
        Err(other) => Err(other),
    }
}

impl Examination {
    /// Makes the folder one of a host that never was. What it knew of its cluster goes into the quarantine.
    pub(super) fn become_new(&mut self, files: &dyn Files) -> Result<(), StorageError> {
        let known = match &self.identity {
            Some(identity) => *identity,
            None => identity::next(files)?,
        };
        let host = identity::fresh()?.host;
        self.identity = Some(Identity { host, ..known });
        // The snapshot store's copy names its host.
        self.rewrite = true;
        self.removed.extend([CLUSTER.to_owned(), GAVE_UP.to_owned()]);
        Ok(())
    }

    /// Goes through all grains; returns the highest incarnation that made a commit.
    fn grains(&mut self, images: &mut Images<'_>) -> Result<u32, StorageError> {
        let mut in_log: BTreeMap<GrainName, Vec<Seen>> = BTreeMap::new();
        for seen in std::mem::take(&mut self.log.kept) {
            in_log.entry(seen.grain.clone()).or_default().push(seen);
        }
        let mut known: BTreeMap<GrainName, Seq> = BTreeMap::new();
        for (grain, seq) in &self.log.lost {
            let last = known.entry(grain.clone()).or_default();
            *last = (*last).max(*seq);
        }
        let prefix = heads::Table::Grain.prefix();
        let stored = self.state.values.keys().filter(|key| key.first() == Some(&prefix));
        let mut names: BTreeSet<GrainName> = stored.filter_map(|key| grain_in_key(key)).collect();
        names.extend(in_log.keys().cloned());
        names.extend(known.keys().cloned());
        let mut incarnation = 0;
        for grain in names {
            let entries = in_log.remove(&grain).unwrap_or_default();
            let last = entries.last().map(|seen| seen.head.ballot.incarnation);
            incarnation = incarnation.max(last.unwrap_or(0));
            let made = self.grain(&grain, &entries, known.get(&grain).copied(), images)?;
            incarnation = incarnation.max(made);
        }
        Ok(incarnation)
    }

    /// Judges one grain; returns the incarnation in its head.
    fn grain(
        &mut self,
        grain: &GrainName,
        entries: &[Seen],
        lost: Option<Seq>,
        images: &mut Images<'_>,
    ) -> Result<u32, StorageError> {
        let key = grain_key(heads::Table::Grain, grain);
        let bytes = self.state.values.get(&key);
        let mut value = bytes.and_then(|bytes| HeadValue::decode(bytes).ok());
        let unreadable = bytes.is_some() && value.is_none();
        let head = value.as_ref().map(|value| value.head.clone());
        let seq = head.as_ref().map_or(Seq(0), |head| head.seq);
        let copy = entries.iter().rposition(|seen| seen.whole);
        let covered = entries.partition_point(|seen| seen.head.seq <= seq);
        let fresh = &entries[copy.unwrap_or(covered)..];
        let hash = head.as_ref().map_or([0; 16], |head| head.hash);
        let follows = fresh
            .first()
            .is_none_or(|first| first.head.seq == seq.next() && first.prev_hash == hash);
        let last = fresh.last().map(|seen| seen.head.clone()).or(head.clone());
        let made = last.as_ref().map_or(0, |last| last.ballot.incarnation);
        let known = last.as_ref().map(|last| last.seq).max(lost);
        // From there on nothing hangs on the image.
        let deleted_since = copy.is_some() || fresh.iter().any(|seen| seen.deletes);
        let has_image = !unreadable && images.can_read(value.as_ref().and_then(|value| value.image.as_ref()))?;
        let readable = !unreadable && (deleted_since || has_image);
        if let Some(value) = value.as_mut().filter(|_| readable) {
            self.thin(grain, &key, value, has_image, images)?;
        }
        if !readable {
            self.report.problems.push(format!("the image of {grain} can't be read"));
            self.report.lose(grain, None, known);
            self.bury(grain, last.as_ref());
        } else if !follows && !deleted_since {
            // Back to the image, under the last number: what the log has of it is passed over.
            let kept = value.as_ref().map(|value| value.head.seq);
            self.report
                .problems
                .push(format!("commits of {grain} between its image and the log are missing"));
            self.report.lose(grain, kept, known);
            self.go_back(grain, key, value, last);
        } else {
            if let Some(first) = fresh.first().filter(|_| !follows) {
                // What is missing was deleted later: what's left of the log goes on from a deleted grain.
                self.report
                    .problems
                    .push(format!("commits of {grain} from before it was deleted are missing"));
                self.put(key, deleted_before(first).encode());
            }
            if lost > last.as_ref().map(|last| last.seq) {
                self.report.lose(grain, last.map(|last| last.seq), lost);
            }
        }
        Ok(made)
    }

    /// Puts a grain back to its image, under its last number; one without an image is buried.
    fn go_back(&mut self, grain: &GrainName, key: Vec<u8>, value: Option<HeadValue>, last: Option<Head>) {
        match (value.filter(|value| value.image.is_some()), last) {
            (Some(value), Some(last)) => {
                let head = Head {
                    module: value.head.module,
                    revision: value.head.revision,
                    ..last
                };
                // What was before the image's commit isn't what was before the last one.
                let value = HeadValue {
                    head,
                    before: None,
                    ..value
                };
                self.put(key, value.encode());
            }
            (_, last) => self.bury(grain, last.as_ref()),
        }
    }

    /// Takes from a grain's value what can't be read and isn't its state: an image that was deleted since, and the one from before
    /// its last move.
    fn thin(
        &mut self,
        grain: &GrainName,
        key: &[u8],
        value: &mut HeadValue,
        has_image: bool,
        images: &mut Images<'_>,
    ) -> Result<(), StorageError> {
        if !has_image {
            value.image = None;
            value.vacant = false;
        }
        let before = value.before.as_ref().map(|before| &before.place);
        let has_before = images.can_read(before)?;
        if !has_before {
            value.before = None;
            self.report.problems.push(format!(
                "the image of {grain} from before its last move to another module can't be read: a rollback will go through \
                 its code's `save` and `load`"
            ));
        }
        if !has_image || !has_before {
            self.put(key.to_vec(), value.encode());
        }
        Ok(())
    }

    /// Makes a grain one that was deleted by its last known commit.
    fn bury(&mut self, grain: &GrainName, last: Option<&Head>) {
        let key = grain_key(heads::Table::Grain, grain);
        self.rewrite = true;
        match last {
            None => drop(self.state.values.remove(&key)),
            Some(head) => {
                let value = HeadValue {
                    head: head.clone(),
                    image: None,
                    vacant: false,
                    before: None,
                };
                self.put(key, value.encode());
                self.put(grain_key(heads::Table::Grave, grain), Vec::new());
            }
        }
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.rewrite = true;
        self.state.values.insert(key, value);
    }

    /// Places in image files that the state refers to, with the keys that refer to them.
    fn places(&self) -> Vec<(Vec<u8>, ImageRef)> {
        let mut places = Vec::new();
        for (key, value) in self.state.values.iter().filter(|(key, _)| is_grain(key)) {
            let Ok(value) = HeadValue::decode(value) else { continue };
            places.extend(value.places().filter_map(|place| match place {
                ImagePlace::File(place) => Some((key.clone(), *place)),
                ImagePlace::Inline(_) => None,
            }));
        }
        places
    }

    /// Sees to what the store says of image files: the damaged ones go, what can be read in them moves.
    fn image_files(&mut self, images: &Images<'_>) {
        self.moving = self.places();
        self.moving.retain(|(_, place)| images.damaged.contains(&place.file));
        for number in &images.damaged {
            self.rewrite = true;
            self.state.values.remove(&heads::image_file_key(*number));
            self.removed.push(image_files::path(&image_files::file_name(*number)));
        }
    }

    /// Counts anew what the store keeps counts of: grains were given up, images dropped.
    fn counts(&mut self) {
        let mut live: BTreeMap<u64, u64> = BTreeMap::new();
        for (_, place) in self.places() {
            *live.entry(place.file).or_default() += place.entry_len;
        }
        for (number, len) in image_files::records(&self.state.values) {
            let record = image_files::record(len, live.get(&number).copied().unwrap_or(0));
            self.state.values.insert(heads::image_file_key(number), record);
        }
        let values = self.state.values.iter().filter(|(key, _)| is_grain(key));
        let moved = values.filter(|(_, value)| HeadValue::decode(value).is_ok_and(|value| value.before.is_some()));
        let (key, count) = held::record(moved.count() as u64);
        self.state.values.insert(key, count);
    }

    /// Revisions whose module can't be read are given up.
    fn modules(&mut self, files: &dyn Files) -> Result<(), StorageError> {
        let prefix = heads::Table::Revision.prefix();
        let mut gone = Vec::new();
        for (key, value) in &self.state.values {
            let module = value.first_chunk::<32>().filter(|_| key.first() == Some(&prefix));
            let (Some(module), Some((kind, revision))) = (module, split_key(key)) else {
                continue;
            };
            let module = ModuleHash(*module);
            let path = modules::path(&module);
            let sound = match read_all(files, &path) {
                Ok(bytes) => *blake3::hash(&bytes).as_bytes() == module.0,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error.into()),
            };
            if !sound {
                let revision = revision.try_into().map_or(0, u32::from_be_bytes);
                gone.push((key.clone(), path, kind, revision, module.to_string()));
            }
        }
        for (key, path, kind, revision, module) in gone {
            self.rewrite = true;
            self.state.values.remove(&key);
            self.forget_current(&kind, revision);
            self.report
                .problems
                .push(format!("{path}, revision {revision} of {kind}, is damaged or missing"));
            let kind = kind.to_string();
            self.report.revisions.push(LostRevision { kind, revision, module });
            self.removed.push(path);
        }
        Ok(())
    }
}

impl Examination {
    /// A revision that is given up can't be the current one: the highest that is left is.
    fn forget_current(&mut self, kind: &GrainType, revision: u32) {
        let key = current_key(kind);
        let current = self.state.values.get(&key);
        if current.is_some_and(|value| Reader::new(value).varint() == Ok(revision)) {
            self.state.values.remove(&key);
        }
    }
}

/// A deleted grain that a commit in the log follows.
fn deleted_before(next: &Seen) -> HeadValue {
    let head = Head {
        seq: Seq(next.head.seq.0.saturating_sub(1)),
        hash: next.prev_hash,
        ..next.head.clone()
    };
    HeadValue {
        head,
        image: None,
        vacant: false,
        before: None,
    }
}

fn is_grain(key: &[u8]) -> bool {
    key.first() == Some(&heads::Table::Grain.prefix())
}

impl Images<'_> {
    fn file(&mut self, number: u64) -> Result<Option<Arc<dyn File>>, StorageError> {
        if !self.open.contains_key(&number) {
            let path = join(IMAGE_DIR, &image_files::file_name(number));
            let file = match self.files.open(&path) {
                Ok(file) => Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error.into()),
            };
            self.open.insert(number, file);
        }
        Ok(self.open[&number].clone())
    }

    /// Finds files that are missing, too short, or have a place where no image starts.
    fn find_damaged(&mut self, found: &mut Examination) -> Result<(), StorageError> {
        for (number, len) in image_files::records(&found.state.values) {
            let name = image_files::path(&image_files::file_name(number));
            let whole = match self.file(number)? {
                Some(file) => image_files::walk(&*file, len)?.1,
                None => false,
            };
            if !whole {
                self.damaged.insert(number);
                found.report.problems.push(format!("{name} is damaged, cut or missing"));
            }
        }
        for (_, place) in found.places() {
            let readable = match self.file(place.file)? {
                Some(file) => image_files::read_entry(&*file, &place).is_ok(),
                None => false,
            };
            if !readable && self.damaged.insert(place.file) {
                let name = image_files::path(&image_files::file_name(place.file));
                found
                    .report
                    .problems
                    .push(format!("{name} is damaged at byte {}", place.offset));
            }
        }
        Ok(())
    }

    /// Whether an image can be read and unpacked. One that isn't there is none that can't.
    fn can_read(&mut self, place: Option<&ImagePlace>) -> Result<bool, StorageError> {
        match place {
            None => Ok(true),
            Some(ImagePlace::Inline(packed)) => Ok(packed.unpack().is_ok()),
            Some(ImagePlace::File(place)) => {
                let Some(file) = self.file(place.file)? else {
                    return Ok(false);
                };
                match image_files::read_entry(&*file, place) {
                    Ok(packed) => Ok(packed.unpack().is_ok()),
                    Err(StorageError::Corrupt(_)) => Ok(false),
                    Err(other) => Err(other),
                }
            }
        }
    }
}
