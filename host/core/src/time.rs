//! Points in time, as arguments: core reads no clock.

use serde::{Deserialize, Serialize};

/// A point on this host's monotonic clock, in nanoseconds since the host started. Deadlines and idle times use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The point `nanos` later; the last representable point when that would overflow.
    pub fn plus_nanos(self, nanos: u64) -> Time {
        Time(self.0.saturating_add(nanos))
    }

    /// Nanoseconds from `earlier` to here; 0 when `earlier` is later.
    pub fn nanos_since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since 1970 by this host's wall clock. Stored with replies; may jump, so nothing but expiry hangs on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallMillis(pub u64);
