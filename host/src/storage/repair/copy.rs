//! The copy of the snapshot store: a file with every change to it, in order.
//!
//! sled's own recovery takes a damaged record for the end of a torn one and goes on without it, so a store that opens may be
//! stale or lack grains, and nothing says so. The copy does: it is checksummed throughout, written by ourselves, and synced
//! before the log is freed. A start compares the two, and a store that is damaged or gone is made anew from the copy.
//!
//! ```text
//! file   = header (64 bytes), block*
//! header = magic: 8, salt: 16, host: 16, 0: 8, check: 16
//! block  = magic: u32, length of the payload: u32, round: u64, kind: u64, check: 16, payload, zeros up to the next multiple of 8
//! record = length of the key, key, 0 (removed) or 1, length of the value, value
//! ```
//!
//! Numbers are little-endian, lengths varints. A block's check is blake3 over the file's salt, the block's place, its header and
//! its payload. A *round* is what one flush of the store makes durable. Its changes are in the file and synced before its end
//! is written; so a bad block with a sound end of a round behind it is damage, and one without is what a crash left.
//!
//! **Not here:** the comparing (`copied_heads`).

use std::io;
use std::sync::Arc;

use granary_core::codec::{Reader, put_bytes};
use granary_core::id::HostId;

use super::super::StorageError;
use super::super::files::{File, Files, UNFINISHED, join, list_finished};
use super::super::heads::HeadChange;

pub(crate) const COPY_DIR: &str = "copy";
const MAGIC: [u8; 8] = *b"GRANCPY1";
const BLOCK_MAGIC: [u8; 4] = *b"CPB1";
const HEADER_LEN: usize = 64;
const BLOCK_HEADER_LEN: usize = 40;
/// Bytes after which a block is written: bounds the memory of a reader.
const BLOCK_BYTES: usize = 256 << 10;
/// No block is longer: a longer claim is damage and must not reserve memory.
const BLOCK_LIMIT: usize = 64 << 20;

/// Which flush of the store a change belongs to, counted from 1.
pub(crate) type Round = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Changes = 0,
    /// The round is in the store, flushed.
    End = 1,
}

/// A copy that is being written.
pub(crate) struct Copy {
    file: Arc<dyn File>,
    pub(crate) number: u64,
    salt: [u8; 16],
    /// Where the next block goes.
    len: u64,
    /// Records that aren't in the file yet, behind room for the block's header.
    pending: Vec<u8>,
}

/// What a copy holds.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) host: HostId,
    /// The last round that has an end.
    pub(crate) ended: Round,
    /// Whether nothing follows that end.
    pub(crate) clean: bool,
    /// Bytes up to the end of the last sound block.
    pub(crate) len: u64,
    /// What is wrong with it, if it couldn't be read to its end.
    pub(crate) damage: Option<String>,
    number: u64,
    salt: [u8; 16],
}

/// Why a copy can't be read.
#[derive(Debug)]
pub(crate) enum CopyError {
    /// There is none.
    Missing,
    /// What is wrong, and in which file.
    Damaged(String),
    Io(io::Error),
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> CopyError {
        CopyError::Io(error)
    }
}

impl From<CopyError> for StorageError {
    fn from(error: CopyError) -> StorageError {
        match error {
            CopyError::Missing => StorageError::Corrupt(format!(
                "the folder `{COPY_DIR}` has no copy of the snapshot store, so it isn't known whether the store is whole; \
                 `granary repair` makes one"
            )),
            CopyError::Damaged(what) => StorageError::Corrupt(what),
            CopyError::Io(error) => StorageError::Io(error),
        }
    }
}

/// A change as the copy holds it.
pub(crate) struct Change<'a> {
    /// Whether the end of its round is in the file.
    pub(crate) ended: bool,
    pub(crate) key: &'a [u8],
    /// `None` when the key was removed.
    pub(crate) value: Option<&'a [u8]>,
}

impl Copy {
    /// Makes the `number`-th copy. It has its name, and counts, after [`Copy::publish`].
    pub(crate) fn create(files: &dyn Files, number: u64, host: HostId) -> io::Result<Copy> {
        files.make_dir(COPY_DIR)?;
        files.sync_dir("")?;
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)
            .map_err(|error| io::Error::other(format!("the system has no random bytes: {error}")))?;
        let file = files.create(&format!("{}{UNFINISHED}", path(number)))?;
        file.write_at(&encode_header(&salt, host), 0)?;
        Ok(Copy {
            file,
            number,
            salt,
            len: HEADER_LEN as u64,
            pending: Vec::new(),
        })
    }

    /// Gives a new copy its name, durably. From then on it counts.
    pub(crate) fn publish(&self, files: &dyn Files) -> io::Result<()> {
        self.file.sync()?;
        let name = path(self.number);
        files.rename(&format!("{name}{UNFINISHED}"), &name)?;
        files.sync_dir(COPY_DIR)
    }

    /// Paths of the copies before this one, which count no more.
    pub(crate) fn older(&self, files: &dyn Files) -> io::Result<Vec<String>> {
        let names = files.list(COPY_DIR)?.into_iter();
        let older = names.filter(|name| file_number(name).is_some_and(|number| number < self.number));
        Ok(older.map(|name| join(COPY_DIR, &name)).collect())
    }

    /// Goes on behind what was read.
    pub(crate) fn resume(files: &dyn Files, contents: &Contents) -> io::Result<Copy> {
        Ok(Copy {
            file: files.open(&path(contents.number))?,
            number: contents.number,
            salt: contents.salt,
            len: contents.len,
            pending: Vec::new(),
        })
    }

    /// Notes a change. It's in the file after the next [`Copy::sync`].
    pub(crate) fn note(&mut self, round: Round, change: &HeadChange) -> io::Result<()> {
        let (key, value) = change;
        put_bytes(&mut self.pending, key);
        match value {
            None => self.pending.push(0),
            Some(value) => {
                self.pending.push(1);
                put_bytes(&mut self.pending, value);
            }
        }
        if self.pending.len() >= BLOCK_BYTES {
            self.write_pending(round)?;
        }
        Ok(())
    }

    /// Makes all noted changes last.
    pub(crate) fn sync(&mut self, round: Round) -> io::Result<()> {
        self.write_pending(round)?;
        self.file.sync()
    }

    /// Makes it last that all changes of the round are in the store, flushed.
    pub(crate) fn end(&mut self, round: Round) -> io::Result<()> {
        self.write(round, Kind::End, &[])?;
        self.file.sync()
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.len + self.pending.len() as u64
    }

    fn write_pending(&mut self, round: Round) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        let written = self.write(round, Kind::Changes, &pending);
        // Kept on an error: the block is written again at the same place.
        if written.is_ok() {
            pending.clear();
        }
        self.pending = pending;
        written
    }

    fn write(&mut self, round: Round, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let block = encode_block(&self.salt, self.len, round, kind, payload);
        self.file.write_at(&block, self.len)?;
        self.len += block.len() as u64;
        Ok(())
    }
}

/// Reads the newest copy and hands its changes on in order. Those of a round come with its end known, so after all of them were read.
pub(crate) fn read(files: &dyn Files, visit: &mut dyn FnMut(Change<'_>)) -> Result<Contents, CopyError> {
    let contents = read_front(files, visit)?;
    match contents.damage {
        Some(damage) => Err(CopyError::Damaged(damage)),
        None => Ok(contents),
    }
}

/// The same, but stops at damage.
pub(crate) fn read_front(files: &dyn Files, visit: &mut dyn FnMut(Change<'_>)) -> Result<Contents, CopyError> {
    let Newest {
        number,
        file,
        salt,
        host,
    } = newest(files)?;
    let file_len = file.len()?;
    let mut contents = Contents {
        host,
        ended: 0,
        clean: true,
        len: HEADER_LEN as u64,
        damage: None,
        number,
        salt,
    };
    let mut open: Vec<Vec<u8>> = Vec::new();
    while let Some((round, kind, payload, len)) = read_block(&*file, &salt, contents.len, file_len)? {
        contents.len += len;
        match kind {
            Kind::Changes => open.push(payload),
            Kind::End => {
                open.drain(..).for_each(|payload| hand_on(true, &payload, visit));
                contents.ended = round;
            }
        }
    }
    if let Some(at) = later_end(&*file, &salt, contents.len, file_len)? {
        contents.damage = Some(format!(
            "{}, the copy of the snapshot store, is damaged at byte {}: what's at byte {at} was written later; `granary \
             repair` makes another from the store",
            path(number),
            contents.len
        ));
    }
    contents.clean = open.is_empty() && contents.len == file_len;
    open.iter().for_each(|payload| hand_on(false, payload, visit));
    Ok(contents)
}

/// The newest copy of the snapshot store.
struct Newest {
    number: u64,
    file: Arc<dyn File>,
    salt: [u8; 16],
    host: HostId,
}

fn newest(files: &dyn Files) -> Result<Newest, CopyError> {
    files.make_dir(COPY_DIR)?;
    let mut newest = None;
    for name in list_finished(files, COPY_DIR)? {
        let number = file_number(&name);
        let foreign = || {
            CopyError::Damaged(format!(
                "{COPY_DIR}/{name} is no copy of the snapshot store: move it elsewhere"
            ))
        };
        newest = newest.max(Some(number.ok_or_else(foreign)?));
    }
    let number = newest.ok_or(CopyError::Missing)?;
    let file = files.open(&path(number))?;
    let mut header = [0; HEADER_LEN];
    if file.len()? >= HEADER_LEN as u64 {
        file.read_at(&mut header, 0)?;
    }
    let (salt, host) = decode_header(&header).ok_or_else(|| {
        CopyError::Damaged(format!(
            "the header of {}, the copy of the snapshot store, is damaged; `granary repair` makes another from the store",
            path(number)
        ))
    })?;
    Ok(Newest {
        number,
        file,
        salt,
        host,
    })
}

fn hand_on(ended: bool, payload: &[u8], visit: &mut dyn FnMut(Change<'_>)) {
    let mut reader = Reader::new(payload);
    while let Some((key, value)) = read_record(&mut reader) {
        visit(Change { ended, key, value });
    }
}

fn read_record<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    if reader.rest().is_empty() {
        return None;
    }
    let key = reader.bytes().ok()?;
    match reader.byte().ok()? {
        0 => Some((key, None)),
        _ => Some((key, Some(reader.bytes().ok()?))),
    }
}

type Block = (Round, Kind, Vec<u8>, u64);

/// The block at `at`, if a sound one starts there.
fn read_block(file: &dyn File, salt: &[u8; 16], at: u64, file_len: u64) -> io::Result<Option<Block>> {
    if at + BLOCK_HEADER_LEN as u64 > file_len {
        return Ok(None);
    }
    let mut header = [0; BLOCK_HEADER_LEN];
    file.read_at(&mut header, at)?;
    let len = u32::from_le_bytes(header[4..8].try_into().expect("4 bytes")) as usize;
    let end = at + (BLOCK_HEADER_LEN + len.next_multiple_of(8)) as u64;
    if header[..4] != BLOCK_MAGIC || len > BLOCK_LIMIT || end > file_len {
        return Ok(None);
    }
    let mut payload = vec![0; len];
    file.read_at(&mut payload, at + BLOCK_HEADER_LEN as u64)?;
    let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let kind = match word(16) {
        0 => Kind::Changes,
        1 => Kind::End,
        _ => return Ok(None),
    };
    let sound = check(salt, at, &header[..24], &payload) == header[24..];
    Ok(sound.then(|| (word(8), kind, payload, end - at)))
}

/// Where behind `from` a sound end of a round is.
fn later_end(file: &dyn File, salt: &[u8; 16], from: u64, file_len: u64) -> io::Result<Option<u64>> {
    const CHUNK: u64 = 1 << 20;
    let mut start = from + 8;
    while start < file_len {
        let mut chunk = vec![0; (file_len - start).min(CHUNK) as usize];
        file.read_at(&mut chunk, start)?;
        for (i, word) in chunk.chunks_exact(8).enumerate() {
            let at = start + i as u64 * 8;
            if word[..4] == BLOCK_MAGIC
                && let Some((_, Kind::End, ..)) = read_block(file, salt, at, file_len)?
            {
                return Ok(Some(at));
            }
        }
        start += CHUNK;
    }
    Ok(None)
}

fn check(salt: &[u8; 16], at: u64, header: &[u8], payload: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(salt)
        .update(&at.to_le_bytes())
        .update(header)
        .update(payload);
    let mut out = [0; 16];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    out
}

fn encode_block(salt: &[u8; 16], at: u64, round: Round, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK_HEADER_LEN + payload.len() + 8);
    block.extend_from_slice(&BLOCK_MAGIC);
    block.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    block.extend_from_slice(&round.to_le_bytes());
    block.extend_from_slice(&(kind as u64).to_le_bytes());
    let check = check(salt, at, &block, payload);
    block.extend_from_slice(&check);
    block.extend_from_slice(payload);
    block.resize(block.len().next_multiple_of(8), 0);
    block
}

fn encode_header(salt: &[u8; 16], host: HostId) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    out[..8].copy_from_slice(&MAGIC);
    out[8..24].copy_from_slice(salt);
    out[24..40].copy_from_slice(&host.0);
    let check = blake3::hash(&out[..48]);
    out[48..].copy_from_slice(&check.as_bytes()[..16]);
    out
}

fn decode_header(bytes: &[u8; HEADER_LEN]) -> Option<([u8; 16], HostId)> {
    let sound = bytes[..8] == MAGIC && blake3::hash(&bytes[..48]).as_bytes()[..16] == bytes[48..];
    let array = |at: usize| <[u8; 16]>::try_from(&bytes[at..at + 16]).expect("16 bytes");
    sound.then(|| (array(8), HostId(array(24))))
}

/// Whose copy this is.
pub(crate) fn host(files: &dyn Files) -> Result<HostId, CopyError> {
    Ok(newest(files)?.host)
}

/// The number that no copy has had yet.
pub(crate) fn next_number(files: &dyn Files) -> io::Result<u64> {
    files.make_dir(COPY_DIR)?;
    let numbers = files.list(COPY_DIR)?;
    Ok(numbers
        .iter()
        .filter_map(|name| file_number(name))
        .max()
        .map_or(1, |last| last + 1))
}

/// The path of the `number`-th copy.
pub(crate) fn path(number: u64) -> String {
    format!("{COPY_DIR}/{number:08}.copy")
}

fn file_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".copy")?.parse().ok()?;
    (path(number) == join(COPY_DIR, name)).then_some(number)
}
