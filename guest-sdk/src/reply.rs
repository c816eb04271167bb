//! Writes what a method returned.

use serde::Serialize;

use crate::{Fault, MethodError};

/// A method's value as JSON.
///
/// # Errors
/// Never; the type is the dispatcher's.
///
/// # Panics
/// When the value has no JSON form (a map whose keys are not text, say). That's a mistake in the grain's code, so the
/// turn ends as a trap and leaves no trace.
pub(crate) fn reply<T: Serialize>(method: &str, value: &T) -> Result<Vec<u8>, Fault> {
    match serde_json::to_vec(value) {
        Ok(json) => Ok(json),
        Err(error) => panic!("the result of `{method}` has no JSON form: {error}"),
    }
}

/// The same for a method that returns a `Result`.
///
/// # Errors
/// The method's own.
///
/// # Panics
/// As [`reply`].
pub(crate) fn reply_result<T: Serialize, E: MethodError>(method: &str, result: Result<T, E>) -> Result<Vec<u8>, Fault> {
    match result {
        Ok(value) => reply(method, &value),
        Err(error) => Err(error.fault()),
    }
}
