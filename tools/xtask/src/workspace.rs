//! Where things are: the workspace's root, its target folder, its packages, and how cargo is called.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The target that guests are built for.
pub(crate) const GUEST_TARGET: &str = "wasm32-wasip1";

/// The workspace that this program was built from.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the root manifest.
    pub(crate) root: PathBuf,
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
    /// The members.
    pub(crate) packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// The folder of its manifest.
    pub(crate) folder: PathBuf,
    /// Whether it is built into a module for grains.
    pub(crate) is_guest: bool,
    /// The names of what it depends on, tests' needs included.
    pub(crate) dependencies: Vec<String>,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn find() -> Result<Workspace, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root
            .canonicalize()
            .map_err(|error| format!("the workspace has moved since this program was built: {error}"))?;
        let metadata = metadata(&root, &["--no-deps", "--offline"])?;
        let packages = metadata["packages"]
            .as_array()
            .ok_or("cargo metadata names no packages")?;
        Ok(Workspace {
            target: PathBuf::from(text(&metadata["target_directory"])),
            packages: packages.iter().map(package).collect(),
            root,
        })
    }

    /// The packages that are built into modules, in order.
    pub(crate) fn guests(&self) -> Vec<&Package> {
        self.packages.iter().filter(|package| package.is_guest).collect()
    }

    /// The binary that users run.
    pub(crate) fn granary(&self) -> PathBuf {
        self.target.join("release/granary")
    }

    /// The folder with the guests' modules.
    pub(crate) fn modules(&self) -> PathBuf {
        self.target.join(GUEST_TARGET).join("release")
    }

    /// `cargo ARGS` in the workspace's root.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root).args(args);
        command
    }

    /// A path as people want to read it: relative to the root where it lies within.
    pub(crate) fn shorten(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// What `cargo metadata` says of the workspace at `root`.
pub(crate) fn metadata(root: &Path, args: &[&str]) -> Result<Value, String> {
    let mut cargo = cargo();
    cargo
        .current_dir(root)
        .args(["metadata", "--format-version", "1", "--locked"]);
    let text = printed("cargo metadata", cargo.args(args))?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata is not understood: {error}"))
}

/// What a short command prints, or what it says when it fails.
pub(crate) fn printed(what: &str, command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{what} can't be started: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{what} failed ({}):\n{said}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The text of a JSON string; empty for anything else.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // `cargo run` describes this package to us in these; a nested cargo would take them for changes and build again.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name.to_string_lossy().starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

fn package(value: &Value) -> Package {
    let dependencies = value["dependencies"].as_array();
    let dependencies: Vec<String> = dependencies
        .into_iter()
        .flatten()
        .map(|dependency| text(&dependency["name"]).to_owned())
        .collect();
    let targets = value["targets"].as_array();
    let is_cdylib = targets
        .into_iter()
        .flatten()
        .flat_map(|target| target["crate_types"].as_array().into_iter().flatten())
        .any(|kind| kind == "cdylib");
    Package {
        name: text(&value["name"]).to_owned(),
        folder: Path::new(text(&value["manifest_path"]))
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default(),
        is_guest: is_cdylib && dependencies.iter().any(|name| name == "granary-sdk"),
        dependencies,
    }
}
