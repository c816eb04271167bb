//! Manifests: each dependency says why it is there, and the packages that promise to need little do.

use super::Finding;
use crate::workspace::Workspace;

/// A package and all that it may depend on.
const ONLY: &[(&str, &[&str])] = &[
    (
        "granary-core",
        // foca decides without I/O as core does; bytes and rand_core are the traits that it asks for. stateright is for tests: it walks
        // through small models of the protocols.
        &["blake3", "bytes", "foca", "rand_core", "serde", "stateright", "tracing"],
    ),
    ("granary-sim", &["blake3", "granary-core"]),
];
/// A package and what it must not depend on.
const NEVER: &[(&str, &[&str])] = &[
    ("granary-sdk", &["granary-host", "granary-core"]),
    ("granary-sdk-macros", &["granary-host", "granary-core"]),
    ("granary-tests", &["granary-host", "granary-core"]),
];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    let mut manifests = vec![workspace.root.join("Cargo.toml")];
    manifests.extend(
        workspace
            .packages
            .iter()
            .map(|package| package.folder.join("Cargo.toml")),
    );
    for path in manifests {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        findings.extend(unreasoned(&workspace.shorten(&path), &text));
    }
    for package in &workspace.packages {
        findings.extend(forbidden(&package.name, &package.dependencies));
    }
    Ok(findings)
}

fn forbidden(package: &str, dependencies: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for dependency in dependencies {
        let dependency = dependency.as_str();
        let not_only = ONLY
            .iter()
            .any(|(name, only)| *name == package && !only.contains(&dependency));
        let never = NEVER
            .iter()
            .any(|(name, never)| *name == package && never.contains(&dependency));
        if not_only || never {
            findings.push(Finding::new(
                package,
                format!("must not depend on {dependency} (tools/xtask/src/tidy/manifests.rs)"),
            ));
        }
    }
    findings
}

/// Dependencies from a registry without a comment above them. A comment serves all lines up to the next blank one.
fn unreasoned(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_dependencies = false;
    let mut has_reason = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            // `[dependencies]`, `[target.'cfg(unix)'.dev-dependencies]`; not `[lints]`, not `[patch]`.
            in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
            has_reason = false;
        } else if line.starts_with('#') {
            has_reason = true;
        } else if line.is_empty() {
            has_reason = false;
        } else if in_dependencies && !has_reason && names_a_registry(line) {
            let name = line.split(['=', '.', ' ']).next().unwrap_or(line);
            let message = format!("`{name}` needs a comment that says what it is for");
            findings.push(Finding::new(format!("{path}:{}", number + 1), message));
        }
    }
    findings
}

fn names_a_registry(line: &str) -> bool {
    line.contains('=') && !line.contains("workspace = true") && !line.contains("path = ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_gives_its_reason() {
        let text = "[dependencies]\n# Parsing.\nsyn = \"2\"\nquote = \"1\"\n\nlibc = \"0.2\"\nown = { path = \"x\" }\nserde.workspace = true\n";
        let findings = unreasoned("Cargo.toml", text);
        assert_eq!(
            findings,
            [Finding::new(
                "Cargo.toml:6",
                "`libc` needs a comment that says what it is for"
            )]
        );
    }

    #[test]
    fn core_stays_small_and_the_sdk_knows_no_host() {
        assert_eq!(forbidden("granary-core", &["serde".into()]), []);
        assert_eq!(forbidden("granary-core", &["tokio".into()]).len(), 1);
        assert_eq!(forbidden("granary-sdk", &["granary-core".into()]).len(), 1);
    }
}
