//! Follows one grain's memory: which pages differ from its last commit, and by what.
//!
//! For each page the tracker knows what was committed: the base image's page, or a copy, or a short difference from the base, or
//! nothing (then the page is saved whole when it changes next).
//!
//! A page that was written is **hot**: it stays writable and its copy is kept, so that the next turns cost one compare instead of
//! a fault, a system call and an interrupt of the other processors, and so that only the changed bytes are saved. After some
//! commits without a change it's protected again (**cold**), and its copy shrinks to the difference from the base if that's short.
//!
//! What isn't collected (after read-only turns) stays marked and joins the next collection.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use granary_core::commit::Delta;
use granary_core::page::{PAGE_SIZE, Page, Patches};

use super::dirty::{Tracking, written_ever};
use super::{BaseImage, Span};

/// The longest difference from the base that's kept for a cold page, in bytes: a quarter of a page.
const SHORT: usize = 1024;

/// Follows one memory.
#[derive(Debug)]
pub struct Tracker {
    tracking: Arc<Tracking>,
    base: Arc<BaseImage>,
    /// What was committed, for pages where that isn't the base's, in the order of their index.
    known: Vec<(u32, Known)>,
    /// Pages that writes are seen in. Beyond it the memory has grown since the last collection.
    armed: usize,
    /// How many pages are [`Known::Copy`].
    copies: usize,
    /// For scans; kept to save allocations.
    found: Vec<u32>,
}

/// What a page held at the last commit, when that wasn't the base's page.
#[derive(Debug)]
enum Known {
    /// All of it, and for how many commits it has not changed.
    Copy(Box<Page>, u8),
    /// The patch that makes it of the base's page.
    Short(Patches),
    /// Not kept.
    Unknown,
}

impl Tracker {
    /// Follows a memory that now holds `base` with `parts` applied: nothing else has run on it.
    pub fn arm(
        tracking: &Arc<Tracking>,
        span: &Span<'_>,
        base: &Arc<BaseImage>,
        parts: &[Delta],
    ) -> io::Result<Tracker> {
        let mut tracker = Tracker {
            tracking: Arc::clone(tracking),
            base: Arc::clone(base),
            known: Vec::new(),
            armed: 0,
            copies: 0,
            found: Vec::new(),
        };
        let mut changed: Vec<u32> = parts
            .iter()
            .flat_map(|part| part.patches.iter())
            .map(|patch| patch.index)
            .collect();
        changed.sort_unstable();
        changed.dedup();
        for index in changed {
            let page = page(span, index);
            let known = if tracking.dirty.sees_writes() {
                tracker.shorten(index, page)
            } else {
                tracker.copy(page)
            };
            tracker.known.push((index, known));
        }
        tracker.armed = span.bytes.len() / PAGE_SIZE;
        tracking.dirty.arm(span, 0..tracker.armed)?;
        Ok(tracker)
    }

    /// Writes what differs from the last collection (or from where it was armed) and takes it for committed. After an error the
    /// tracker doesn't know the memory any more: drop the activation.
    pub fn collect(&mut self, span: &Span<'_>, out: &mut Patches) -> io::Result<()> {
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        self.tracking.dirty.scan(span, 0..self.armed, &mut found)?;
        let pages = span.bytes.len() / PAGE_SIZE;
        if pages > self.armed {
            // Pages that came by growing were zeros. Those that the file has by now are the written ones.
            written_ever(span, self.armed..pages, &mut found)?;
            self.tracking.dirty.arm(span, self.armed..pages)?;
            self.armed = pages;
        }
        let mut cold = Vec::new();
        let mut at = 0;
        for &index in &found {
            if is_dead(span, index) {
                continue;
            }
            // Both lists rise: what is behind `at` is behind this page, too.
            at += self.known[at..].partition_point(|(known, _)| *known < index);
            self.collect_page(span, index, at, out, &mut cold);
        }
        self.found = found;
        self.arm_pages(span, &cold)
    }

    /// Protects what is hot and gives its copies up, for a grain that has been idle for a while. What has not been collected
    /// stays marked.
    pub fn rest(&mut self, span: &Span<'_>) -> io::Result<()> {
        if !self.tracking.dirty.sees_writes() {
            return Ok(());
        }
        let mut cold = Vec::new();
        for i in 0..self.known.len() {
            let (index, known) = &self.known[i];
            let index = *index;
            if let Known::Copy(copy, _) = known
                && **copy == *page(span, index)
            {
                self.cool(i, &mut cold);
            }
        }
        self.known.shrink_to_fit();
        self.found = Vec::new();
        self.arm_pages(span, &cold)
    }

    /// How many pages are hot.
    pub fn hot_pages(&self) -> usize {
        self.copies
    }

    /// One page that may have changed; what is known of it is at place `at`, if anything.
    fn collect_page(&mut self, span: &Span<'_>, index: u32, at: usize, out: &mut Patches, cold: &mut Vec<u32>) {
        let now = page(span, index);
        let is_known = self.known.get(at).is_some_and(|(known, _)| *known == index);
        if !is_known {
            if out.push_changes(index, self.base.page(index), now) {
                let known = self.keep(index, now, cold);
                self.known.insert(at, (index, known));
            } else if self.tracking.dirty.sees_writes() {
                // Written with what it held before: leaving it writable would cost a compare with every commit.
                cold.push(index);
            }
            return;
        }
        let changed = match &mut self.known[at].1 {
            Known::Copy(copy, quiet) => {
                if out.push_changes(index, copy, now) {
                    **copy = *now;
                    *quiet = 0;
                } else {
                    *quiet = quiet.saturating_add(1);
                    if *quiet >= self.tracking.quiet_commits && self.tracking.dirty.sees_writes() {
                        self.cool(at, cold);
                    }
                }
                return;
            }
            Known::Short(patch) => {
                let mut before = *self.base.page(index);
                patch.apply(&mut before).expect("a patch of one page");
                out.push_changes(index, &before, now)
            }
            Known::Unknown => {
                out.push_whole(index, now);
                true
            }
        };
        if changed {
            self.known[at].1 = self.keep(index, now, cold);
        } else {
            cold.push(index);
        }
    }

    /// Keeps a copy of a page that was just committed, or protects it when there's no room for one.
    fn keep(&mut self, index: u32, page: &Page, cold: &mut Vec<u32>) -> Known {
        if self.tracking.take_copy() {
            self.copies += 1;
            return Known::Copy(Box::new(*page), 0);
        }
        cold.push(index);
        self.shorten(index, page)
    }

    fn copy(&mut self, page: &Page) -> Known {
        // Comparing gets as many as it needs.
        assert!(self.tracking.take_copy());
        self.copies += 1;
        Known::Copy(Box::new(*page), 0)
    }

    /// Turns a copy into a short difference and has its page protected.
    fn cool(&mut self, at: usize, cold: &mut Vec<u32>) {
        let index = self.known[at].0;
        let Known::Copy(copy, _) = std::mem::replace(&mut self.known[at].1, Known::Unknown) else {
            unreachable!("only copies cool");
        };
        self.known[at].1 = self.shorten(index, &copy);
        self.copies -= 1;
        self.tracking.return_copies(1);
        cold.push(index);
    }

    /// What to know of a cold page.
    fn shorten(&self, index: u32, page: &Page) -> Known {
        let mut patch = Patches::new();
        patch.push_changes(0, self.base.page(index), page);
        if patch.as_bytes().len() <= SHORT {
            Known::Short(patch)
        } else {
            Known::Unknown
        }
    }

    /// Protects pages, given in rising order, with one call for each run of neighbours.
    fn arm_pages(&self, span: &Span<'_>, pages: &[u32]) -> io::Result<()> {
        let mut run: Range<usize> = 0..0;
        for index in pages.iter().map(|index| *index as usize) {
            if index != run.end {
                self.tracking.dirty.arm(span, run)?;
                run = index..index;
            }
            run.end = index + 1;
        }
        self.tracking.dirty.arm(span, run)
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.tracking.return_copies(self.copies);
    }
}

fn page<'a>(span: &Span<'a>, index: u32) -> &'a Page {
    let start = index as usize * PAGE_SIZE;
    span.bytes[start..start + PAGE_SIZE]
        .try_into()
        .expect("a page's length")
}

/// Whether all of a page is dead.
fn is_dead(span: &Span<'_>, index: u32) -> bool {
    let start = index as usize * PAGE_SIZE;
    span.dead.start <= start && start + PAGE_SIZE <= span.dead.end
}
