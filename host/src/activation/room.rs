//! Room for a grain that is about to come into memory.
//!
//! What a restore takes is known only once its stored state was read, which takes memory itself. So a restore begins with a small
//! charge; when the state turns out to need more than there is room for, everything is given back, and the restore waits for
//! that much and begins anew.
//!
//! **Not here:** the restore ([`restore`](super::restore)), how much there is ([`budget`](super::budget)).

use std::sync::Arc;

use granary_core::activation::Loaded;
use granary_core::api::{CallFailure, Code};
use granary_core::commit::Delta;
use granary_core::page::PAGE_SIZE;
use tokio::time::Instant;

use super::budget::Charge;
use super::driver::Driver;
use super::residence::Residence;
use super::restore::Origin;

/// Any grain takes this: its instance, a stack, the first pages that it touches.
pub(super) const INSTANCE_BYTES: u64 = 192 << 10;

impl Driver {
    /// Restores the grain once there is room for it.
    pub(super) async fn restore_in_room(self: &Arc<Self>) -> Result<(Residence, Loaded, Origin), CallFailure> {
        let parts = self.parts();
        let until = Instant::now() + parts.budget.patience();
        let mut need = INSTANCE_BYTES;
        loop {
            let Some(mut room) = parts.budget.room(need, until).await else {
                return Err(parts.budget.overloaded(need));
            };
            parts.metrics.loads.inc();
            let result = self.restore(self.kept(), &mut room).await;
            match room.wanted() {
                Some(wanted) if result.is_err() && wanted > need => need = wanted,
                _ => return result,
            }
        }
    }
}

/// Charges what the state `parts` takes, twice: as it was read, and as memory.
pub(super) fn charge(room: &mut Charge, parts: &[Delta]) -> Result<(), CallFailure> {
    let read: usize = parts.iter().map(|part| part.patches.as_bytes().len()).sum();
    let pages: usize = parts.iter().map(|part| part.patches.iter().count()).sum();
    let longest = parts.last().map_or(0, |last| last.memory_len);
    let bytes = read as u64 + longest.min((pages * PAGE_SIZE) as u64);
    if room.raise(INSTANCE_BYTES + bytes) {
        return Ok(());
    }
    Err(CallFailure::before(
        Code::Overloaded,
        format!("the host's memory budget has no room for the {bytes} bytes of the grain's state: ask again later"),
    ))
}
