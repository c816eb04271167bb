//! One feature set: what is built for the host is what is built for its tests, so that wasmtime and all under it are compiled once.
//!
//! cargo unites the features that the packages of one build ask for. A dependency of tests only, for example one that wants serde with a
//! feature more, gives the tests' build another serde, and with it another wasmtime: minutes, twice. The remedy is to name that feature in
//! the workspace's manifest, where both builds see it.

use std::collections::BTreeSet;

use crate::test::{HOST_PACKAGES, SIMULATOR};
use crate::workspace::{Workspace, printed};

/// The largest dependency: it and all that it needs have to be the same in both builds.
const LARGEST: &str = "wasmtime-wasi";

/// Compares the two builds.
pub(crate) fn check(workspace: &Workspace) -> Result<(), String> {
    let mut host = vec!["--edges", "normal,build"];
    HOST_PACKAGES
        .iter()
        .for_each(|package| host.extend(["--package", package]));
    let tests = ["--edges", "normal,build,dev", "--workspace", "--exclude", SIMULATOR];
    let needed = names(&tree(workspace, &["--edges", "normal,build", "--package", LARGEST])?);
    let differing = differing(&tree(workspace, &host)?, &tree(workspace, &tests)?, &needed);
    if differing.is_empty() {
        println!("  ✓ one feature set  {} packages", needed.len());
        return Ok(());
    }
    Err(format!(
        "these would be compiled twice, for the host and for the tests; name the features that differ in the workspace's Cargo.toml:\n{}",
        differing.join("\n")
    ))
}

/// A line for each package: name, version, features.
fn tree(workspace: &Workspace, selection: &[&str]) -> Result<BTreeSet<String>, String> {
    let mut cargo = workspace.cargo(&["tree", "--locked", "--format", "{p} {f}", "--prefix", "none"]);
    let text = printed("cargo tree", cargo.args(selection))?;
    Ok(text
        .lines()
        .map(|line| line.trim_end_matches(" (*)").trim_end().to_owned())
        .collect())
}

/// `serde v1.0.229` of each line.
fn names(lines: &BTreeSet<String>) -> BTreeSet<String> {
    lines.iter().map(|line| name(line).to_owned()).collect()
}

fn name(line: &str) -> &str {
    let end = line.match_indices(' ').nth(1).map_or(line.len(), |(at, _)| at);
    &line[..end]
}

/// The lines about these packages that are in one of the builds only.
fn differing(host: &BTreeSet<String>, tests: &BTreeSet<String>, needed: &BTreeSet<String>) -> Vec<String> {
    let differs = host.symmetric_difference(tests);
    differs
        .filter(|line| needed.contains(name(line)))
        .map(|line| format!("  {}: {line}", if host.contains(line) { "host" } else { "tests" }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(lines: &[&str]) -> BTreeSet<String> {
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn a_feature_that_only_the_tests_ask_for_is_named() {
        let host = set(&["serde v1.0.1 std", "granary v0.1.0 (/g)"]);
        let tests = set(&["serde v1.0.1 rc,std", "granary v0.1.0 (/g)", "wat v1.0.0"]);
        let needed = set(&["serde v1.0.1"]);
        assert_eq!(
            differing(&host, &tests, &needed),
            ["  tests: serde v1.0.1 rc,std", "  host: serde v1.0.1 std"]
        );
        assert_eq!(differing(&host, &host, &needed), [""; 0]);
    }
}
