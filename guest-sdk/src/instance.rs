//! The one grain of a module's instance: its state, made at the first call.
//!
//! The same code runs behind the exported symbols and in the native tests' host.

use crate::saved::{SavedState, read_as_it_is};
use crate::{Context, Fault, Grain, saving};

/// A grain's state, or none yet.
#[derive(Debug)]
pub struct Instance<G> {
    state: Option<G>,
}

impl<G> Instance<G> {
    /// Before the first call.
    pub const fn new() -> Self {
        Self { state: None }
    }

    /// Whether there is a state: false before the first call and after a failed `activate`.
    pub const fn is_made(&self) -> bool {
        self.state.is_some()
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) const fn state(&self) -> Option<&G> {
        self.state.as_ref()
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn into_state(self) -> Option<G> {
        self.state
    }
}

impl<G> Default for Instance<G> {
    fn default() -> Self {
        Self::new()
    }
}

impl<G: Grain> Instance<G> {
    /// Runs one method and makes the state before if there is none.
    ///
    /// # Errors
    /// As [`Grain::dispatch`], and `activate`'s.
    pub fn call(&mut self, ctx: &Context, method: &str, args: &[u8]) -> Result<Vec<u8>, Fault> {
        let state = match &mut self.state {
            Some(state) => state,
            none => none.insert(G::activate_first(ctx)?),
        };
        state.dispatch(ctx, method, args)
    }

    /// The state as JSON, for a revision that reads nothing else; empty when there is none.
    ///
    /// # Errors
    /// When JSON can't say all of it.
    pub fn save(&self) -> Result<Vec<u8>, Fault> {
        self.state.as_ref().map_or(Ok(Vec::new()), saving::json)
    }

    /// The state in the form that loses nothing; empty when there is none.
    ///
    /// # Errors
    /// When its type doesn't read back what it writes.
    pub fn save_exactly(&self) -> Result<Vec<u8>, Fault> {
        self.state.as_ref().map_or(Ok(Vec::new()), saving::form)
    }

    /// Takes over what another revision saved in either form, whose states had this version.
    ///
    /// # Errors
    /// When those bytes are no state of this revision, or by its migration's own word. There is no state then.
    pub fn load(&mut self, ctx: &Context, version: u32, saved: impl Into<Vec<u8>>) -> Result<(), Fault> {
        let saved = saved.into();
        self.state = None;
        if saved.is_empty() {
            return Ok(());
        }
        let saved = SavedState::new(version, ctx.key(), saved);
        let state = if version == G::VERSION {
            read_as_it_is(&saved)?
        } else {
            G::migrate_saved(saved)?
        };
        self.state = Some(state);
        Ok(())
    }

    /// Asks the grain whether it can go on with what it loaded.
    ///
    /// # Errors
    /// The grain's own objection.
    pub fn check(&self) -> Result<(), Fault> {
        self.state.as_ref().map_or(Ok(()), G::check_loaded)
    }
}
