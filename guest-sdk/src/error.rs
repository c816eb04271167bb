//! What goes wrong between grains: a grain's own errors, and calls that gave no value.
//!
//! Four things stay apart: an error that a method returns on purpose ([`GrainError`]), a call that failed
//! ([`CallError`]), wrong arguments (the dispatcher's), and a trap (a panic; the host's).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Fault, describe};

/// An error that a method returns on purpose: a type of the grain's own, or `String`.
///
/// ```
/// use granary_sdk::prelude::*;
///
/// #[derive(Debug, Serialize, Deserialize, JsonSchema, GrainError)]
/// pub enum OrderError {
///     /// There is not that much in stock.
///     #[status(409)]
///     OutOfStock { left: u32 },
///     /// An order wants at least one piece.
///     Empty,
///     /// The warehouse gave no answer.
///     #[from]
///     Warehouse(CallError),
/// }
/// # assert_eq!(OrderError::Empty.message(), "An order wants at least one piece.");
/// # assert_eq!(OrderError::OutOfStock { left: 1 }.status(), Some(409));
/// ```
///
/// The caller gets `guest_error` (HTTP 422, or the variant's `#[status]`) with the value as JSON and the variant's doc
/// comment as the sentence for people. What the method changed before it returned the error **stands**.
/// `#[from]` on a variant that wraps a [`CallError`] makes `?` work and passes a failed call on as what it was: a
/// `deadlock` stays a `deadlock`. A callee's own error arrives inside of the variant, with the callee's sentence and
/// status; where the callee has this very error type, `?` makes it this grain's own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a grain's error",
    label = "methods of a grain return `Result<T, E>` with an `E: GrainError`, a `CallError`, a `String`",
    note = "derive it: `#[derive(Debug, Serialize, Deserialize, JsonSchema, GrainError)]`"
)]
pub trait GrainError: Serialize + DeserializeOwned + JsonSchema {
    /// One sentence for a person.
    fn message(&self) -> String;

    /// The HTTP status, 400 to 599; 422 if none.
    fn status(&self) -> Option<u16> {
        None
    }

    /// The fault that the turn ends with. `#[from]` variants pass on what they hold.
    #[doc(hidden)]
    fn as_fault(&self) -> Fault {
        guest_error(self, self.message(), self.status())
    }
}

impl GrainError for String {
    fn message(&self) -> String {
        self.clone()
    }
}

/// Whatever may stand for `E` in a method's `Result<T, E>`: a [`GrainError`], a [`CallError`] that is passed on, or a
/// `&'static str`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be a grain's error",
    label = "methods of a grain return `Result<T, E>` with an `E: GrainError`, a `CallError`, a `String`",
    note = "derive it: `#[derive(Debug, Serialize, Deserialize, JsonSchema, GrainError)]`"
)]
pub trait MethodError {
    /// What a caller finds in [`CallError::Guest`].
    type Callee: CalleeError;

    #[doc(hidden)]
    fn fault(&self) -> Fault;
}

impl<E: GrainError> MethodError for E {
    type Callee = E;

    fn fault(&self) -> Fault {
        self.as_fault()
    }
}

impl MethodError for &'static str {
    type Callee = String;

    fn fault(&self) -> Fault {
        guest_error(self, (*self).to_owned(), None)
    }
}

impl<E: CalleeError> MethodError for CallError<E> {
    type Callee = E;

    fn fault(&self) -> Fault {
        match self {
            Self::Guest(error) => Fault {
                error: error.write().ok(),
                status: error.status(),
                ..Fault::call_failed(Self::GUEST_ERROR, error.message())
            },
            Self::Failed { code, message } => Fault::call_failed(code, message.clone()),
        }
    }
}

/// A callee's own error as its caller sees it: a [`GrainError`], or [`AnyError`].
pub trait CalleeError: Serialize + DeserializeOwned {
    #[doc(hidden)]
    fn read(json: &[u8], message: &str) -> serde_json::Result<Self>;
    #[doc(hidden)]
    fn write(&self) -> serde_json::Result<Vec<u8>>;
    #[doc(hidden)]
    fn message(&self) -> String;
    #[doc(hidden)]
    fn status(&self) -> Option<u16>;
    #[doc(hidden)]
    fn schema() -> Option<schemars::Schema>;
}

impl<E: GrainError> CalleeError for E {
    fn read(json: &[u8], _: &str) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }

    fn write(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    fn message(&self) -> String {
        GrainError::message(self)
    }

    fn status(&self) -> Option<u16> {
        GrainError::status(self)
    }

    fn schema() -> Option<schemars::Schema> {
        Some(describe::written::<E>())
    }
}

/// A callee's own error of whatever type, as JSON: the default `E` of [`CallError`].
///
/// It is no [`GrainError`], which lets `?` turn every `CallError<E>` into a `CallError`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "A callee's own error.")]
pub struct AnyError {
    /// The error value.
    pub value: Value,
    /// The callee's sentence for people.
    pub message: String,
}

impl CalleeError for AnyError {
    fn read(json: &[u8], message: &str) -> serde_json::Result<Self> {
        Ok(Self {
            value: serde_json::from_slice(json)?,
            message: message.to_owned(),
        })
    }

    fn write(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&self.value)
    }

    fn message(&self) -> String {
        self.message.clone()
    }

    fn status(&self) -> Option<u16> {
        None
    }

    fn schema() -> Option<schemars::Schema> {
        None
    }
}

/// Why a call of another grain gave no value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum CallError<E = AnyError> {
    /// The callee returned its own error. What it changed before stands.
    Guest(E),
    /// There was no answer to give.
    Failed {
        /// As in HTTP problem documents: `deadlock`, `deadline`, `trap`, `mailbox_full`, `unknown_type`, ...
        code: String,
        /// For a person.
        message: String,
    },
}

impl<E> CallError<E> {
    pub(crate) const GUEST_ERROR: &'static str = "guest_error";
    pub(crate) const BAD_REPLY: &'static str = "bad_reply";

    /// The code: `guest_error` for [`CallError::Guest`].
    pub fn code(&self) -> &str {
        match self {
            Self::Guest(_) => Self::GUEST_ERROR,
            Self::Failed { code, .. } => code,
        }
    }

    /// Whether the callee may have done what it was asked although no value came back: its reply was late
    /// (`deadline`) or unreadable, or the code is one that this SDK doesn't know. With every other code the call's
    /// own turn either did not run or left no trace; with [`CallError::Guest`] the callee has said no.
    ///
    /// A callee that passes on the failure of a call of *its own* (it returns a `CallError`) keeps what it changed
    /// before: ask such a callee, don't guess.
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::Guest(_) => false,
            Self::Failed { code, .. } => !WITHOUT_EFFECT.contains(&code.as_str()),
        }
    }

    pub(crate) fn bad_arguments(message: String) -> Self {
        Self::failed("bad_arguments", message)
    }

    pub(crate) fn bad_reply(message: String) -> Self {
        Self::failed(Self::BAD_REPLY, message)
    }

    fn failed(code: &str, message: String) -> Self {
        Self::Failed {
            code: code.to_owned(),
            message,
        }
    }
}

/// Codes of calls whose turn did not run, or ran and left no trace in its grain.
const WITHOUT_EFFECT: [&str; 19] = [
    "bad_arguments",
    "chain_too_deep",
    "deadlock",
    "disk_reserve",
    "forbidden",
    "idempotency_full",
    "idempotency_mismatch",
    "mailbox_full",
    "memory_limit",
    "no_quorum",
    "not_implemented",
    "overloaded",
    "quota",
    "read_only_verb",
    "trap",
    "turn_timeout",
    "unauthenticated",
    "unknown_method",
    "unknown_type",
];

impl<E: CalleeError> fmt::Display for CallError<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guest(error) => formatter.write_str(&error.message()),
            Self::Failed { code, message } => write!(formatter, "{code}: {message}"),
        }
    }
}

impl<E: CalleeError + fmt::Debug> std::error::Error for CallError<E> {}

/// `?` in a method that returns a plain `CallError`.
impl<E: GrainError> From<CallError<E>> for CallError<AnyError> {
    fn from(error: CallError<E>) -> Self {
        match error {
            CallError::Failed { code, message } => Self::Failed { code, message },
            CallError::Guest(error) => match serde_json::to_value(&error) {
                Ok(value) => Self::Guest(AnyError {
                    value,
                    message: GrainError::message(&error),
                }),
                Err(unwritable) => Self::bad_reply(format!(
                    "the callee's error has no JSON form ({unwritable}): {}",
                    GrainError::message(&error)
                )),
            },
        }
    }
}

/// The fault of a `#[from]` variant: a failed call keeps its code; a callee's own error is this error's variant, so
/// that its reader finds the type that it expects.
#[doc(hidden)]
pub fn passed_on<E: Serialize>(error: &E, inner: &impl MethodError) -> Fault {
    let fault = inner.fault();
    match fault.error {
        None => fault,
        Some(_) => guest_error(error, fault.message, fault.status),
    }
}

/// A method's own error as a fault.
///
/// # Panics
/// When the error has no JSON form: a mistake in the grain's code, as for values.
#[doc(hidden)]
pub fn guest_error<E: Serialize + ?Sized>(error: &E, message: String, status: Option<u16>) -> Fault {
    match serde_json::to_vec(error) {
        Ok(json) => Fault::guest_error(message, json, status),
        Err(unwritable) => panic!("an error has no JSON form: {unwritable}: {message}"),
    }
}
