//! The thread that writes groups, one at a time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use granary_core::id::Lsn;

use super::company::Patience;
use super::group::Written;
use super::{Shared, State, UNPOISONED, WriterWaits};

/// The longest buffer that is kept for the next group: a burst must not hold its memory for ever.
const BUFFER_LIMIT: usize = 4 << 20;

/// Writes until the log stops or the disk fails.
pub(super) fn run(shared: &Shared) {
    let mut patience = Patience::new(std::thread::available_parallelism().map_or(1, usize::from));
    while let Some(group) = next_group(shared, &mut patience) {
        if shared.report_before_sync {
            report(shared, group.last_lsn);
        }
        if let Err(error) = write(shared, &group) {
            let path = group.segment.path();
            shared.die(&format!("writing the commit log to {path} failed: {error}"));
            return;
        }
        publish(shared, group);
    }
}

/// Waits for records, and for others to join them, and takes them.
fn next_group(shared: &Shared, patience: &mut Patience) -> Option<Arc<Written>> {
    let mut state = shared.lock();
    loop {
        // One behind which there is another gets no more records.
        let is_last = state.groups.len() == 1 && !state.stopping;
        let open = state.groups.front().filter(|_| is_last);
        let wait = open.and_then(|group| patience.wait(Instant::now(), group.size(), shared.in_flight()));
        if let Some(left) = wait {
            state.writer_waits = WriterWaits::ForCompany;
            (state, _) = shared.work.wait_timeout(state, left).expect(UNPOISONED);
            state.writer_waits = WriterWaits::Not;
            continue;
        }
        if let Some(group) = state.groups.pop_front() {
            // In the same critical section: a reader finds the records either waiting or being written.
            let group = Arc::new(group.finish());
            state.writing = Some(Arc::clone(&group));
            return Some(group);
        }
        if state.stopping {
            return None;
        }
        state.writer_waits = WriterWaits::ForRecords;
        state = shared.work.wait(state).expect(UNPOISONED);
        state.writer_waits = WriterWaits::Not;
    }
}

fn write(shared: &Shared, group: &Written) -> io::Result<()> {
    let segment = &group.segment;
    segment.prepare(&*shared.files, &shared.register)?;
    let file = segment.file().expect("just prepared");
    file.write_at(&group.bytes, group.offset)?;
    file.sync()
}

/// Takes the group out of the readers' sight and reports it.
fn publish(shared: &Shared, group: Arc<Written>) {
    let upto = group.last_lsn;
    let records = group.bytes.len() - super::GROUP_HEADER_LEN;
    let mut state = shared.lock();
    state.writing = None;
    keep_buffer(&mut state, group);
    // Before the lock is released: who waits for this place looks at it under the lock.
    shared.durable.store(upto.0, Ordering::Release);
    drop(state);
    shared.pending_bytes.fetch_sub(records, Ordering::Relaxed);
    shared.groups.fetch_add(1, Ordering::Relaxed);
    shared.progress.notify_all();
    report(shared, upto);
}

fn keep_buffer(state: &mut State, group: Arc<Written>) {
    if let Some(group) = Arc::into_inner(group)
        && group.bytes.capacity() <= BUFFER_LIMIT
        && state.buffer.capacity() == 0
    {
        state.buffer = group.bytes;
    }
}

fn report(shared: &Shared, upto: Lsn) {
    if let Some(sink) = shared.sink.get() {
        sink.durable(upto);
    }
}
