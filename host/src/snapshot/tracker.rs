//! Follows one grain's memory: which pages differ from its last commit, and by what.
//!
//! For each page the tracker knows what was committed: the base image's page, a short difference from it, a copy, or nothing
//! (then the page is saved whole when it changes next).
//!
//! A page that was written is **hot**: it stays writable and is compared with what was committed at every collection. That costs
//! some hundred nanoseconds; protecting it again costs a system call, an interrupt of the other processors and a fault with the next
//! write. Allocators write to the same pages in every turn and often leave them as they were, so that "written" without "changed"
//! is common, too. A page is kept as a short difference after its first change and as a copy once it keeps changing: most grains
//! are called rarely and shouldn't pay for copies. After some collections without a change a page is protected again (**cold**).
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
    /// Pages that are hot or weren't committed as the base has them, in the order of their index.
    known: Vec<Known>,
    /// Pages that writes are seen in. Beyond it the memory has grown since the last collection.
    armed: usize,
    /// How many pages are [`Was::Copy`].
    copies: usize,
    /// For scans; kept to save allocations.
    found: Vec<u32>,
}

/// One page, as far as it's known.
#[derive(Debug)]
struct Known {
    index: u32,
    was: Was,
    /// For a hot page: how many collections have found it unchanged.
    quiet: Option<u8>,
}

/// What a page held at the last commit.
#[derive(Debug)]
enum Was {
    /// The base's page.
    Base,
    /// What this patch makes of the base's page.
    Short(Patches),
    /// This.
    Copy(Box<Page>),
    /// Not kept. Such a page is never hot: there's nothing to compare it with.
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
            let was = if tracking.dirty.sees_writes() {
                tracker.shorten(index, page)
            } else {
                tracker.copy(page).expect("comparing gets every copy that it needs")
            };
            let quiet = None;
            tracker.known.push(Known { index, was, quiet });
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
            at += self.known[at..].partition_point(|known| known.index < index);
            self.collect_page(page(span, index), index, at, out, &mut cold);
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
        for at in 0..self.known.len() {
            let Known { index, was, quiet } = &self.known[at];
            let page = page(span, *index);
            if quiet.is_some() && self.is(was, *index, page) {
                cold.push(*index);
                self.cool(at, page);
            }
        }
        self.known
            .retain(|known| known.quiet.is_some() || !matches!(known.was, Was::Base));
        self.known.shrink_to_fit();
        self.found = Vec::new();
        self.arm_pages(span, &cold)
    }

    /// How many pages are hot.
    pub fn hot_pages(&self) -> usize {
        self.known.iter().filter(|known| known.quiet.is_some()).count()
    }

    /// One page that may have changed; what is known of it is at place `at`, if anything.
    fn collect_page(&mut self, now: &Page, index: u32, at: usize, out: &mut Patches, cold: &mut Vec<u32>) {
        let sees_writes = self.tracking.dirty.sees_writes();
        if self.known.get(at).is_none_or(|known| known.index != index) {
            let changed = out.push_changes(index, self.base.page(index), now);
            if changed || sees_writes {
                let (was, quiet) = (Was::Base, None);
                self.known.insert(at, Known { index, was, quiet });
                self.follow(at, now, changed, cold);
            }
            return;
        }
        let changed = match &self.known[at].was {
            Was::Base => out.push_changes(index, self.base.page(index), now),
            Was::Copy(copy) => out.push_changes(index, copy, now),
            Was::Short(patch) => out.push_changes(index, &self.patched(index, patch), now),
            Was::Unknown => {
                out.push_whole(index, now);
                true
            }
        };
        self.follow(at, now, changed, cold);
    }

    /// Decides how a page that was just collected is followed from here.
    fn follow(&mut self, at: usize, now: &Page, changed: bool, cold: &mut Vec<u32>) {
        let Known { index, quiet, .. } = self.known[at];
        if !changed {
            let quiet = quiet.map_or(0, |quiet| quiet.saturating_add(1));
            self.known[at].quiet = Some(quiet);
            if quiet >= self.tracking.quiet_commits && self.tracking.dirty.sees_writes() {
                cold.push(index);
                self.cool(at, now);
            }
            return;
        }
        if let Was::Copy(copy) = &mut self.known[at].was {
            **copy = *now;
            self.known[at].quiet = Some(0);
            return;
        }
        let mut was = self.shorten(index, now);
        if matches!(was, Was::Unknown) {
            was = self.copy(now).unwrap_or(Was::Unknown);
        }
        let is_cold = matches!(was, Was::Unknown);
        if is_cold {
            cold.push(index);
        }
        let quiet = (!is_cold).then_some(0);
        self.known[at] = Known { index, was, quiet };
    }

    /// Gives a page's copy up. The caller has it protected.
    fn cool(&mut self, at: usize, page: &Page) {
        let Known { index, was, .. } = &self.known[at];
        if matches!(was, Was::Copy(_)) {
            let was = self.shorten(*index, page);
            self.known[at].was = was;
            self.copies -= 1;
            self.tracking.return_copies(1);
        }
        self.known[at].quiet = None;
    }

    /// A copy, if there's room for one.
    fn copy(&mut self, page: &Page) -> Option<Was> {
        self.tracking.take_copy().then(|| {
            self.copies += 1;
            Was::Copy(Box::new(*page))
        })
    }

    /// The page as a difference from the base, if that's short.
    fn shorten(&self, index: u32, page: &Page) -> Was {
        let mut patch = Patches::new();
        if !patch.push_changes(0, self.base.page(index), page) {
            return Was::Base;
        }
        if patch.as_bytes().len() > SHORT {
            return Was::Unknown;
        }
        Was::Short(patch)
    }

    fn patched(&self, index: u32, patch: &Patches) -> Page {
        let mut page = *self.base.page(index);
        patch.apply(&mut page).expect("a patch of one page");
        page
    }

    /// Whether a page is what it was.
    fn is(&self, was: &Was, index: u32, page: &Page) -> bool {
        match was {
            Was::Base => page == self.base.page(index),
            Was::Short(patch) => *page == self.patched(index, patch),
            Was::Copy(copy) => **copy == *page,
            Was::Unknown => false,
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
