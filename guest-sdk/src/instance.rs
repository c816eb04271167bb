//! The one grain of a module's instance: its state, made at the first call.
//!
//! The same code runs behind the exported symbols and in the native tests' host.

use crate::saved::{SavedState, read_as_it_is};
use crate::{Context, Fault, Grain};

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

    /// The state as JSON; empty when there is none.
    ///
    /// # Errors
    /// When the state has no JSON form.
    pub fn save(&self) -> Result<Vec<u8>, Fault> {
        match &self.state {
            None => Ok(Vec::new()),
            Some(state) => serde_json::to_vec(state)
                .map_err(|error| Fault::state(format!("the state of `{}` has no JSON form: {error}", G::NAME))),
        }
    }

    /// Takes over what another revision saved, whose states had this version.
    ///
    /// # Errors
    /// When those bytes are no state of this revision, or by its migration's own word. There is no state then.
    pub fn load(&mut self, ctx: &Context, version: u32, saved: &[u8]) -> Result<(), Fault> {
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
