//! `cargo xtask bench`: builds what the bench needs and runs it.

use crate::guests;
use crate::work::run_quietly;
use crate::workspace::Workspace;

/// Builds all, then runs the bench with `args`.
pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let workspace = Workspace::find()?;
    guests::build(&workspace)?;
    run_quietly(
        "host and bench",
        &mut workspace.cargo(&[
            "build",
            "--release",
            "--locked",
            "--package",
            "granary",
            "--package",
            "bench",
        ]),
    )?;
    let status = std::process::Command::new(workspace.target.join("release/bench"))
        .args(args)
        .env("GRANARY_BIN", workspace.granary())
        .env("GRANARY_GUESTS", workspace.modules())
        .status()
        .map_err(|error| format!("the bench can't be started: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the bench failed: {status}"))
    }
}
