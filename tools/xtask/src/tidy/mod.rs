//! `cargo xtask tidy`: the rules of this code base that no compiler knows. Also a test, so that nobody has to remember it.
//!
//! **Not here:** format and lints; `cargo xtask check` asks rustfmt and clippy for those.

mod clocks;
mod code;
mod edges;
mod files;
mod functions;
mod licences;
mod manifests;
mod unsafety;

use std::path::{Path, PathBuf};

use crate::workspace::Workspace;

/// What breaks a rule: where, and what would be right.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    place: String,
    message: String,
}

impl Finding {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding {
            place: place.into(),
            message: message.into(),
        }
    }
}

/// A source file: its path relative to the root, with `/`, and its text.
#[derive(Debug)]
struct Source {
    path: String,
    text: String,
}

/// Checks all rules, prints what could be better, fails on what breaks one.
pub(crate) fn run() -> Result<(), String> {
    let workspace = Workspace::find()?;
    let sources = read_sources(&workspace.root)?;
    for hint in files::hints(&sources) {
        println!("  hint: {}: {}", hint.place, hint.message);
    }
    let findings = findings(&workspace, &sources)?;
    if findings.is_empty() {
        println!("  ✓ tidy  {} files", sources.len());
        return Ok(());
    }
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| format!("{}: {}", finding.place, finding.message))
        .collect();
    Err(format!("tidy found {}:\n  {}", findings.len(), lines.join("\n  ")))
}

fn findings(workspace: &Workspace, sources: &[Source]) -> Result<Vec<Finding>, String> {
    let mut findings = files::check(sources);
    findings.extend(files::check_top_level(&top_level(&workspace.root)?));
    findings.extend(functions::check(sources));
    findings.extend(clocks::check(sources));
    findings.extend(edges::check(sources));
    findings.extend(unsafety::check(sources));
    findings.extend(manifests::check(workspace)?);
    findings.extend(licences::check(workspace)?);
    Ok(findings)
}

fn top_level(root: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// Every Rust file of the tree, in order. Golden files hold generated code and are nobody's style.
fn read_sources(root: &Path) -> Result<Vec<Source>, String> {
    let mut paths = Vec::new();
    for folder in ["host", "guest-sdk", "examples", "tests", "tools"] {
        collect(&root.join(folder), &mut paths).map_err(|error| format!("{folder}: {error}"))?;
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let path = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .replace('\\', "/");
            Ok(Source { path, text })
        })
        .collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["target", "golden", "vendor"].contains(&name.as_str()) && !name.starts_with('.') {
                collect(&path, paths)?;
            }
        } else if name.ends_with(".rs") {
            paths.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let workspace = Workspace::find().unwrap();
        let sources = read_sources(&workspace.root).unwrap();
        assert!(
            sources
                .iter()
                .any(|source| source.path == "tools/xtask/src/tidy/mod.rs"),
            "this file is seen"
        );
        let findings = findings(&workspace, &sources).unwrap();
        let lines: Vec<String> = findings.iter().map(|f| format!("{}: {}", f.place, f.message)).collect();
        assert!(findings.is_empty(), "\n{}", lines.join("\n"));
    }
}
