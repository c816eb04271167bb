//! Images that are too long for the snapshot store, in append-only files.
//!
//! ```text
//! file  = entry*
//! entry = magic: 4, length of the key: u32, length of the image: u64, its length before compression: u64, its blake3: 32,
//!         key, image, zeros up to the next multiple of 8
//! ```
//!
//! An entry is live while the snapshot store's value for its key refers to it. How many bytes of a file are live is kept in
//! the snapshot store and changes in the same batch as the references. A file without live entries is removed; one with less
//! than half is emptied by copying the live ones on, so the files take at most about twice the images' bytes.
//!
//! An entry is on the disk before a batch refers to it; what lies behind the last one that a flushed batch knew of is overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use granary_core::codec::{Reader, put_varint};

use super::StorageError;
use super::files::{File, Files, list_finished};
use super::head_value::{ImageRef, PackedImage};
use super::heads::{HeadChange, Heads, Table, image_file_key};

pub(crate) const IMAGE_DIR: &str = "images";
const ENTRY_HEADER_LEN: usize = 56;
const MAGIC: [u8; 4] = *b"IMG1";
const UNPOISONED: &str = "no thread panics while it holds the image files' lock";

/// The image files of a data folder.
pub(crate) struct ImageFiles {
    files: Arc<dyn Files>,
    file_limit: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: BTreeMap<u64, ImageFile>,
    next_number: u64,
    /// The file that grows.
    current: Option<u64>,
    /// Whether it has bytes that aren't synced, and whether its name isn't.
    unsynced: bool,
    unnamed: bool,
    /// Files that a batch took from the snapshot store, to be removed once that's flushed.
    doomed: Vec<u64>,
}

struct ImageFile {
    file: Arc<dyn File>,
    /// Where the next entry goes.
    len: u64,
    /// Bytes of entries that the snapshot store refers to.
    live: u64,
}

impl ImageFiles {
    /// Opens the files that the snapshot store knows of and removes all others.
    pub(crate) fn open(files: Arc<dyn Files>, file_limit: u64, heads: &dyn Heads) -> Result<ImageFiles, StorageError> {
        files.make_dir(IMAGE_DIR)?;
        files.sync_dir("")?;
        let records = file_records(heads)?;
        let mut state = State::default();
        for name in list_finished(&*files, IMAGE_DIR)? {
            let number = file_number(&name);
            match number.and_then(|number| Some((number, records.get(&number)?))) {
                // A file of somebody else's isn't ours to remove.
                None if number.is_none() => {}
                None => files.remove(&path(&name))?,
                Some((number, &(len, live))) => {
                    let file = files.open(&path(&name))?;
                    if file.len()? < len {
                        return Err(StorageError::Corrupt(format!(
                            "{} is shorter than the {len} bytes that were synced; `granary repair` would give up what was in the rest",
                            path(&name)
                        )));
                    }
                    state.known.insert(number, ImageFile { file, len, live });
                }
            }
        }
        if let Some(missing) = records.keys().find(|number| !state.known.contains_key(number)) {
            let name = path(&file_name(*missing));
            return Err(StorageError::Corrupt(format!(
                "{name} is missing: images of grains were in it; put it back, or let `granary repair` give them up"
            )));
        }
        state.next_number = state.known.last_key_value().map_or(0, |(number, _)| number + 1);
        // The newest one may have room; entries that no flushed batch knew of are overwritten.
        state.current = state.known.last_key_value().map(|(number, _)| *number);
        Ok(ImageFiles {
            files,
            file_limit,
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }

    /// Appends an entry. It lasts after the next [`ImageFiles::sync`]. Nothing refers to it yet: an error loses nothing.
    pub(crate) fn append(&self, key: &[u8], image: &PackedImage) -> io::Result<ImageRef> {
        let hash = *blake3::hash(&image.bytes).as_bytes();
        let entry = encode_entry(key, image, &hash);
        let mut state = self.lock();
        let number = self.file_with_room(&mut state)?;
        let current = state.known.get_mut(&number).expect("the current file is known");
        let offset = current.len;
        current.file.write_at(&entry, offset)?;
        current.len += entry.len() as u64;
        state.unsynced = true;
        Ok(ImageRef {
            file: number,
            offset,
            entry_len: entry.len() as u64,
            hash,
        })
    }

    /// The current file, or a new one when it's full.
    fn file_with_room(&self, state: &mut State) -> io::Result<u64> {
        if let Some(number) = state.current
            && state.known[&number].len < self.file_limit
        {
            return Ok(number);
        }
        if let Some(number) = state.current.filter(|_| state.unsynced) {
            state.known[&number].file.sync().map_err(unretryable)?;
            state.unsynced = false;
        }
        let number = state.next_number;
        let file = self.files.create(&path(&file_name(number)))?;
        state.next_number += 1;
        state.current = Some(number);
        state.unnamed = true;
        state.known.insert(number, ImageFile { file, len: 0, live: 0 });
        Ok(number)
    }

    /// Makes all entries last.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        if state.unnamed {
            self.files.sync_dir(IMAGE_DIR).map_err(unretryable)?;
            state.unnamed = false;
        }
        if let Some(number) = state.current.filter(|_| state.unsynced) {
            state.known[&number].file.sync().map_err(unretryable)?;
            state.unsynced = false;
        }
        Ok(())
    }

    /// Counts `added` as live and `dropped` as dead, and returns what the snapshot store must hold of the files. Those without
    /// live entries are no longer in it, and go by [`ImageFiles::remove_doomed`] once that's flushed.
    pub(crate) fn count(&self, added: &[ImageRef], dropped: &[ImageRef]) -> Vec<HeadChange> {
        let mut state = self.lock();
        for place in added {
            state.known.get_mut(&place.file).expect("just written").live += place.entry_len;
        }
        for place in dropped {
            let file = state
                .known
                .get_mut(&place.file)
                .expect("files with live entries are known");
            file.live -= place.entry_len;
        }
        let touched: BTreeSet<_> = added.iter().chain(dropped).map(|place| place.file).collect();
        let current = state.current;
        let is_dead = |number: &u64, file: &ImageFile| file.live == 0 && Some(*number) != current;
        let dead: Vec<_> = state
            .known
            .iter()
            .filter(|(n, file)| is_dead(n, file))
            .map(|(n, _)| *n)
            .collect();
        let dead: Vec<_> = dead
            .into_iter()
            .filter(|number| !state.doomed.contains(number))
            .collect();
        let alive = touched.into_iter().filter(|number| !dead.contains(number));
        let mut changes: Vec<_> = alive
            .map(|number| (image_file_key(number), Some(state.known[&number].record())))
            .collect();
        changes.extend(dead.iter().map(|number| (image_file_key(*number), None)));
        state.doomed.extend(dead);
        changes
    }

    /// Removes files without live entries. The snapshot store has been flushed since they were counted.
    pub(crate) fn remove_doomed(&self) -> io::Result<()> {
        let mut state = self.lock();
        for number in std::mem::take(&mut state.doomed) {
            state.known.remove(&number);
            self.files.remove(&path(&file_name(number)))?;
        }
        Ok(())
    }

    /// Lets no more be written to the growing file when it's mostly dead: then it can be emptied like the others. Not before it
    /// has some length, as each file costs more than its bytes.
    pub(crate) fn retire_sparse(&self) {
        let mut state = self.lock();
        let Some(current) = state.current.map(|number| &state.known[&number]) else {
            return;
        };
        if !state.unsynced && current.len * 4 >= self.file_limit && current.is_sparse() {
            state.current = None;
        }
    }

    /// The file with the smallest share of live entries, when that is below half.
    pub(crate) fn sparse(&self) -> Option<u64> {
        let state = self.lock();
        let others = state.known.iter().filter(|(number, _)| Some(**number) != state.current);
        let sparse = others.filter(|(_, file)| file.live > 0 && file.is_sparse());
        sparse.min_by_key(|(_, file)| file.live).map(|(number, _)| *number)
    }

    /// Keys and places of all entries of a file, live or not.
    pub(crate) fn entries(&self, number: u64) -> Result<Vec<(Vec<u8>, ImageRef)>, StorageError> {
        let (file, len) = match self.lock().known.get(&number) {
            Some(known) => (Arc::clone(&known.file), known.len),
            None => return Ok(Vec::new()),
        };
        let mut entries = Vec::new();
        let mut offset = 0;
        while offset < len {
            let mut header = [0; ENTRY_HEADER_LEN];
            file.read_at(&mut header, offset)?;
            let Some(header) = EntryHeader::decode(&header) else {
                let name = path(&file_name(number));
                return Err(StorageError::Corrupt(format!(
                    "byte {offset} of {name} starts no image"
                )));
            };
            let mut key = vec![0; header.key_len];
            file.read_at(&mut key, offset + ENTRY_HEADER_LEN as u64)?;
            let place = ImageRef {
                file: number,
                offset,
                entry_len: header.entry_len(),
                hash: header.hash,
            };
            entries.push((key, place));
            offset += header.entry_len();
        }
        Ok(entries)
    }

    /// An image, checked. `None` when its file was removed: the grain has another image by now.
    pub(crate) fn read(&self, place: &ImageRef) -> Result<Option<PackedImage>, StorageError> {
        let Some(file) = self.lock().known.get(&place.file).map(|known| Arc::clone(&known.file)) else {
            return Ok(None);
        };
        read_entry(&*file, place).map(Some)
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().known.values().map(|file| file.len).sum()
    }
}

/// The image at a place, checked.
pub(crate) fn read_entry(file: &dyn File, place: &ImageRef) -> Result<PackedImage, StorageError> {
    let damaged = || {
        StorageError::Corrupt(format!(
            "the image at byte {} of {} isn't what was written there; `granary repair` would give it up",
            place.offset,
            path(&file_name(place.file))
        ))
    };
    let len = usize::try_from(place.entry_len).map_err(|_| damaged())?;
    if place
        .offset
        .checked_add(place.entry_len)
        .is_none_or(|end| end > file.len().unwrap_or(0))
    {
        return Err(damaged());
    }
    let mut bytes = vec![0; len];
    file.read_at(&mut bytes, place.offset)?;
    let header = bytes.get(..ENTRY_HEADER_LEN).and_then(EntryHeader::decode);
    let header = header.filter(|header| header.hash == place.hash && header.entry_len() == place.entry_len);
    let image = header.map(|header| {
        let start = ENTRY_HEADER_LEN + header.key_len;
        PackedImage {
            raw_len: header.raw_len,
            bytes: bytes[start..start + header.image_len].to_vec(),
        }
    });
    image
        .filter(|image| *blake3::hash(&image.bytes).as_bytes() == place.hash)
        .ok_or_else(damaged)
}

/// The keys of a file's entries up to `len`, and whether that could be read to its end.
pub(crate) fn walk(file: &dyn File, len: u64) -> io::Result<(Vec<Vec<u8>>, bool)> {
    let mut keys = Vec::new();
    let (mut offset, len, whole) = (0, len.min(file.len()?), file.len()? >= len);
    while offset < len {
        let mut header = [0; ENTRY_HEADER_LEN];
        if offset + ENTRY_HEADER_LEN as u64 > len {
            return Ok((keys, false));
        }
        file.read_at(&mut header, offset)?;
        let header = EntryHeader::decode(&header).filter(|header| offset + header.entry_len() <= len);
        let Some(header) = header else { return Ok((keys, false)) };
        let mut key = vec![0; header.key_len];
        file.read_at(&mut key, offset + ENTRY_HEADER_LEN as u64)?;
        keys.push(key);
        offset += header.entry_len();
    }
    Ok((keys, whole))
}

impl ImageFile {
    fn is_sparse(&self) -> bool {
        self.live * 2 < self.len
    }

    /// What the snapshot store holds of it.
    fn record(&self) -> Vec<u8> {
        record(self.len, self.live)
    }
}

/// What the snapshot store holds of a file of `len` bytes, of which `live` are referred to.
pub(crate) fn record(len: u64, live: u64) -> Vec<u8> {
    let mut record = Vec::new();
    put_varint(&mut record, len);
    put_varint(&mut record, live);
    record
}

/// Numbers and lengths of the files in the snapshot store's content.
pub(crate) fn records(values: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<(u64, u64)> {
    let prefix = Table::ImageFile.prefix();
    let records = values.range(vec![prefix]..vec![prefix + 1]);
    let read = |key: &[u8], value: &[u8]| {
        let number = u64::from_be_bytes(key[1..].try_into().ok()?);
        Some((number, Reader::new(value).varint().ok()?))
    };
    records.filter_map(|(key, value)| read(key, value)).collect()
}

/// A failed sync is not to be tried again, also when it fails for want of space.
fn unretryable(error: io::Error) -> io::Error {
    io::Error::other(error)
}

/// Length and live bytes of all files that the snapshot store knows of.
fn file_records(heads: &dyn Heads) -> Result<BTreeMap<u64, (u64, u64)>, StorageError> {
    let mut records = BTreeMap::new();
    let mut damaged = false;
    let prefix = Table::ImageFile.prefix();
    heads.scan(Bound::Included(&[prefix]), &mut |key, value| {
        if key.first() != Some(&prefix) {
            return false;
        }
        let mut reader = Reader::new(value);
        match (<[u8; 8]>::try_from(&key[1..]), reader.varint(), reader.varint()) {
            (Ok(number), Ok(len), Ok(live)) => {
                records.insert(u64::from_be_bytes(number), (len, live));
            }
            _ => damaged = true,
        }
        !damaged
    })?;
    if damaged {
        return Err(StorageError::Corrupt(
            "the snapshot store's record of an image file".into(),
        ));
    }
    Ok(records)
}

pub(super) struct EntryHeader {
    pub(super) key_len: usize,
    pub(super) image_len: usize,
    raw_len: u64,
    hash: [u8; 32],
}

impl EntryHeader {
    pub(super) fn decode(bytes: &[u8]) -> Option<EntryHeader> {
        let mut reader = Reader::new(bytes);
        let magic: [u8; 4] = reader.array().ok()?;
        let header = EntryHeader {
            key_len: u32::from_le_bytes(reader.array().ok()?) as usize,
            image_len: u64::from_le_bytes(reader.array().ok()?) as usize,
            raw_len: u64::from_le_bytes(reader.array().ok()?),
            hash: reader.array().ok()?,
        };
        // Lengths that overflow are damage.
        let fits = header.image_len < 1 << 40 && header.key_len < 1 << 16;
        (magic == MAGIC && fits).then_some(header)
    }

    pub(super) fn entry_len(&self) -> u64 {
        (ENTRY_HEADER_LEN + self.key_len + self.image_len).next_multiple_of(8) as u64
    }
}

pub(crate) fn encode_entry(key: &[u8], image: &PackedImage, hash: &[u8; 32]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(ENTRY_HEADER_LEN + key.len() + image.bytes.len() + 8);
    entry.extend_from_slice(&MAGIC);
    entry.extend_from_slice(&(key.len() as u32).to_le_bytes());
    entry.extend_from_slice(&(image.bytes.len() as u64).to_le_bytes());
    entry.extend_from_slice(&image.raw_len.to_le_bytes());
    entry.extend_from_slice(hash);
    entry.extend_from_slice(key);
    entry.extend_from_slice(&image.bytes);
    entry.resize(entry.len().next_multiple_of(8), 0);
    entry
}

pub(crate) fn path(name: &str) -> String {
    format!("{IMAGE_DIR}/{name}")
}

pub(crate) fn file_name(number: u64) -> String {
    format!("{number:08}.img")
}

pub(crate) fn file_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".img")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}
