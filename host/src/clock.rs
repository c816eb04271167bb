//! This host's clocks, the one place that reads them for the machines.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use granary_core::time::{Time, WallMillis};

/// Counts from the host's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// The wall clock then.
    began: WallMillis,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Clock {
        Clock {
            started: Instant::now(),
            began: wall(),
        }
    }

    /// Now, on the monotonic clock.
    pub(crate) fn time(&self) -> Time {
        Time(self.started.elapsed().as_nanos() as u64)
    }

    /// Now, as the wall clock would be had nobody set it since the host's start. What stored replies are dated with: a jump of the
    /// wall clock must not make one look old, or the call that it belongs to would take effect a second time.
    pub(crate) fn unset_wall(&self) -> WallMillis {
        WallMillis(self.began.0 + self.started.elapsed().as_millis() as u64)
    }
}

/// Now, on the wall clock. 0 when that is set to before 1970.
pub(crate) fn wall() -> WallMillis {
    WallMillis(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64),
    )
}
