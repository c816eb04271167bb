//! Write a **grain**: a stateful function with a key, whose memory is its state.
//!
//! ```
//! use granary_sdk::prelude::*;
//!
//! /// One counter for each key.
//! #[derive(Default, Serialize, Deserialize)]
//! pub struct Counter {
//!     value: i64,
//! }
//!
//! #[grain]
//! impl Counter {
//!     /// Adds `n` and returns the new value.
//!     pub fn add(&mut self, n: i64) -> i64 {
//!         self.value += n;
//!         self.value
//!     }
//!
//!     #[read]
//!     pub fn get(&self) -> i64 {
//!         self.value
//!     }
//!
//!     /// Adds this counter's value to another one.
//!     pub fn mirror(&mut self, ctx: &Context, to: String) -> Result<i64, CallError> {
//!         ctx.grain::<Counter>(&to).add(self.value)
//!     }
//! }
//! granary_sdk::export!(Counter);
//!
//! # fn main() {
//! let host = granary_sdk::testing::Host::new().with::<Counter>();
//! assert_eq!(host.grain::<Counter>("alice").add(5), Ok(5));
//! assert_eq!(host.grain::<Counter>("alice").mirror("bob".into()), Ok(5));
//! # }
//! ```
//!
//! The parts, in the order in which a call meets them:
//!
//! 1. [`export!`] makes the symbols of `wit/`'s world `grain` (`bindings`, on wasm32 only).
//! 2. `instance` holds the one grain of a module's instance and makes its state at the first call.
//! 3. [`Grain`], which `#[grain]` implements, finds the method; `args` reads its arguments, `reply` writes its value.
//! 4. [`Context`] and [`Call`] call other grains; [`CallError`], [`GrainError`] say what went wrong.
//! 5. `saving` writes a state for another revision, in `form`; [`SavedState`] is what another revision left, and `instance` takes it over.
//! 6. [`describe`](mod@describe) tells a host at upload what there is to call.
//!
//! Natively there is no host: [`testing::Host`] stands in, so that a grain's crate is tested with `cargo test`.

// The macros name this crate by its own name, also in its own tests.
extern crate self as granary_sdk;

mod args;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
mod bytes;
mod call;
mod context;
pub mod describe;
mod error;
mod fault;
mod form;
mod grain;
mod instance;
mod records;
mod reply;
mod saved;
mod saving;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod typed;

pub use bytes::Bytes;
pub use call::{Call, CallList, RawCall};
pub use context::Context;
pub use error::{AnyError, CallError, CalleeError, GrainError, MethodError};
pub use fault::{Fault, FaultKind};
pub use grain::{Durability, Grain, Placement};
pub use saved::{SavedState, StateError};

#[doc(inline)]
pub use granary_sdk_macros::{grain, read};
pub use log;
pub use schemars;
pub use serde;
pub use serde_json;

/// Everything that a grain's source needs: `use granary_sdk::prelude::*;`.
///
/// `Serialize`, `Deserialize` and `JsonSchema` are serde's and schemars' traits with derives that need no other
/// dependency than this crate. They understand the same `#[serde(...)]` and `#[schemars(...)]` attributes.
pub mod prelude {
    pub use crate::log;
    pub use crate::{AnyError, Bytes, Call, CallError, Context, Grain, GrainError, SavedState, StateError};
    // Named here, these derives win over those of the same names that come with the traits.
    pub use granary_sdk_macros::{Deserialize, GrainError, JsonSchema, Serialize, grain, read};
    pub use traits::*;

    mod traits {
        pub use schemars::JsonSchema;
        pub use serde::{Deserialize, Serialize};
    }
}

/// What the macros' output names. Not for people: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::args::{Args, Param};
    pub use crate::call::CallTo;
    pub use crate::describe::{Description, Method};
    pub use crate::error::{guest_error, passed_on};
    pub use crate::grain::{Checked, Undocumented};
    pub use crate::instance::Instance;
    pub use crate::saved::{FromSaved, Migrated, migrate_older, migrate_one, migrate_other};
    pub use crate::typed::{Mistaken, NotSent, Required, Sent, SpelledOut, Typed, Value};
}

/// Exports one grain type from a module: the one line of a `cdylib` that makes symbols. `#[grain]` makes none.
///
/// A module has one grain type, so a crate that another guest depends on for its typed client must leave its own export
/// out of that guest's module: `#[cfg(feature = "export")] granary_sdk::export!(Counter);` with a default feature
/// `export`, which the other guest turns off. Two exports in one module are a linker error (`duplicate symbol`).
#[macro_export]
macro_rules! export {
    ($grain:ty) => {
        const _: () = {
            const fn is_a_grain<G: $crate::Grain>() {}
            is_a_grain::<$grain>();
        };
        #[cfg(target_arch = "wasm32")]
        $crate::__export!($grain);
    };
}
