//! `cargo xtask check`: what must hold before a merge and is no test.
//!
//! All of it in the release profile, so that clippy and rustdoc share what they learn of the dependencies.

use std::time::Instant;

use crate::work::{in_words, run_quietly};
use crate::workspace::{GUEST_TARGET, Workspace};
use crate::{counts, features, guests, tidy};

/// Runs every check, also after one has failed, and says which did.
pub(crate) fn run() -> Result<(), String> {
    let started = Instant::now();
    let workspace = Workspace::find()?;
    guests::add_target()?;
    let mut clippy_guests = vec!["clippy", "--release", "--locked", "--target", GUEST_TARGET];
    let guests = workspace.guests();
    guests
        .iter()
        .for_each(|guest| clippy_guests.extend(["--package", &guest.name]));
    clippy_guests.extend(["--", "-D", "warnings"]);

    let mut results = vec![run_quietly(
        "format",
        &mut workspace.cargo(&["fmt", "--all", "--check"]),
    )];
    results.push(run_quietly(
        "clippy",
        &mut workspace.cargo(&[
            "clippy",
            "--release",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    ));
    results.push(run_quietly("clippy for guests", &mut workspace.cargo(&clippy_guests)));
    results.push(run_quietly(
        "docs",
        workspace
            .cargo(&["doc", "--release", "--locked", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    ));
    results.push(features::check(&workspace));
    results.push(tidy::run());
    results.push(counts::run(false));
    let failed: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    if !failed.is_empty() {
        return Err(failed.join("\n\nerror: "));
    }
    println!("  all checks hold, {}", in_words(started.elapsed()));
    Ok(())
}
