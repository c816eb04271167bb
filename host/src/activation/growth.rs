//! Guests that ask for more memory while they run: they wait for room like a grain that comes into memory.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::Catalog;
use crate::wasm::{Growth, MemoryGate};

/// Asks the budget.
#[derive(Debug)]
pub(crate) struct Growing(Weak<Catalog>);

impl Growing {
    pub(crate) fn new(catalog: &Arc<Catalog>) -> Growing {
        Growing(Arc::downgrade(catalog))
    }
}

impl MemoryGate for Growing {
    fn grow(&self, bytes: u64) -> Growth {
        let catalog = self.0.upgrade();
        Box::pin(async move {
            let parts = catalog?.parts.clone();
            let charge = parts.budget.room(bytes, Instant::now() + parts.budget.patience()).await;
            if charge.is_none() {
                parts.metrics.growth_refusals.inc();
            }
            Some(Box::new(charge?) as _)
        })
    }

    fn must_stop(&self, len: u64) -> bool {
        let Some(catalog) = self.0.upgrade() else { return false };
        let must_stop = catalog.parts.budget.must_stop(len);
        if must_stop {
            catalog.parts.metrics.growth_refusals.inc();
        }
        must_stop
    }
}
