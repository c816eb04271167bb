//! What the types in a method's signature are, found by the types themselves: `#[grain]` sees words only, and a word may be an alias.
//!
//! The language's own rule decides: a method that a type has itself comes before one that a trait gives it. So an `Option` under any name
//! answers for itself, and all other types by the trait. Where a type is a mistake, the method that it gets can't be called, for a
//! reason that has a text for people.

use std::marker::PhantomData;

use schemars::generate::Contract;
use schemars::{JsonSchema, Schema};

use crate::describe::schema;

/// Stands for a type of which no value is at hand.
#[derive(Debug)]
pub struct Typed<T>(PhantomData<fn() -> T>);

impl<T> Typed<T> {
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Typed<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: JsonSchema> Typed<T> {
    /// The schema of a value that a grain reads.
    pub fn schema_read(&self) -> Schema {
        schema::<T>(Contract::Deserialize)
    }

    /// The schema of a value that a grain writes.
    pub fn schema_written(&self) -> Schema {
        schema::<T>(Contract::Serialize)
    }
}

/// Types without a schema, each of which is a mistake.
pub trait NotDescribed<T> {
    fn schema_read(&self) -> Schema
    where
        T: Described;

    fn schema_written(&self) -> Schema
    where
        T: Described;
}

/// Nothing implements this: it carries the text.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no JSON Schema, by which callers know what to send and what they get",
    label = "an argument or a result of a grain's method",
    note = "derive it: `#[derive(Serialize, Deserialize, JsonSchema)]`"
)]
pub trait Described {}

impl<T> NotDescribed<T> for Typed<T> {
    fn schema_read(&self) -> Schema
    where
        T: Described,
    {
        Schema::default()
    }

    fn schema_written(&self) -> Schema
    where
        T: Described,
    {
        Schema::default()
    }
}

impl<T> Typed<Option<T>> {
    /// An argument that is an `Option` may be left out.
    pub const fn is_required(&self) -> bool {
        false
    }
}

/// Arguments that must be given.
pub trait Required {
    fn is_required(&self) -> bool {
        true
    }
}

impl<T> Required for Typed<T> {}

impl<T, E> Typed<Result<T, E>> {
    /// `#[grain]` has taken this type for a value.
    pub const fn is_value(&self)
    where
        Result<T, E>: SpelledOut,
    {
    }
}

/// Nothing implements this: it carries the text.
#[diagnostic::on_unimplemented(
    message = "a method's `Result<T, E>` is written out: under another name its `Err` would go to callers as a value",
    label = "this is `{Self}`"
)]
pub trait SpelledOut {}

/// All types that are no `Result`.
pub trait Value {
    fn is_value(&self) {}
}

impl<T> Value for Typed<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    type Maybe = Option<u8>;

    #[test]
    fn an_option_under_another_name_may_be_left_out() {
        assert!(!Typed::<Maybe>::new().is_required());
        assert!(Typed::<u8>::new().is_required());
        assert!(Typed::<Vec<Option<u8>>>::new().is_required());
    }
}
