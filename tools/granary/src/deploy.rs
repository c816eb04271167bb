//! `granary deploy`: a module becomes a type's current revision.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ureq::http::Method;

use crate::address::segment;
use crate::client::Client;
use crate::{Failure, Target, build, units};

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
        let answer = client.send(Method::PUT, &format!("/v1/modules/{}", segment(&kind)), bytes)?;
        let deployed = answer.value()?;
        let hash = deployed["blake3"].as_str().unwrap_or_default();
        let was = if answer.status == 201 {
            "deployed"
        } else {
            "is current already"
        };
        println!(
            "{kind} revision {} {was} ({})",
            deployed["revision"],
            hash.get(..12).unwrap_or(hash)
        );
        Ok(())
    }
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
