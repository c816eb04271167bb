//! Reads a method's arguments: a JSON array by position.
//!
//! The array is split once, without a copy or an allocation, and each argument is then read as its own type, so that
//! a message can name the argument that is wrong. Names on the wire are the host's work: it has the description.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::Fault;

/// One parameter of a method.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    name: &'static str,
    required: bool,
}

impl Param {
    /// A parameter that every call must give if it's `required`: of an `Option` absent and `null` are `None`.
    pub const fn new(name: &'static str, required: bool) -> Self {
        Self { name, required }
    }
}

/// A call's arguments, taken one after the other.
#[derive(Debug)]
pub struct Args<'a, const N: usize> {
    method: &'static str,
    params: [Param; N],
    values: [Option<&'a RawValue>; N],
    taken: usize,
}

impl<'a, const N: usize> Args<'a, N> {
    /// Splits `json`, an array of at most `N` values.
    ///
    /// # Errors
    /// [`Fault`] of kind `bad-arguments` when it's no array or has too many values.
    pub fn read(method: &'static str, params: [Param; N], json: &'a [u8]) -> Result<Self, Fault> {
        let mut values = [None; N];
        let mut reader = serde_json::Deserializer::from_slice(json);
        let given = reader
            .deserialize_seq(Split(&mut values))
            .and_then(|given| reader.end().map(|()| given))
            .map_err(|error| {
                Fault::bad_arguments(format!(
                    "the arguments of `{method}` must be one JSON array by position: {error}"
                ))
            })?;
        if given > N {
            return Err(Fault::bad_arguments(too_many(method, &params, given)));
        }
        Ok(Self {
            method,
            params,
            values,
            taken: 0,
        })
    }

    /// The next argument.
    ///
    /// # Errors
    /// [`Fault`] of kind `bad-arguments` that names the argument when it's missing or of another type.
    ///
    /// # Panics
    /// When more arguments are taken than there are parameters.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        let Param { name, required } = self.params[self.taken];
        let value = self.values[self.taken];
        self.taken += 1;
        let json = match value {
            Some(value) => value.get(),
            None if required => {
                return Err(Fault::bad_arguments(format!(
                    "`{}` wants the argument `{name}`, which is missing",
                    self.method
                )));
            }
            None => "null",
        };
        serde_json::from_str(json).map_err(|error| {
            Fault::bad_arguments(format!(
                "argument `{name}` of `{}`: {}",
                self.method,
                without_position(&error)
            ))
        })
    }
}

fn too_many(method: &str, params: &[Param], given: usize) -> String {
    let names: Vec<&str> = params.iter().map(|param| param.name).collect();
    match names.as_slice() {
        [] => format!("`{method}` takes no argument, not {given}"),
        [name] => format!("`{method}` takes one argument ({name}), not {given}"),
        names => format!(
            "`{method}` takes {} arguments ({}), not {given}",
            names.len(),
            names.join(", ")
        ),
    }
}

/// serde's text without `at line 1 column 5`: the caller has not written lines.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

/// Puts the first values of an array into a slice and counts them all.
struct Split<'s, 'a>(&'s mut [Option<&'a RawValue>]);

impl<'a> Visitor<'a> for Split<'_, 'a> {
    type Value = usize;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<usize, A::Error> {
        let mut given = 0;
        for slot in self.0 {
            let Some(value) = seq.next_element::<&'a RawValue>()? else {
                return Ok(given);
            };
            *slot = Some(value);
            given += 1;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            given += 1;
        }
        Ok(given)
    }
}

// `Deserialize` for `&RawValue` is what makes the split free of copies.
const _: fn() = || {
    fn borrows<'a, T: Deserialize<'a>>() {}
    borrows::<&RawValue>();
};

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: [Param; 2] = [Param::new("n", true), Param::new("note", false)];

    fn read(json: &str) -> Result<(i64, Option<String>), String> {
        let mut args = Args::read("add", PARAMS, json.as_bytes()).map_err(|fault| fault.message)?;
        let n = args.take().map_err(|fault| fault.message)?;
        let note = args.take().map_err(|fault| fault.message)?;
        Ok((n, note))
    }

    #[test]
    fn an_absent_or_null_option_is_none() {
        assert_eq!(read("[5]"), Ok((5, None)));
        assert_eq!(read("[5,null]"), Ok((5, None)));
        assert_eq!(read(" [ 5 , \"x\" ] "), Ok((5, Some("x".into()))));
    }

    #[test]
    fn a_message_names_the_argument_and_what_was_expected() {
        let message = |json: &str| read(json).expect_err("these arguments are wrong");
        assert_eq!(message("[]"), "`add` wants the argument `n`, which is missing");
        assert_eq!(
            message("[\"five\"]"),
            "argument `n` of `add`: invalid type: string \"five\", expected i64"
        );
        assert_eq!(
            message("[null]"),
            "argument `n` of `add`: invalid type: null, expected i64"
        );
        assert_eq!(
            message("[1,2]"),
            "argument `note` of `add`: invalid type: integer `2`, expected a string"
        );
        assert_eq!(message("[1,null,3]"), "`add` takes 2 arguments (n, note), not 3");
    }

    #[test]
    fn anything_but_one_array_is_refused() {
        for json in ["", "{}", "{\"n\":5}", "5", "[5", "[5] []", "[5,]", "[\"\u{1}\"]"] {
            let message = read(json).expect_err(json);
            assert!(
                message.starts_with("the arguments of `add` must be one JSON array")
                    || message.starts_with("argument `n`"),
                "{json}: {message}"
            );
        }
    }
}
