//! `granary ls`: types, or a type's keys.

use clap::Args;
use serde_json::{Value, json};

use crate::address::segment;
use crate::client::Client;
use crate::output::out;
use crate::{Failure, Target};

/// Lists types, or the keys of a type
#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// The type whose keys to list; without it types are listed
    #[arg(value_name = "TYPE")]
    kind: Option<String>,
    /// Only keys that start with this
    #[arg(long, requires = "kind")]
    prefix: Option<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Ls {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.target);
        match &self.kind {
            None => types(&client, self.json),
            Some(kind) => keys(&client, kind, self.prefix.as_deref().unwrap_or_default(), self.json),
        }
    }
}

fn types(client: &Client, as_json: bool) -> Result<(), Failure> {
    let modules = client.value("/v1/modules")?;
    if as_json {
        out!("{modules}");
        return Ok(());
    }
    for module in modules["modules"].as_array().into_iter().flatten() {
        let word = |name: &str| module[name].as_str().unwrap_or_default().to_owned();
        out!(
            "{:<24} revision {:<4} {:<10} {}",
            word("type"),
            module["revision"],
            word("durability"),
            upgrading(module)
        );
    }
    Ok(())
}

/// What of a type isn't on its current revision, as far as somebody has tried; empty when there is nothing to say.
pub(crate) fn upgrading(module: &Value) -> String {
    let upgrade = &module["upgrade"];
    let stuck = match upgrade["stuck"].as_u64().unwrap_or(0) {
        0 => None,
        1 => Some("1 grain could not be moved to it".to_owned()),
        more => Some(format!("{more} grains could not be moved to it")),
    };
    let moving = (upgrade["running"] == true).then(|| format!("moving, {} left", upgrade["left"]));
    let parts: Vec<String> = moving.into_iter().chain(stuck).collect();
    parts.join("; ")
}

/// Prints page after page: a type may have more keys than fit in memory.
fn keys(client: &Client, kind: &str, prefix: &str, as_json: bool) -> Result<(), Failure> {
    let mut cursor = String::new();
    loop {
        let query = format!("?limit=1000&prefix={}{cursor}", segment(prefix));
        let page = client.value(&format!("/v1/grains/{}{query}", segment(kind)))?;
        for key in page["keys"].as_array().into_iter().flatten() {
            match key.as_str() {
                Some(text) if !as_json => out!("{text}"),
                _ => out!("{}", json!({ "type": kind, "key": key })),
            }
        }
        match &page["next"] {
            Value::String(next) => cursor = format!("&cursor={}", segment(next)),
            _ => return Ok(()),
        }
    }
}
