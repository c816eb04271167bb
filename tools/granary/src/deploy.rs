//! `granary deploy`: a module becomes a type's current revision.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use granary_host::wasm::debug_remedy;
use serde_json::Value;
use ureq::http::Method;

use crate::address::segment;
use crate::client::{Answer, Client};
use crate::output::{note, out};
use crate::{Failure, Target, build, sweep, type_name, units};

/// Uploads a module
#[derive(Args, Debug)]
pub(crate) struct Deploy {
    /// The module; without it the crate in this folder is built
    file: Option<PathBuf>,
    #[command(flatten)]
    choice: build::Choice,
    /// The grain type; by default what the module calls itself
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
            Some(_) if self.choice.is_made() => {
                let what = "name a module or a package, not both: a module is deployed as it is";
                return Err(Failure::Usage(what.to_owned()));
            }
            Some(file) => file,
            None => build::module(Path::new("."), &self.choice)?,
        };
        let bytes = std::fs::read(&file)
            .map_err(|error| Failure::Usage(format!("{} can't be read: {error}", file.display())))?;
        let (kind, remark) = name(&file, &bytes, self.kind)?;
        if let Some(remark) = remark {
            note!("granary: {remark}");
        }
        let client = Client::new(&self.target);
        if let Some(limit) = self.wait {
            client.wait(limit)?;
        }
        let query = if self.allow_breaking {
            "?allow_breaking=true"
        } else {
            ""
        };
        // Taken before the bytes are gone; a host that refuses them by their number can't say it.
        let debug = debug_remedy(&bytes);
        let answer = client.answer(Method::PUT, &format!("/v1/modules/{}{query}", segment(&kind)), bytes)?;
        if !answer.status.is_success() {
            return Err(refusal(&answer, debug));
        }
        let deployed = answer.value()?;
        let was = if answer.status == 201 {
            "deployed"
        } else {
            "is current already"
        };
        finish(&client, &kind, deployed, was, self.now, self.json)
    }
}

/// What to tell of a module that the host refused.
fn refusal(answer: &Answer, debug: Option<String>) -> Failure {
    match (answer.refusal(), debug) {
        // It speaks of debug information and couldn't count it.
        (Failure::Refused(said), Some(debug)) if said.contains("debug information") && !said.contains(&debug) => {
            Failure::Refused(format!("{said}\n  {debug}"))
        }
        (failure, _) => failure,
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
        out!("{line}");
    }
    let upgrade = if now {
        sweep::run(client, kind, json)?
    } else {
        Value::Null
    };
    let verdict = if now { sweep::verdict(&upgrade) } else { Ok(()) };
    if json {
        current["upgrade"] = upgrade;
        out!("{current}");
    }
    verdict
}

/// Under which name a module is deployed, and what is to be said of that: the one that was chosen, else what the module calls itself,
/// else what its file is called.
fn name(file: &Path, module: &[u8], chosen: Option<String>) -> Result<(String, Option<String>), Failure> {
    let written = type_name::written(module);
    if let Some(chosen) = chosen {
        let other = written.filter(|own| *own != chosen);
        let remark =
            other.map(|own| format!("the module calls itself `{own}`: its own clients look for it by that name"));
        return Ok((chosen, remark));
    }
    let of_file = type_of(file);
    match written.or_else(|| type_name::described(module)) {
        Some(own) => {
            let other = of_file.filter(|of_file| *of_file != own);
            let remark = other.map(|of_file| {
                format!("deployed as `{own}`, which the module calls itself, not as `{of_file}`: --type chooses a name")
            });
            Ok((own, remark))
        }
        None => {
            let kind = of_file;
            let kind = kind.ok_or_else(|| Failure::Usage(format!("{} names no type: use --type", file.display())))?;
            Ok((kind, None))
        }
    }
}

/// The type that a module's file is named for.
fn type_of(file: &Path) -> Option<String> {
    Some(file.file_stem()?.to_str()?.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use ureq::http::StatusCode;

    use super::*;

    /// A module that has nothing but a name.
    fn module(name: &str) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0\0".to_vec();
        module.extend([19 + name.len() as u8, 18]);
        module.extend(b"granary:grain/type");
        module.extend(name.as_bytes());
        module
    }

    #[test]
    fn a_module_that_is_too_large_for_its_debug_information_is_told_so() {
        let told = |detail: &str, debug: Option<&str>| {
            let answer = Answer {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                text: serde_json::json!({ "code": "too_large", "detail": detail }).to_string(),
            };
            match refusal(&answer, debug.map(str::to_owned)) {
                Failure::Refused(said) => said,
                failure => panic!("{failure:?}"),
            }
        };
        let counted = "9 of the 10 bytes are debug information";
        assert!(
            told("too large: debug information can be stripped", Some(counted)).ends_with(&format!("\n  {counted}"))
        );
        assert!(!told("too large: debug information can be stripped", None).contains("of the 10"));
        assert!(!told("a function is too long", Some(counted)).contains(counted));
        assert_eq!(told(counted, Some(counted)).matches(counted).count(), 1);
    }

    #[test]
    fn a_file_names_its_type() {
        assert_eq!(
            type_of(Path::new("target/chat_room.wasm")).as_deref(),
            Some("chat-room")
        );
        assert_eq!(type_of(Path::new("/")), None);
    }

    #[test]
    fn a_module_s_own_name_wins_over_its_file_s_and_another_name_is_said() {
        let named = |module: &[u8], chosen: Option<&str>| {
            let file = Path::new("target/chat_server.wasm");
            name(file, module, chosen.map(str::to_owned)).unwrap()
        };
        let (kind, remark) = named(&module("room"), None);
        assert_eq!(kind, "room");
        assert!(remark.unwrap().contains("`chat-server`"));
        assert_eq!(named(&module("chat-server"), None), ("chat-server".to_owned(), None));
        assert_eq!(named(&module("room"), Some("room")), ("room".to_owned(), None));
        let (kind, remark) = named(&module("room"), Some("lobby"));
        assert_eq!(kind, "lobby");
        assert!(remark.unwrap().contains("calls itself `room`"));
        assert_eq!(named(b"no module", None).0, "chat-server");
    }
}
