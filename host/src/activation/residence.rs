//! A grain's instance with what tracks its memory.
//!
//! **Not here:** when it's made and dropped (the driver).

use std::sync::Arc;

use granary_core::api::{CallFailure, Code};
use granary_core::commit::Delta;
use granary_core::id::GrainName;
use granary_core::page::Patches;

use super::Parts;
use crate::modules::Deployment;
use crate::snapshot::Tracker;
use crate::wasm::{Instance, StartError};

pub(super) struct Residence {
    pub(super) instance: Instance,
    tracker: Tracker,
    pub(super) deployment: Arc<Deployment>,
    /// No turn has run since it was put to rest.
    pub(super) is_resting: bool,
}

impl Residence {
    /// An instance in the state that `deltas` make of the module's base image.
    pub(super) fn start(parts: &Parts, deployment: Arc<Deployment>, deltas: &[Delta]) -> Result<Residence, StartError> {
        let module = deployment.code();
        let mut instance = Instance::start(&parts.engine, module, deltas)?;
        let tracker = Tracker::arm(&parts.tracking, &instance.span(), module.base(), deltas)
            .map_err(|error| StartError::Host(format!("its memory can't be tracked: {error}")))?;
        Ok(Residence {
            instance,
            tracker,
            deployment,
            is_resting: false,
        })
    }

    /// What changed since the last time, or since the start. After an error the residence must be dropped.
    pub(super) fn take_delta(&mut self) -> std::io::Result<Delta> {
        let mut patches = Patches::new();
        self.tracker.collect(&self.instance.span(), &mut patches)?;
        Ok(Delta {
            memory_len: self.instance.memory_len(),
            globals: self.instance.globals(),
            patches,
        })
    }

    /// Gives back what only turns need. Free to call again.
    pub(super) fn rest(&mut self) -> std::io::Result<()> {
        if !self.is_resting {
            self.tracker.rest(&self.instance.span())?;
            self.instance.rest();
            self.is_resting = true;
        }
        Ok(())
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.instance.memory_len()
    }
}

/// Why there's no instance, as a caller hears of it.
pub(super) fn start_failure(grain: &GrainName, error: &StartError) -> CallFailure {
    match error {
        StartError::Overloaded { .. } => CallFailure::before(Code::Overloaded, error.to_string()),
        StartError::State(_) | StartError::Host(_) => {
            tracing::error!(%grain, %error, "a grain's instance can't be made");
            CallFailure::before(
                Code::Internal,
                "the grain can't be brought into memory; the host's log says why",
            )
        }
    }
}
