//! `cargo xtask guests`: this repository's guests as wasm modules, with the same profile and target folder as all else.

use std::process::{Command, Stdio};

use crate::work::run_quietly;
use crate::workspace::{GUEST_TARGET, Package, Workspace};

/// As in `granary build`: every grain in memory has its guest's tables, and those for writing floats are 17 KiB unless they are made
/// small. For guests only: the host's own copy may be fast.
const SMALL_TABLES: &str = r#"profile.release.package.zmij.opt-level="s""#;

/// Builds all guests.
pub(crate) fn run() -> Result<(), String> {
    build(&Workspace::find()?)
}

/// Builds all guests; adds the target when it's missing.
pub(crate) fn build(workspace: &Workspace) -> Result<(), String> {
    add_target()?;
    let guests = workspace.guests();
    let calls_another = |guest: &&Package| guests.iter().any(|other| guest.dependencies.contains(&other.name));
    let (callers, others): (Vec<&Package>, Vec<&Package>) = guests.iter().copied().partition(calls_another);
    build_together(workspace, &others)?;
    // cargo unites the features of what it builds at a time: a caller would get its callee's export besides its own.
    callers
        .iter()
        .try_for_each(|caller| build_together(workspace, &[caller]))
}

fn build_together(workspace: &Workspace, guests: &[&Package]) -> Result<(), String> {
    let mut args = vec![
        "build",
        "--release",
        "--locked",
        "--target",
        GUEST_TARGET,
        "--config",
        SMALL_TABLES,
    ];
    guests.iter().for_each(|guest| args.extend(["--package", &guest.name]));
    let names: Vec<&str> = guests.iter().map(|guest| guest.name.as_str()).collect();
    run_quietly(
        &format!("guests for {GUEST_TARGET}: {}", names.join(", ")),
        &mut workspace.cargo(&args),
    )
}

/// Makes sure that rustc can build for the guests' target.
pub(crate) fn add_target() -> Result<(), String> {
    if has_target() {
        return Ok(());
    }
    run_quietly(
        &format!("rustup target add {GUEST_TARGET}"),
        Command::new("rustup").args(["target", "add", GUEST_TARGET]),
    )
    .map_err(|error| {
        format!("{error}\nGuests need Rust's standard library for {GUEST_TARGET}; `rustup target add {GUEST_TARGET}` installs it.")
    })
}

fn has_target() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", GUEST_TARGET])
        .stderr(Stdio::null())
        .output();
    output.is_ok_and(|output| {
        let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some())
    })
}
