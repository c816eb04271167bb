//! `#[grain]`, and derives that need no other dependency than `granary-sdk`.
//!
//! `#[grain]`: `options` reads what stands in its brackets, `parse` the `impl` block, `signature` each
//! function of it with its `types`, and all of them say what's wrong; `expand` writes the dispatcher and the description, `client` the typed client. None of it makes an exported
//! symbol: that's `granary_sdk::export!`.
//!
//! The derives: `delegate` for serde and schemars, `error` for `GrainError`.

mod client;
mod delegate;
mod docs;
mod error;
mod expand;
mod options;
mod parse;
mod signature;
#[cfg(test)]
mod tests;
mod types;

use proc_macro::TokenStream;

/// Makes a grain type of a struct, on an `impl` block of it.
///
/// Every `pub fn` with a `self` is a method of the grain; everything else in the block stays a plain function.
///
/// - `#[grain(name = "chat-room")]`: the grain type's name; default: the type's name in kebab-case.
/// - `#[grain(durability = "relaxed")]`: `"committed"` (default), `"relaxed"` or `"volatile"`.
/// - `#[grain(placement = "balanced")]`: on which of the hosts that keep its copies a grain is activated: `"primary"` (default: the
///   first that answers), `"prefer-local"` (where the first call comes in), `"random"` or `"balanced"` (the less loaded of two).
/// - `#[grain(version = 2)]`: the state's version; default 1.
/// - `#[grain(version = 2, migrate = Self::migrate)]`: makes the state of one that an older version saved. The function
///   takes the type that the state had in the version before, or a `SavedState` of any older version, and returns
///   `Self` or `Result<Self, E>`. `migrate(1 => from_v1, 2 => from_v2)` names one for each version.
///
/// On methods: [`#[read]`](macro@read), and `#[check]` on the one that says whether a loaded state is good.
/// `fn activate(ctx: &Context) -> Self` (or `-> Result<Self, E>`) makes a new grain's state instead of `Default`.
#[proc_macro_attribute]
pub fn grain(options: TokenStream, block: TokenStream) -> TokenStream {
    expand::grain(options.into(), block.into()).into()
}

/// On a method inside a `#[grain]` block: it takes `&self`, changes nothing, commits nothing, and answers to `GET`.
///
/// What it changes behind `&self` (a `Cell`, a library's own random number generator) is kept only if a later turn commits, and else
/// comes again after a restart. Numbers that must not repeat come from the host: `getrandom`.
#[proc_macro_attribute]
pub fn read(_: TokenStream, item: TokenStream) -> TokenStream {
    expand::stray_read(item.into()).into()
}

/// serde's `Serialize`, for a crate that depends on `granary-sdk` alone. Takes serde's attributes.
#[proc_macro_derive(Serialize, attributes(serde))]
pub fn serialize(item: TokenStream) -> TokenStream {
    delegate::derive(item.into(), delegate::serialize).into()
}

/// serde's `Deserialize`, for a crate that depends on `granary-sdk` alone. Takes serde's attributes.
#[proc_macro_derive(Deserialize, attributes(serde))]
pub fn deserialize(item: TokenStream) -> TokenStream {
    delegate::derive(item.into(), delegate::deserialize).into()
}

/// schemars' `JsonSchema`, for a crate that depends on `granary-sdk` alone. Takes schemars' and serde's attributes.
#[proc_macro_derive(JsonSchema, attributes(schemars, serde))]
pub fn json_schema(item: TokenStream) -> TokenStream {
    delegate::derive(item.into(), delegate::json_schema).into()
}

/// An error that a grain's methods return on purpose: see `granary_sdk::GrainError`.
///
/// - `#[status(409)]` on a variant, or on the type for all of them: the HTTP status, 400 to 599.
/// - `#[from]` on a variant that holds a `CallError` or another `GrainError`: `?` works, and the failure is passed on.
/// - A variant's doc comment is its sentence for people.
#[proc_macro_derive(GrainError, attributes(status, from))]
pub fn grain_error(item: TokenStream) -> TokenStream {
    error::derive(item.into()).into()
}
