//! Panics on threads that nobody joins in time: sled's own, and those of the log and the checkpointer.
//!
//! Such a thread's end would leave a host that answers and stores nothing. So once a store serves, a panic on one of them ends
//! the process, like a failed disk; the next start finds out what is on the disk. Before that, it's damage that was found.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::fatal::end_process;

/// How the names of these threads start: sled's, then storage's own.
const THREADS: [&str; 5] = ["sled-", "checkpointer", "log-writer", "log-spares", "disk-room"];

static SEEN: AtomicU64 = AtomicU64::new(0);
static SERVING: AtomicU64 = AtomicU64::new(0);

/// How many such panics there were in this process.
pub(crate) fn seen() -> u64 {
    SEEN.load(Ordering::SeqCst)
}

/// Watches; repeatable.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            if THREADS.iter().any(|start| name.starts_with(start)) {
                SEEN.fetch_add(1, Ordering::SeqCst);
                // Tests damage stores on purpose, many in one process.
                if !cfg!(test) && SERVING.load(Ordering::SeqCst) > 0 {
                    end_process()(&format!("the thread {name} stopped: {info}"));
                }
            }
        }));
    });
}

/// While it lives, such a panic ends the process.
pub(crate) struct Serving(());

impl Serving {
    pub(crate) fn begin() -> Serving {
        SERVING.fetch_add(1, Ordering::SeqCst);
        Serving(())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        SERVING.fetch_sub(1, Ordering::SeqCst);
    }
}
