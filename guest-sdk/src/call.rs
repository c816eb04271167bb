//! Calls of other grains: prepared ones, raw ones, and how a reply is read.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

use crate::{AnyError, CallError, CalleeError, Context, Grain};

/// A call as `wit/`'s `calls.call` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawCall {
    /// The callee's grain type.
    pub grain_type: String,
    /// The callee's key.
    pub key: String,
    /// The method's name.
    pub method: String,
    /// A UTF-8 JSON array with one value for each parameter.
    pub args: Vec<u8>,
}

/// Why a call gave no value, before anybody has read the callee's error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) error: Option<Vec<u8>>,
}

impl Failure {
    pub(crate) fn read<E: CalleeError>(self) -> CallError<E> {
        let Self { code, message, error } = self;
        if code != CallError::<E>::GUEST_ERROR {
            return CallError::Failed { code, message };
        }
        let json = error.as_deref().unwrap_or(b"null");
        match E::read(json, &message) {
            Ok(error) => CallError::Guest(error),
            Err(unreadable) => CallError::bad_reply(format!(
                "the callee's error is not of the type that this grain was built with ({unreadable}): {message}"
            )),
        }
    }
}

/// A call that has been prepared but not made: [`Context::prepare`] makes it of a typed client's method,
/// [`Context::all`] runs many at the same time.
#[derive(Debug, Clone)]
#[must_use = "a prepared call does nothing until `ctx.all` or `ctx.run` makes it"]
pub struct Call<T, E = AnyError> {
    /// The text says why the arguments have no JSON form.
    call: Result<RawCall, String>,
    reply: PhantomData<fn() -> Result<T, E>>,
}

impl<T, E> Call<T, E> {
    /// A call by names, with `args` being anything that serialises to a JSON array: a tuple, a `Vec`.
    pub fn new(grain_type: &str, key: &str, method: &str, args: &(impl Serialize + ?Sized)) -> Self {
        let call = serde_json::to_vec(args)
            .map(|args| RawCall {
                grain_type: grain_type.to_owned(),
                key: key.to_owned(),
                method: method.to_owned(),
                args,
            })
            .map_err(|error| format!("an argument of `{method}` has no JSON form: {error}"));
        Self {
            call,
            reply: PhantomData,
        }
    }

    /// The same call with its reply and error read as any JSON, so that calls of different types fit into one list.
    pub fn untyped(self) -> Call<serde_json::Value> {
        Call {
            call: self.call,
            reply: PhantomData,
        }
    }
}

impl<T, E> From<RawCall> for Call<T, E> {
    fn from(call: RawCall) -> Self {
        Self {
            call: Ok(call),
            reply: PhantomData,
        }
    }
}

impl<T: DeserializeOwned, E: CalleeError> Call<T, E> {
    pub(crate) fn run(self, ctx: &Context) -> Result<T, CallError<E>> {
        let call = self.call.map_err(CallError::bad_arguments)?;
        Self::read(ctx.invoke(call))
    }

    fn read(reply: Result<Vec<u8>, Failure>) -> Result<T, CallError<E>> {
        let json = reply.map_err(Failure::read)?;
        serde_json::from_slice(&json).map_err(|error| {
            CallError::bad_reply(format!(
                "the callee's value is not of the type that this grain was built with: {error}"
            ))
        })
    }
}

/// What [`Context::all`] takes: an array, a `Vec`, or a tuple of two to four calls.
pub trait CallList {
    /// The replies in the same shape.
    type Replies;

    #[doc(hidden)]
    fn run(self, ctx: &Context) -> Self::Replies;
}

impl<T: DeserializeOwned, E: CalleeError> CallList for Vec<Call<T, E>> {
    type Replies = Vec<Result<T, CallError<E>>>;

    fn run(self, ctx: &Context) -> Self::Replies {
        let mut replies = invoke_all(ctx, self.into_iter().map(|call| call.call)).into_iter();
        std::iter::from_fn(|| replies.next().map(read_reply)).collect()
    }
}

impl<T: DeserializeOwned, E: CalleeError, const N: usize> CallList for [Call<T, E>; N] {
    type Replies = [Result<T, CallError<E>>; N];

    fn run(self, ctx: &Context) -> Self::Replies {
        let mut replies = invoke_all(ctx, self.into_iter().map(|call| call.call)).into_iter();
        std::array::from_fn(|_| read_next(&mut replies))
    }
}

macro_rules! tuples {
    ($($call:ident: $value:ident / $error:ident),+) => {
        impl<$($value: DeserializeOwned, $error: CalleeError),+> CallList for ($(Call<$value, $error>,)+) {
            type Replies = ($(Result<$value, CallError<$error>>,)+);

            fn run(self, ctx: &Context) -> Self::Replies {
                let ($($call,)+) = self;
                let mut replies = invoke_all(ctx, [$($call.call),+]).into_iter();
                // A tuple's parts are evaluated in the order in which they're written.
                ($(read_next::<$value, $error>(&mut replies),)+)
            }
        }
    };
}
tuples!(a: A / AE, b: B / BE);
tuples!(a: A / AE, b: B / BE, c: C / CE);
tuples!(a: A / AE, b: B / BE, c: C / CE, d: D / DE);

/// A reply, or why the call was not even made.
type Reply = Result<Result<Vec<u8>, Failure>, String>;

/// Makes the calls that can be made; a call whose arguments have no JSON form is answered here.
fn invoke_all(ctx: &Context, calls: impl IntoIterator<Item = Result<RawCall, String>>) -> Vec<Reply> {
    let mut raw = Vec::new();
    let slots: Vec<Result<(), String>> = calls.into_iter().map(|call| call.map(|call| raw.push(call))).collect();
    let mut made = ctx.invoke_all(raw).into_iter();
    slots
        .into_iter()
        .map(|slot| slot.map(|()| made.next().unwrap_or_else(|| Err(no_reply()))))
        .collect()
}

fn read_next<T: DeserializeOwned, E: CalleeError>(
    replies: &mut impl Iterator<Item = Reply>,
) -> Result<T, CallError<E>> {
    read_reply(replies.next().unwrap_or_else(|| Ok(Err(no_reply()))))
}

fn read_reply<T: DeserializeOwned, E: CalleeError>(reply: Reply) -> Result<T, CallError<E>> {
    Call::<T, E>::read(reply.map_err(CallError::bad_arguments)?)
}

/// A host gives as many replies as it got calls; one that doesn't must not make the guest panic.
fn no_reply() -> Failure {
    Failure {
        code: CallError::<AnyError>::BAD_REPLY.to_owned(),
        message: "the host gave fewer replies than it got calls".to_owned(),
        error: None,
    }
}

/// The target of a generated client's calls.
#[derive(Debug, Clone)]
pub struct CallTo {
    grain_type: &'static str,
    key: String,
}

impl CallTo {
    /// The grain of type `G` with this key.
    pub fn new<G: Grain>(key: String) -> Self {
        Self {
            grain_type: G::NAME,
            key,
        }
    }

    /// A call of one method.
    pub fn call<T, E>(&self, method: &str, args: &impl Serialize) -> Call<T, E> {
        Call::new(self.grain_type, &self.key, method, args)
    }
}
