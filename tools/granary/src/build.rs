//! `granary build`: a guest crate becomes a module.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::Value;

use crate::Failure;
use crate::output::out;
use crate::workspace::{self, Guest};

const TARGET: &str = "wasm32-wasip1";
/// How the module is linked, whatever flags the environment or a configuration gives besides. A guest's own stack: the linker's 1 MiB
/// would be the larger part of a small grain. Line tables aren't uploaded.
const LINKED: [&str; 2] = ["-Clink-arg=-zstack-size=65536", "-Cstrip=debuginfo"];
/// serde_json's tables for writing floats have 17 KiB, or 1 when optimised for size. Every grain in memory has its guest's tables, whether
/// it writes floats or not.
const SMALL_TABLES: &str = r#"profile.release.package.zmij.opt-level="s""#;

/// Builds the guest crate in this folder
#[derive(Args, Debug)]
pub(crate) struct Build {
    /// The crate's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    choice: Choice,
}

/// Which crate, where a folder has several.
#[derive(Args, Debug)]
pub(crate) struct Choice {
    /// The guest crate to build, in a workspace that has several
    #[arg(short, long, value_name = "NAME")]
    package: Option<String>,
}

impl Choice {
    /// Whether one was named.
    pub(crate) fn is_made(&self) -> bool {
        self.package.is_some()
    }
}

impl Build {
    pub(crate) fn run(self) -> Result<(), Failure> {
        out!("{}", module(&self.folder, &self.choice)?.display());
        Ok(())
    }
}

/// Builds the crate that `folder` stands for and returns where its module is.
pub(crate) fn module(folder: &Path, choice: &Choice) -> Result<PathBuf, Failure> {
    let guest = workspace::guest(folder, choice.package.as_deref())?;
    let mut cargo = cargo(folder);
    // Its own flags reach the module alone: dependencies are compiled as any other build has them.
    cargo.args([
        "rustc",
        "--release",
        "--lib",
        "--target",
        TARGET,
        "--package",
        &guest.id,
    ]);
    cargo.args([
        "--message-format",
        "json-render-diagnostics",
        "--config",
        SMALL_TABLES,
        "--",
    ]);
    cargo.args(LINKED).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let output = cargo.output();
    let output = output.map_err(|error| Failure::Refused(format!("cargo can't be started: {error}")))?;
    if !output.status.success() {
        return Err(Failure::Refused(format!(
            "the build failed; if the target {TARGET} is missing, `rustup target add {TARGET}` adds it"
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut modules = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| wasm(&message, &guest));
    modules
        .next()
        .ok_or_else(|| Failure::Refused(format!("cargo built `{}` and names no module of it", guest.name)))
}

/// cargo, to be run in a folder.
pub(crate) fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(folder);
    cargo
}

/// The guest's module, if one of cargo's messages names it: guests that it depends on for their clients are modules, too.
fn wasm(message: &Value, guest: &Guest) -> Option<PathBuf> {
    let is_its = message["reason"] == "compiler-artifact" && message["package_id"] == guest.id.as_str();
    let files = message["filenames"].as_array().filter(|_| is_its)?;
    let wasm = files
        .iter()
        .filter_map(Value::as_str)
        .find(|file| file.ends_with(".wasm"));
    wasm.map(PathBuf::from)
}
