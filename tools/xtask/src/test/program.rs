//! Test programs as cargo builds them, and the tests that each has in it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use super::case::Case;
use crate::work::run_for_output;
use crate::workspace::{Workspace, printed, text};

/// A program with tests.
#[derive(Debug)]
pub(super) struct Program {
    /// Its target's name as cargo has it: a crate's for unit tests, a file's for the others.
    pub(super) name: String,
    /// The program.
    pub(super) path: PathBuf,
    /// Its package's folder, where its tests run.
    pub(super) folder: PathBuf,
}

/// Builds all test programs. The simulator's apart: it has core compiled with the choice of breaking rules, and so would all others.
pub(super) fn build(workspace: &Workspace) -> Result<Vec<Arc<Program>>, String> {
    let common = [
        "test",
        "--release",
        "--locked",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ];
    let selections: [(&str, &[&str]); 2] = [
        ("test programs", &["--workspace", "--exclude", SIMULATOR]),
        ("test programs of the simulator", &["--package", SIMULATOR]),
    ];
    let mut programs = Vec::new();
    for (what, selection) in selections {
        let args: Vec<&str> = common.iter().chain(selection).copied().collect();
        let output = run_for_output(what, &mut workspace.cargo(&args)).map_err(|failed| failed.said)?;
        programs.extend(output.lines().filter_map(program).map(Arc::new));
    }
    Ok(programs)
}

/// The simulator's package.
pub(crate) const SIMULATOR: &str = "granary-sim";

/// Reads one of cargo's messages; nothing unless it tells of a test program.
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
    let path = message["executable"].as_str().filter(|_| is_test)?;
    Some(Program {
        name: text(&message["target"]["name"]).to_owned(),
        path: PathBuf::from(path),
        folder: PathBuf::from(text(&message["manifest_path"])).parent()?.to_owned(),
    })
}

/// The tests in all of these programs, in the programs' own order.
pub(super) fn cases(programs: &[Arc<Program>]) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for program in programs {
        let mut command = Command::new(&program.path);
        command
            .args(["--list", "--format", "terse"])
            .current_dir(&program.folder)
            .envs(super::case::libraries());
        let list = printed(&format!("the list of the tests of {}", program.name), &mut command)?;
        cases.extend(
            list.lines()
                .filter_map(listed)
                .map(|test| Case::new(program.clone(), test)),
        );
    }
    Ok(cases)
}

/// `log::tests::a_torn_tail_is_cut: test`
fn listed(line: &str) -> Option<&str> {
    line.strip_suffix(": test")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_told_from_all_else_that_cargo_builds() {
        let library = r#"{"reason":"compiler-artifact","manifest_path":"/a/host/Cargo.toml","profile":{"test":false},"executable":null}"#;
        let tests = r#"{"reason":"compiler-artifact","manifest_path":"/a/host/Cargo.toml","target":{"name":"host"},"profile":{"test":true},"executable":"/t/host-1"}"#;
        assert!(program(library).is_none() && program("warning: no JSON").is_none());
        let program = program(tests).unwrap();
        assert_eq!(
            (program.name.as_str(), program.folder.to_str()),
            ("host", Some("/a/host"))
        );
    }

    #[test]
    fn benchmarks_and_sums_are_no_tests() {
        assert_eq!(listed("a::b: test"), Some("a::b"));
        assert_eq!(listed("a::b: benchmark"), None);
        assert_eq!(listed("3 tests, 0 benchmarks"), None);
    }
}
