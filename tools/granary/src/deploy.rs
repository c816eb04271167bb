//! `granary deploy`: a module becomes a type's current revision.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use ureq::http::Method;

use crate::address::segment;
use crate::client::Client;
use crate::{Failure, Target, build, sweep, units};

/// Uploads a module
#[derive(Args, Debug)]
pub(crate) struct Deploy {
    /// The module; without it the crate in this folder is built
    file: Option<PathBuf>,
    /// The grain type; by default the file's name, with `_` read as `-`
    #[arg(long = "type", value_name = "NAME")]
    kind: Option<String>,
    /// How long to wait for the host to be there
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    wait: Option<Duration>,
    /// Moves every grain to this revision now, not only at its next call, and shows how far that is
    #[arg(long)]
    now: bool,
    /// Deploys a module that takes something from its callers, too
    #[arg(long)]
    allow_breaking: bool,
    /// Prints one JSON document at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Deploy {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let file = match self.file {
            Some(file) => file,
            None => build::module(Path::new("."))?,
        };
        let kind = match self.kind {
            Some(kind) => kind,
            None => {
                type_of(&file).ok_or_else(|| Failure::Usage(format!("{} names no type: use --type", file.display())))?
            }
        };
        let bytes = std::fs::read(&file)
            .map_err(|error| Failure::Usage(format!("{} can't be read: {error}", file.display())))?;
        let client = Client::new(&self.target);
        if let Some(limit) = self.wait {
            client.wait(limit)?;
        }
        let query = if self.allow_breaking {
            "?allow_breaking=true"
        } else {
            ""
        };
        let answer = client.send(Method::PUT, &format!("/v1/modules/{}{query}", segment(&kind)), bytes)?;
        let deployed = answer.value()?;
        let was = if answer.status == 201 {
            "deployed"
        } else {
            "is current already"
        };
        finish(&client, &kind, deployed, was, self.now, self.json)
    }
}

/// Tells which revision is current now, and moves the grains if that's wanted.
pub(crate) fn finish(
    client: &Client,
    kind: &str,
    mut current: Value,
    was: &str,
    now: bool,
    json: bool,
) -> Result<(), Failure> {
    let hash = current["blake3"].as_str().unwrap_or_default();
    let line = format!(
        "{kind} revision {} {was} ({})",
        current["revision"],
        hash.get(..12).unwrap_or(hash)
    );
    if !json {
        println!("{line}");
    }
    let upgrade = if now {
        sweep::run(client, kind, json)?
    } else {
        Value::Null
    };
    let verdict = if now { sweep::verdict(&upgrade) } else { Ok(()) };
    if json {
        current["upgrade"] = upgrade;
        println!("{current}");
    }
    verdict
}

/// The type that a module's file is named for.
fn type_of(file: &Path) -> Option<String> {
    Some(file.file_stem()?.to_str()?.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_its_type() {
        assert_eq!(
            type_of(Path::new("target/chat_room.wasm")).as_deref(),
            Some("chat-room")
        );
        assert_eq!(type_of(Path::new("/")), None);
    }
}
