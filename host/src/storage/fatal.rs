//! How storage ends the process.
//!
//! After a failed sync nobody knows what the page cache and the disk hold, and trying again reports success for bytes that
//! are gone (Rebello et al., "Can Applications Recover from fsync Failures?", 2020). A commit on one host can't fail, so there
//! is no one to tell either: the process ends, and the next start reads from the disk what is really there.

use std::sync::Arc;

use crate::threads;

/// Ends the process, saying why. In tests it returns; then the caller stops without reporting anything as done.
pub(crate) type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

/// Logs the reason and exits.
pub(crate) fn end_process() -> Fatal {
    Arc::new(|reason| {
        tracing::error!(
            reason,
            "storage failed: the host stops, since what it wrote last may not be on the disk"
        );
        threads::end_process();
    })
}
