//! What `#[grain]` makes of a type: its name, its dispatcher and its clients.
//!
//! Nothing here runs a turn or holds a state: that's `instance`.

use serde::{Serialize, de::DeserializeOwned};

use crate::saved::{self, SavedState};
use crate::{Context, Fault, MethodError, describe::Description};

/// When a reply may leave, seen from the state that it speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Once what the turn changed is durable. Nothing that was acknowledged is ever lost.
    Committed,
    /// At once; what the turn changed is durable within 100 ms.
    Relaxed,
    /// At once; the state lives in memory only and a crash loses it.
    Volatile,
}

/// On which of the hosts that keep its copies a grain is activated when somebody calls it. A host alone has no choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// On the first of them that answers: found without asking a third.
    #[default]
    Primary,
    /// On the host where the first call comes in, if it's one of them: for grains that are called from one place.
    PreferLocal,
    /// On any of them.
    Random,
    /// On the less loaded of two of them: for few, busy grains.
    Balanced,
}

/// A grain type. Implemented by `#[grain]` on an `impl` block, not by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no grain",
    label = "put `#[grain]` on an `impl {Self}` block",
    note = "a grain's type also derives `Serialize` and `Deserialize`: that's how its state passes to a new revision"
)]
pub trait Grain: Serialize + DeserializeOwned + 'static {
    /// The grain type's name: `[a-z][a-z0-9-]{0,62}`.
    const NAME: &'static str;
    /// The state's version, handed to whichever revision loads the state later.
    const VERSION: u32;
    /// What a reply of this type promises.
    const DURABILITY: Durability;
    /// Where its grains are activated.
    const PLACEMENT: Placement = Placement::Primary;

    /// Calls a grain of this type and waits: one method for each method of the grain.
    type Client<'c>;
    /// Prepares calls of a grain of this type for [`Context::all`].
    type Calls;

    /// The client that [`Context::grain`] hands out.
    fn client(ctx: &Context, key: String) -> Self::Client<'_>;

    /// The prepared calls that [`Context::prepare`] hands out.
    fn calls(key: String) -> Self::Calls;

    /// What there is to call, with schemas.
    fn describe() -> Description;

    /// The state of a grain that has never been called: `activate(ctx)` if the type has it, else `Default`.
    ///
    /// # Errors
    /// `activate`'s own error; the grain then has no state and the next call tries again.
    fn activate_first(ctx: &Context) -> Result<Self, Fault>;

    /// Runs one method. `args` is a JSON array by position, the result one JSON value.
    ///
    /// # Errors
    /// [`Fault`] with the reason; what the method changed before its own error stands.
    fn dispatch(&mut self, ctx: &Context, method: &str, args: &[u8]) -> Result<Vec<u8>, Fault>;

    /// The state made of one that another version saved: by `migrate`, else as it is, fields by their names.
    ///
    /// # Errors
    /// When there is no way from that version, or by the migration's own word. The grain stays on its old revision.
    fn migrate_saved(saved: SavedState) -> Result<Self, Fault> {
        saved::read_as_it_is(&saved)
    }

    /// Whether a state that another revision saved is one to go on with: the method marked `#[check]`.
    ///
    /// # Errors
    /// That method's error. The grain stays on its old revision.
    fn check_loaded(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// What a `#[check]` method may return.
#[doc(hidden)]
pub trait Checked {
    fn checked(self) -> Result<(), Fault>;
}

impl<E: MethodError> Checked for Result<(), E> {
    fn checked(self) -> Result<(), Fault> {
        self.map_err(|error| error.fault())
    }
}

/// Gives every type an empty doc text. The prelude's `Serialize` derive sees the doc comment on a struct, which
/// `#[grain]` on an `impl` block cannot, and leaves it as an inherent constant of the same name, which wins over this.
#[doc(hidden)]
pub trait Undocumented {
    const GRANARY_DOC: &'static str = "";
}

impl<T> Undocumented for T {}
