//! `granary call`: one call from the command line.

use std::collections::BTreeMap;
use std::io::Read;

use clap::Args;
use serde_json::value::RawValue;
use ureq::http::Method;

use crate::address::Address;
use crate::client::Client;
use crate::output::out;
use crate::{Failure, Target};

/// Calls a grain's method and prints its value
#[derive(Args, Debug)]
pub(crate) struct Call {
    /// The grain, as TYPE/KEY
    grain: Address,
    /// The method
    method: String,
    /// `name=value ...` (a value that's no JSON is a string), or one JSON object or array, or `-` to read that from stdin
    arguments: Vec<String>,
    #[command(flatten)]
    target: Target,
}

impl Call {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let body = body(&self.arguments).map_err(Failure::Usage)?;
        let client = Client::new(&self.target);
        let answer = client.answer(Method::POST, &self.grain.method_path(&self.method), body)?;
        if !answer.status.is_success() {
            return Err(answer.refusal());
        }
        out!("{}", answer.text);
        Ok(())
    }
}

/// The request's body.
fn body(arguments: &[String]) -> Result<Vec<u8>, String> {
    match arguments {
        [] => Ok(Vec::new()),
        [dash] if dash == "-" => {
            let mut text = Vec::new();
            std::io::stdin()
                .read_to_end(&mut text)
                .map_err(|error| format!("stdin can't be read: {error}"))?;
            Ok(text)
        }
        [json] if json.starts_with(['{', '[']) => {
            serde_json::from_str::<&RawValue>(json).map_err(|error| format!("`{json}` is no JSON: {error}"))?;
            Ok(json.clone().into_bytes())
        }
        pairs => named(pairs),
    }
}

fn named(pairs: &[String]) -> Result<Vec<u8>, String> {
    let mut object = BTreeMap::new();
    for pair in pairs {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            format!("`{pair}` is no argument: write name=value, or all of them as one JSON object or array")
        })?;
        if object.insert(name, json(value)).is_some() {
            return Err(format!("the argument `{name}` is given twice"));
        }
    }
    Ok(serde_json::to_vec(&object).expect("texts by their names have a JSON form"))
}

/// A value as it was written if it's JSON: a number keeps all its digits, whatever the method takes it for. Any other text is a string.
fn json(value: &str) -> Box<RawValue> {
    serde_json::from_str(value)
        .unwrap_or_else(|_| serde_json::value::to_raw_value(value).expect("a text has a JSON form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        body(&arguments).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn arguments_by_name_or_as_json() {
        assert_eq!(text(&[]).as_deref(), Ok(""));
        assert_eq!(
            text(&["n=5", "to=bob", "on=true", "s=\"5\""]).as_deref(),
            Ok(r#"{"n":5,"on":true,"s":"5","to":"bob"}"#)
        );
        assert_eq!(text(&["[1e400]"]).as_deref(), Ok("[1e400]"));
        assert_eq!(text(&["[1]"]).as_deref(), Ok("[1]"));
        assert_eq!(text(&[r#"{"n": 1}"#]).as_deref(), Ok(r#"{"n": 1}"#));
        assert_eq!(
            text(&["n=18446744073709551616", "x=0.1000", "s=12px", "o={\"a\": [1e400]}"]).as_deref(),
            Ok(r#"{"n":18446744073709551616,"o":{"a": [1e400]},"s":"12px","x":0.1000}"#)
        );
        assert_eq!(text(&["a=b=c"]).as_deref(), Ok(r#"{"a":"b=c"}"#));
        for bad in [&["5"][..], &["{n}"], &["n=1", "n=2"], &["[1]", "n=2"]] {
            assert!(text(bad).is_err(), "{bad:?}");
        }
    }
}
