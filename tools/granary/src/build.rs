//! `granary build`: a guest crate becomes a module.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::Value;

use crate::Failure;

const TARGET: &str = "wasm32-wasip1";
/// A guest's own stack: the linker's 1 MiB would be the larger part of a small grain. Line tables aren't uploaded.
const RUSTFLAGS: &str = "-Clink-arg=-zstack-size=65536 -Cstrip=debuginfo";
/// serde_json's tables for writing floats have 17 KiB, or 1 when optimised for size. Every grain in memory has its guest's tables, whether
/// it writes floats or not.
const SMALL_TABLES: &str = r#"profile.release.package.zmij.opt-level="s""#;

/// Builds the guest crate in this folder
#[derive(Args, Debug)]
pub(crate) struct Build {
    /// The crate's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
}

impl Build {
    pub(crate) fn run(self) -> Result<(), Failure> {
        println!("{}", module(&self.folder)?.display());
        Ok(())
    }
}

/// Builds the crate in `folder` and returns where its module is.
pub(crate) fn module(folder: &Path) -> Result<PathBuf, Failure> {
    if !folder.join("Cargo.toml").is_file() {
        let said = format!(
            "{} has no Cargo.toml: go to a guest's crate, or name a .wasm file",
            folder.display()
        );
        return Err(Failure::Usage(said));
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(folder).stdout(Stdio::piped());
    cargo.args([
        "build",
        "--release",
        "--target",
        TARGET,
        "--message-format",
        "json-render-diagnostics",
        "--config",
        SMALL_TABLES,
    ]);
    if std::env::var_os("RUSTFLAGS").is_none() && !sets_flags(folder) {
        cargo.env("RUSTFLAGS", RUSTFLAGS);
    }
    let output = cargo.stderr(Stdio::inherit()).output();
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
        .filter_map(|message| wasm(&message));
    // The crate itself is built last, after the guests that it depends on for their clients.
    modules.next_back().ok_or_else(|| {
        Failure::Usage(
            "the crate makes no module: it needs `[lib] crate-type = [\"cdylib\"]` in its Cargo.toml".to_owned(),
        )
    })
}

/// Whether the crate's own configuration says how guests are linked.
fn sets_flags(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else {
        return false;
    };
    let configs = folder.ancestors().map(|folder| folder.join(".cargo/config.toml"));
    configs
        .filter_map(|config| std::fs::read_to_string(config).ok())
        .any(|text| text.contains("rustflags"))
}

/// The module that one of cargo's messages names.
fn wasm(message: &Value) -> Option<PathBuf> {
    let files = message["filenames"]
        .as_array()
        .filter(|_| message["reason"] == "compiler-artifact")?;
    let wasm = files
        .iter()
        .filter_map(Value::as_str)
        .find(|file| file.ends_with(".wasm"));
    wasm.map(PathBuf::from)
}
