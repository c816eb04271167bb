//! Keeps a prepared segment at hand, so that neither an append nor the writer waits for 16 MiB of zeros.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use granary_core::id::Lsn;

use super::format::Incarnation;
use super::segment::Segment;
use super::{Shared, State, UNPOISONED};

/// How long a failed try is followed by none: the disk may be full, and the reserve refuses commits until it isn't.
const RETRY: Duration = Duration::from_secs(1);

/// Prepares segments until the log stops.
pub(super) fn run(shared: &Shared) {
    let mut state = shared.lock();
    while !state.stopping {
        if !state.free.is_empty() {
            state = shared.taken.wait(state).expect(UNPOISONED);
            continue;
        }
        drop(state);
        let made = shared.make_spare();
        state = shared.lock();
        if let Err(error) = made {
            tracing::warn!(%error, "no spare log segment could be made, will try again");
            if !state.stopping {
                state = shared.taken.wait_timeout(state, RETRY).expect(UNPOISONED).0;
            }
        }
    }
}

impl Shared {
    /// Makes a new segment file and puts it behind the free ones.
    fn make_spare(&self) -> io::Result<()> {
        let segment = {
            let mut state = self.lock();
            state.plan(self, u64::from(self.segment_bytes))
        };
        segment.prepare(&*self.files, &self.register)?;
        self.lock().free.push_back(segment);
        Ok(())
    }

    /// Readies a freed segment for its next use. One of an odd length is removed.
    pub(super) fn recycle(&self, segment: &Segment) -> io::Result<()> {
        if segment.header.file_len != u64::from(self.segment_bytes) {
            self.keep_floor()?;
            self.register.strike(segment.number())?;
            self.files.remove(&segment.path())?;
            return self.files.sync_dir(super::segment::LOG_DIR);
        }
        let next = self.lock().next_use(self, segment);
        next.prepare(&*self.files, &self.register)?;
        self.lock().free.push_back(Arc::new(next));
        Ok(())
    }

    /// Sees to it that an empty log remembers how far places have been given out.
    fn keep_floor(&self) -> io::Result<()> {
        let renewed = {
            let mut state = self.lock();
            if !state.live.is_empty() {
                return Ok(());
            }
            state.free.pop_front().map(|segment| state.next_use(self, &segment))
        };
        let Some(segment) = renewed else {
            return self.make_spare();
        };
        segment.prepare(&*self.files, &self.register)?;
        self.lock().free.push_back(Arc::new(segment));
        Ok(())
    }

    /// Every record to come has at least this place, whatever a crash takes: it never rises above one that may be lost.
    fn lsn_floor(&self) -> Lsn {
        Lsn(self.durable.load(std::sync::atomic::Ordering::Acquire) + 1)
    }
}

impl State {
    /// A segment that has no file yet.
    pub(super) fn plan(&mut self, shared: &Shared, file_len: u64) -> Arc<Segment> {
        let number = self.next_file;
        self.next_file += 1;
        let header = shared
            .nonces
            .header(self.take_incarnation(), shared.lsn_floor(), file_len);
        Arc::new(Segment::planned(number, header))
    }

    /// The next use of `segment`'s file, not prepared yet.
    fn next_use(&mut self, shared: &Shared, segment: &Segment) -> Segment {
        let file_len = segment.header.file_len;
        segment.next_use(
            shared
                .nonces
                .header(self.take_incarnation(), shared.lsn_floor(), file_len),
        )
    }

    /// The free segment to use next, if there is one. Segments are used in the order of their incarnations: one that was
    /// prepared before another was planned in a hurry gets a newer incarnation, which the writer has to put onto the disk.
    pub(super) fn take_free(&mut self, shared: &Shared) -> Option<Arc<Segment>> {
        let segment = self.free.pop_front()?;
        if segment.incarnation() > self.newest {
            return Some(segment);
        }
        Some(Arc::new(self.next_use(shared, &segment)))
    }

    fn take_incarnation(&mut self) -> Incarnation {
        self.next_incarnation += 1;
        self.next_incarnation - 1
    }
}
