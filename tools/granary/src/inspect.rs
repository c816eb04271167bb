//! `granary inspect`: what a host knows of a grain.

use clap::Args;
use serde_json::Value;

use crate::address::Address;
use crate::client::Client;
use crate::output::out;
use crate::{Failure, Target};

/// Shows what a host knows of a grain
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// The grain, as TYPE/KEY
    grain: Address,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Inspect {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let status = Client::new(&self.target).value(&self.grain.path())?;
        print(&status, self.json);
        Ok(())
    }
}

/// Prints an object: as it is, or a line a field.
pub(crate) fn print(value: &Value, as_json: bool) {
    match value.as_object() {
        Some(fields) if !as_json => {
            for (name, value) in fields {
                match value {
                    Value::Object(_) if name == "upgrade_failure" => {
                        let word = |name: &str| value[name].as_str().unwrap_or_default();
                        out!("{name:<24} {}: {}", word("code"), word("reason"));
                    }
                    Value::String(text) => out!("{name:<24} {text}"),
                    Value::Null => out!("{name:<24} -"),
                    other => out!("{name:<24} {other}"),
                }
            }
        }
        _ => out!("{value}"),
    }
}
