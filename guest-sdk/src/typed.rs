//! What the types in a method's signature are, found by the types themselves: `#[grain]` sees words only, and a word may be an alias.
//!
//! The language's own rule decides: a method that a type has itself comes before one that a trait gives it. So an `Option` under any name
//! answers for itself, and all other types by the trait. Where a type is a mistake, the method that it gets can't be called, for a
//! reason that has a text for people.

use std::marker::PhantomData;

use schemars::generate::Contract;
use schemars::{JsonSchema, Schema};
use serde::{Serialize, de::DeserializeOwned};

use crate::args::Args;
use crate::call::CallTo;
use crate::describe::schema;
use crate::{Call, CallError, CalleeError, Context, Fault, MethodError, reply};

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

impl<T: JsonSchema + Serialize + DeserializeOwned> Typed<T> {
    /// The schema of a value that a grain reads.
    pub fn schema_read(&self) -> Schema {
        schema::<T>(Contract::Deserialize)
    }

    /// The schema of a value that a grain writes.
    pub fn schema_written(&self) -> Schema {
        schema::<T>(Contract::Serialize)
    }
}

impl<T: DeserializeOwned> Typed<T> {
    /// The next argument.
    ///
    /// # Errors
    /// As [`Args::take`].
    pub fn take<const N: usize>(&self, args: &mut Args<'_, N>) -> Result<T, Fault> {
        args.take()
    }

    /// Makes a call.
    ///
    /// # Errors
    /// As [`Context::run`].
    pub fn run<E: CalleeError>(&self, ctx: &Context, call: Call<T, E>) -> Result<T, CallError<E>> {
        ctx.run(call)
    }
}

impl<T: Serialize> Typed<T> {
    /// A method's value as JSON.
    ///
    /// # Errors
    /// Never.
    pub fn reply(&self, method: &str, value: &T) -> Result<Vec<u8>, Fault> {
        reply::reply(method, value)
    }

    /// A call with these arguments.
    pub fn call<R, E>(&self, to: &CallTo, method: &str, args: &T) -> Call<R, E> {
        to.call(method, args)
    }
}

impl<T: Serialize, E: MethodError> Typed<Result<T, E>> {
    /// A method's `Result` as JSON.
    ///
    /// # Errors
    /// The method's own.
    pub fn reply_result(&self, method: &str, result: Result<T, E>) -> Result<Vec<u8>, Fault> {
        reply::reply_result(method, result)
    }
}

/// Types that can't be sent, each of which is a mistake.
pub trait NotSent<T> {
    fn schema_read(&self) -> Schema
    where
        T: Sent;

    fn schema_written(&self) -> Schema
    where
        T: Sent;
}

/// Nothing implements this: it carries the text.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an argument or a result of a grain's method",
    label = "this lacks `Serialize`, `Deserialize` or `JsonSchema`",
    note = "derive them: `#[derive(Serialize, Deserialize, JsonSchema)]`"
)]
pub trait Sent {}

impl<T> NotSent<T> for Typed<T> {
    fn schema_read(&self) -> Schema
    where
        T: Sent,
    {
        Schema::default()
    }

    fn schema_written(&self) -> Schema
    where
        T: Sent,
    {
        Schema::default()
    }
}

/// The same for types that can't be sent, without a word: [`NotSent`] has said it.
pub trait Mistaken<T> {
    fn take<const N: usize>(&self, _: &mut Args<'_, N>) -> Result<T, Fault> {
        unreachable!("this isn't compiled")
    }

    fn run<E>(&self, _: &Context, _: Call<T, E>) -> Result<T, CallError<E>> {
        unreachable!("this isn't compiled")
    }

    fn reply(&self, _: &str, _: &T) -> Result<Vec<u8>, Fault> {
        unreachable!("this isn't compiled")
    }

    fn call<R, E>(&self, _: &CallTo, _: &str, _: &T) -> Call<R, E> {
        unreachable!("this isn't compiled")
    }

    fn reply_result(&self, _: &str, _: T) -> Result<Vec<u8>, Fault> {
        unreachable!("this isn't compiled")
    }
}

impl<T> Mistaken<T> for Typed<T> {}

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
