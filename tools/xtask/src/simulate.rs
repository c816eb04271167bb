//! `cargo xtask simulate`: the simulator of clusters, built and run.
//!
//! **Not here:** what it simulates and what its options mean (`tests/sim`).

use crate::workspace::Workspace;

/// Passes `args` on: `--seeds N`, `--seed S`, `--mutation M`, `--outside`, `--lines N`, `--whole`.
pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let workspace = Workspace::find()?;
    let mut cargo = workspace.cargo(&[
        "run",
        "--quiet",
        "--release",
        "--locked",
        "--package",
        "granary-sim",
        "--",
    ]);
    let status = cargo.args(args).status();
    match status.map_err(|error| format!("cargo can't be started: {error}"))? {
        status if status.success() => Ok(()),
        status => Err(format!("the simulator ended with {status}: what it found is above")),
    }
}
