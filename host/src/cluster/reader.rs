//! The thread that reads grains' whole states for other hosts, so that the office never waits for a disk.
//!
//! One state at a time: the next is read when the office has taken the last, so that however many are asked for, one is in memory.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};

use granary_core::id::GrainName;
use granary_core::replication::messages::State;

use super::copies::state_of;
use super::notes::Note;
use crate::storage::Storage;
use crate::threads;

/// See the file's text. The thread ends when this is dropped.
pub(super) struct Reader {
    wanted: Sender<GrainName>,
}

impl Reader {
    /// Starts the thread, which tells what it has read as [`Note::Loaded`].
    pub(super) fn start(storage: Arc<dyn Storage>, told: Sender<Note>) -> io::Result<Reader> {
        let (wanted, names) = channel::<GrainName>();
        threads::start("cluster-reads", move || {
            for name in names {
                let (taken, is_taken) = sync_channel(0);
                let (grain, state) = (name.id(), read(&*storage, &name));
                if told.send(Note::Loaded { grain, state, taken }).is_err() {
                    return;
                }
                // It's dropped when the note is taken.
                let _ = is_taken.recv();
            }
        })?;
        Ok(Reader { wanted })
    }

    /// Has a grain's state read.
    pub(super) fn read(&self, name: GrainName) {
        // The thread ends only after this.
        let _ = self.wanted.send(name);
    }
}

fn read(storage: &dyn Storage, name: &GrainName) -> Option<State> {
    match storage.load(name) {
        Ok(stored) => stored.map(|stored| state_of(name, &stored)),
        Err(error) => {
            tracing::error!(grain = %name, %error, "a copy of a grain can't be read");
            None
        }
    }
}
