//! A module's base image: what its memory holds before any of its code has run.
//!
//! Data segments laid into pages; pages that aren't here are zeros. One copy for all grains of a module: a grain's state is
//! stored as what differs from it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;

use granary_core::page::{PAGE_SIZE, Page};
use rustix::io::pwrite;

/// The pages of a base image that aren't all zeros.
#[derive(Clone, Default)]
pub struct BaseImage {
    /// Which pages they are, in order.
    indices: Vec<u32>,
    /// Their bytes, one page behind the other: neighbours are written with one system call.
    bytes: Vec<u8>,
}

/// A page of zeros: what a page is that nobody has written.
pub(super) static ZEROS: Page = [0; PAGE_SIZE];

impl BaseImage {
    /// Lays segments over one another in their order: where each begins, and its bytes. Offsets of a linear memory fit 32 bits.
    pub fn new<'a>(segments: impl IntoIterator<Item = (u32, &'a [u8])>) -> BaseImage {
        let mut pages: BTreeMap<u32, Box<Page>> = BTreeMap::new();
        for (offset, mut left) in segments {
            let mut at = offset as usize;
            while !left.is_empty() {
                let start = at % PAGE_SIZE;
                let (head, tail) = left.split_at(left.len().min(PAGE_SIZE - start));
                let page = pages.entry((at / PAGE_SIZE) as u32).or_insert_with(|| Box::new(ZEROS));
                page[start..start + head.len()].copy_from_slice(head);
                (at, left) = (at + head.len(), tail);
            }
        }
        // Segments often bring pages of zeros.
        pages.retain(|_, page| **page != ZEROS);
        let mut image = BaseImage::default();
        for (index, page) in pages {
            image.indices.push(index);
            image.bytes.extend_from_slice(&page[..]);
        }
        image
    }

    /// The page at `index`, zeros included.
    pub fn page(&self, index: u32) -> &Page {
        match self.indices.binary_search(&index) {
            Ok(i) => self.bytes[i * PAGE_SIZE..][..PAGE_SIZE]
                .try_into()
                .expect("a page's length"),
            Err(_) => &ZEROS,
        }
    }

    /// Writes the image into the memory file, whose part from `offset` on reads as zeros.
    ///
    /// Through the file rather than the mapping: a page that the guest never touches then costs no page fault.
    pub fn write_to(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<()> {
        for (index, bytes) in self.runs() {
            let (mut at, mut left) = (offset + (index as usize * PAGE_SIZE) as u64, bytes);
            while !left.is_empty() {
                match pwrite(file, left, at) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => (at, left) = (at + written as u64, &left[written..]),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// How many pages aren't zeros.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether all is zeros.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Pages side by side: the first one's index, and the bytes of all.
    fn runs(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut at = 0;
        self.indices.chunk_by(|a, b| a + 1 == *b).map(move |run| {
            let bytes = &self.bytes[at..at + run.len() * PAGE_SIZE];
            at += bytes.len();
            (run[0], bytes)
        })
    }
}

impl std::fmt::Debug for BaseImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BaseImage({} pages)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::dirty::Mapping;

    #[test]
    fn segments_are_laid_over_one_another_across_pages() {
        let zeros = [0; 100];
        let image = BaseImage::new([
            (4090, &b"abcdefghij"[..]),
            (4095, b"XY"),
            (3 * 4096, &zeros),
            (9 * 4096 + 1, b"z"),
        ]);
        assert_eq!(image.len(), 3);
        assert_eq!(image.page(1)[..4], *b"Yhij");
        assert_eq!(*image.page(7), ZEROS);
        let mapping = Mapping::new(12 * PAGE_SIZE).unwrap();
        image.write_to(mapping.span().file, 2 * PAGE_SIZE as u64).unwrap();
        let memory = &mapping.bytes()[2 * PAGE_SIZE..];
        assert_eq!(&memory[4089..4101], b"\0abcdeXYhij\0");
        for (index, page) in memory.chunks(PAGE_SIZE).enumerate() {
            assert!(page == image.page(index as u32), "{index}");
        }
    }
}
