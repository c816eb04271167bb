//! Which bytes of a memory changed: patches of pages.
//!
//! A patch says "these ranges of this page now hold these bytes", over the page as it was before or over zeros. Ranges
//! are plain overwrites, not differences: two patches of a page compose without the page itself, so a checkpoint
//! merges a grain's deltas without its base image or its memory.
//!
//! ```text
//! patches = { page index: varint, over: u8 (0 = the page before, 1 = zeros), run*, end = 0 0 }
//! run     = skip: varint (bytes since the end of the last run), length: varint (>= 1), bytes
//! ```

use std::collections::BTreeMap;

use crate::codec::{DecodeError, Reader, put_varint};

/// A page's size in bytes: the kernel's unit of dirty tracking, not wasm's 64 KiB.
pub const PAGE_SIZE: usize = 4096;

/// A page's bytes.
pub type Page = [u8; PAGE_SIZE];

/// A run goes on over this many equal bytes: ending it and starting another would take as many.
const GAP: usize = 4;

/// Bytes that are compared at once.
const LINE: usize = 64;

/// What a patch is laid over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The page as it was before.
    Previous,
    /// A page of zeros: the patch holds the whole page.
    Zeros,
}

/// Patches of any number of pages, in their stored form. Always well-formed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patches {
    bytes: Vec<u8>,
}

/// One page's patch.
#[derive(Clone, Copy, Debug)]
pub struct Patch<'a> {
    /// Which page, counted from the memory's start.
    pub index: u32,
    /// What it's laid over.
    pub over: Over,
    runs: Reader<'a>,
}

impl Patches {
    /// No patches.
    pub fn new() -> Patches {
        Patches::default()
    }

    /// Takes the stored form after checking all of it: every run lies inside its page.
    pub fn from_bytes(bytes: &[u8]) -> Result<Patches, DecodeError> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let patch = read_patch(&mut reader)?;
            debug_assert!(patch.runs().count() < PAGE_SIZE);
        }
        Ok(Patches { bytes: bytes.to_vec() })
    }

    /// Adds what turns `before` into `after`. Returns whether they differed; equal pages add nothing.
    pub fn push_changes(&mut self, index: u32, before: &Page, after: &Page) -> bool {
        self.push(index, Over::Previous, before, after)
    }

    /// Adds the whole page, for when it isn't known what it was before. Zeros take no room.
    pub fn push_whole(&mut self, index: u32, page: &Page) {
        self.push(index, Over::Zeros, &[0; PAGE_SIZE], page);
    }

    /// Adds all of `other`'s patches after these.
    pub fn append(&mut self, other: &Patches) {
        self.bytes.extend_from_slice(&other.bytes);
    }

    /// The stored form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The patches in the order in which they apply.
    pub fn iter(&self) -> impl Iterator<Item = Patch<'_>> {
        let mut reader = Reader::new(&self.bytes);
        std::iter::from_fn(move || {
            (!reader.is_empty()).then(|| read_patch(&mut reader).expect("checked when it was made"))
        })
    }

    /// Writes the patches into `memory`. Pages beyond its end are an error; pages before that one are written.
    pub fn apply(&self, memory: &mut [u8]) -> Result<(), DecodeError> {
        for patch in self.iter() {
            let start = patch.index as usize * PAGE_SIZE;
            let page = memory.get_mut(start..).and_then(<[u8]>::first_chunk_mut);
            patch.lay(page.ok_or(DecodeError {
                expected: "a page inside the memory",
                bytes_left: 0,
            })?);
        }
        Ok(())
    }

    fn push(&mut self, index: u32, over: Over, before: &Page, after: &Page) -> bool {
        let start = self.bytes.len();
        put_varint(&mut self.bytes, index);
        self.bytes.push(over as u8);
        let (mut at, mut written) = (0, 0);
        while let Some(from) = next_difference(before, after, at) {
            let to = run_end(before, after, from);
            put_varint(&mut self.bytes, (from - written) as u32);
            put_varint(&mut self.bytes, (to - from) as u32);
            self.bytes.extend_from_slice(&after[from..to]);
            (at, written) = (to, to);
        }
        if written == 0 && over == Over::Previous {
            self.bytes.truncate(start);
            return false;
        }
        self.bytes.extend_from_slice(&[0, 0]);
        true
    }
}

impl<'a> Patch<'a> {
    /// Makes of the page before the one after.
    pub fn lay(&self, page: &mut Page) {
        if self.over == Over::Zeros {
            page.fill(0);
        }
        for (offset, run) in self.runs() {
            page[offset..offset + run.len()].copy_from_slice(run);
        }
    }

    /// Offset in the page and bytes of each run, in rising order.
    pub fn runs(&self) -> impl Iterator<Item = (usize, &'a [u8])> + use<'a> {
        let mut reader = self.runs;
        let mut at = 0;
        std::iter::from_fn(move || {
            let run = read_run(&mut reader, at).expect("checked when it was made")?;
            at = run.0 + run.1.len();
            Some(run)
        })
    }
}

fn read_patch<'a>(reader: &mut Reader<'a>) -> Result<Patch<'a>, DecodeError> {
    let index = reader.varint()?;
    let over = match reader.byte()? {
        0 => Over::Previous,
        1 => Over::Zeros,
        _ => return Err(reader.error("0 or 1: what the patch lies over")),
    };
    let patch = Patch {
        index,
        over,
        runs: *reader,
    };
    let mut at = 0;
    while let Some((offset, run)) = read_run(reader, at)? {
        at = offset + run.len();
    }
    Ok(patch)
}

/// The next run behind byte `at` of the page, or `None` at the patch's end.
fn read_run<'a>(reader: &mut Reader<'a>, at: usize) -> Result<Option<(usize, &'a [u8])>, DecodeError> {
    let (skip, len): (u32, u32) = (reader.varint()?, reader.varint()?);
    if len == 0 {
        return if skip == 0 {
            Ok(None)
        } else {
            Err(reader.error("the end of a patch"))
        };
    }
    let offset = at + skip as usize;
    if offset + len as usize > PAGE_SIZE {
        return Err(reader.error("a run inside its page"));
    }
    Ok(Some((offset, reader.take(len as usize)?)))
}

/// The first byte at or after `at` that differs, looking a cache line at a time: most of a page is equal.
fn next_difference(before: &Page, after: &Page, at: usize) -> Option<usize> {
    let aligned = at.next_multiple_of(LINE).min(PAGE_SIZE);
    if let Some(found) = (at..aligned).find(|&i| before[i] != after[i]) {
        return Some(found);
    }
    let (before_lines, after_lines) = (before[aligned..].as_chunks().0, after[aligned..].as_chunks().0);
    let line = before_lines.iter().zip(after_lines).position(|(b, a)| differ(b, a))?;
    let start = aligned + line * LINE;
    (start..start + LINE).find(|&i| before[i] != after[i])
}

/// Without a branch for each word, so that the compiler makes a few wide instructions of it; a comparison of slices would be a call.
fn differ(before: &[u8; LINE], after: &[u8; LINE]) -> bool {
    let (before, after) = (before.as_chunks::<8>().0, after.as_chunks::<8>().0);
    let words = before.iter().zip(after);
    let differences = words.map(|(b, a)| u64::from_ne_bytes(*b) ^ u64::from_ne_bytes(*a));
    differences.fold(0, |all, one| all | one) != 0
}

/// The end of the run that starts at `from`: behind its last difference before [`GAP`] equal bytes.
fn run_end(before: &Page, after: &Page, from: usize) -> usize {
    let (mut end, mut at) = (from + 1, from + 1);
    while at < PAGE_SIZE && at - end < GAP {
        if before[at] != after[at] {
            end = at + 1;
        }
        at += 1;
    }
    end
}

/// Merges patches page by page, without the pages that they lie over.
#[derive(Debug, Default)]
pub struct PatchMerge {
    pages: BTreeMap<u32, Overlay>,
}

/// The bytes of a page that are known, and which those are.
#[derive(Debug)]
struct Overlay {
    page: Box<Page>,
    known: Box<[u64; PAGE_SIZE / 64]>,
    over: Over,
}

impl PatchMerge {
    /// Nothing merged yet.
    pub fn new() -> PatchMerge {
        PatchMerge::default()
    }

    /// Lays `patches` over what is merged so far.
    pub fn add(&mut self, patches: &Patches) {
        for patch in patches.iter() {
            let overlay = self.pages.entry(patch.index).or_insert_with(Overlay::unknown);
            if patch.over == Over::Zeros {
                *overlay = Overlay {
                    over: Over::Zeros,
                    ..Overlay::unknown()
                };
            }
            for (offset, run) in patch.runs() {
                overlay.lay(offset, run);
            }
        }
    }

    /// The merged patches: one a page, in page order.
    pub fn patches(&self) -> Patches {
        let mut out = Patches::new();
        for (index, overlay) in &self.pages {
            overlay.write(*index, &mut out.bytes);
        }
        out
    }
}

impl Overlay {
    fn unknown() -> Overlay {
        Overlay {
            page: Box::new([0; PAGE_SIZE]),
            known: Box::new([0; PAGE_SIZE / 64]),
            over: Over::Previous,
        }
    }

    fn lay(&mut self, offset: usize, run: &[u8]) {
        self.page[offset..offset + run.len()].copy_from_slice(run);
        for i in offset..offset + run.len() {
            self.known[i / 64] |= 1 << (i % 64);
        }
    }

    fn is_known(&self, i: usize) -> bool {
        self.known[i / 64] & (1 << (i % 64)) != 0
    }

    fn write(&self, index: u32, out: &mut Vec<u8>) {
        put_varint(out, index);
        out.push(self.over as u8);
        let (mut at, mut written) = (0, 0);
        while let Some(from) = (at..PAGE_SIZE).find(|&i| self.is_known(i)) {
            let to = (from..PAGE_SIZE).find(|&i| !self.is_known(i)).unwrap_or(PAGE_SIZE);
            put_varint(out, (from - written) as u32);
            put_varint(out, (to - from) as u32);
            out.extend_from_slice(&self.page[from..to]);
            (at, written) = (to, to);
        }
        out.extend_from_slice(&[0, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small deterministic source of bytes: core has no dependency for randomness.
    fn noise(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *seed >> 33
    }

    fn scribble(page: &mut Page, seed: &mut u64) {
        for _ in 0..noise(seed) % 20 {
            let from = noise(seed) as usize % PAGE_SIZE;
            let len = noise(seed) as usize % 40;
            page[from..(from + len).min(PAGE_SIZE)].fill(noise(seed) as u8);
        }
    }

    #[test]
    fn applying_changes_gives_the_new_page() {
        let mut seed = 1;
        for _ in 0..500 {
            let mut before = [0; PAGE_SIZE];
            scribble(&mut before, &mut seed);
            let mut after = before;
            scribble(&mut after, &mut seed);
            let mut patches = Patches::new();
            assert_eq!(patches.push_changes(1, &before, &after), before != after);
            let mut memory = [[0; PAGE_SIZE], before].concat();
            Patches::from_bytes(patches.as_bytes())
                .unwrap()
                .apply(&mut memory)
                .unwrap();
            assert!(memory[PAGE_SIZE..] == after);
        }
    }

    #[test]
    fn merging_is_the_same_as_applying_in_order() {
        let mut seed = 2;
        for _ in 0..100 {
            let mut memory = vec![9; 3 * PAGE_SIZE];
            let start = memory.clone();
            let mut merge = PatchMerge::new();
            for _ in 0..5 {
                let index = noise(&mut seed) as usize % 3;
                let mut page: Page = memory[index * PAGE_SIZE..][..PAGE_SIZE].try_into().unwrap();
                let before = page;
                scribble(&mut page, &mut seed);
                let mut patches = Patches::new();
                if noise(&mut seed).is_multiple_of(4) {
                    patches.push_whole(index as u32, &page);
                } else {
                    patches.push_changes(index as u32, &before, &page);
                }
                patches.apply(&mut memory).unwrap();
                merge.add(&patches);
            }
            let mut merged = start;
            let patches = merge.patches();
            Patches::from_bytes(patches.as_bytes())
                .unwrap()
                .apply(&mut merged)
                .unwrap();
            assert!(merged == memory);
        }
    }

    #[test]
    fn a_small_change_takes_few_bytes() {
        let before = [0; PAGE_SIZE];
        let mut after = before;
        after[1000..1008].copy_from_slice(&7u64.to_le_bytes());
        let mut patches = Patches::new();
        patches.push_changes(3, &before, &after);
        assert_eq!(patches.as_bytes(), [3, 0, 0xe8, 7, 1, 7, 0, 0]);
    }

    #[test]
    fn damaged_bytes_are_an_error_not_a_panic() {
        let mut patches = Patches::new();
        patches.push_whole(0, &[1; PAGE_SIZE]);
        let good = patches.as_bytes();
        for len in 0..good.len() {
            assert_eq!(Patches::from_bytes(&good[..len]).is_ok(), len == 0);
        }
        // A run that leaves its page.
        assert!(Patches::from_bytes(&[0, 0, 0xff, 0x1f, 2, 1, 1, 0, 0]).is_err());
    }

    #[test]
    fn a_page_beyond_the_memory_is_an_error() {
        let mut patches = Patches::new();
        patches.push_whole(1, &[1; PAGE_SIZE]);
        assert!(patches.apply(&mut [0; PAGE_SIZE]).is_err());
    }
}
