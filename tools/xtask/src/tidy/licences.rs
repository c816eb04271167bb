//! Licences of everything that is linked or run: only those that ask for no more than being named.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Finding;
use crate::workspace::{Workspace, metadata, text};

/// The part of deny.toml that is read here, in cargo-deny's format.
#[derive(Debug, Deserialize)]
struct Policy {
    licenses: Licences,
}

#[derive(Debug, Deserialize)]
struct Licences {
    /// Good for any package.
    allow: Vec<String>,
    /// Good for one.
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>, String> {
    // Dependencies of other platforms aren't ours, and aren't there without a network.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let filter = ["--filter-platform", platform.as_str()];
    let all = metadata(&workspace.root, &[&filter[..], &["--offline"]].concat())
        .or_else(|_| metadata(&workspace.root, &filter))?;
    let packages = all["packages"].as_array().ok_or("cargo metadata names no packages")?;
    let licences = read(&workspace.root)?;
    Ok(packages
        .iter()
        .filter_map(|package| refused(package, &licences))
        .collect())
}

fn read(root: &Path) -> Result<Licences, String> {
    let path = root.join("deny.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let policy: Policy = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(policy.licenses)
}

fn refused(package: &Value, licences: &Licences) -> Option<Finding> {
    let (name, licence) = (text(&package["name"]), text(&package["license"]));
    let excepted = licences.exceptions.iter().filter(|exception| exception.name == name);
    let allowed: Vec<&str> = excepted
        .flat_map(|exception| &exception.allow)
        .chain(&licences.allow)
        .map(String::as_str)
        .collect();
    if is_allowed(licence, &allowed) {
        return None;
    }
    let place = format!("{name} {}", text(&package["version"]));
    Some(Finding::new(
        place,
        format!("its licence `{licence}` is not in deny.toml's list"),
    ))
}

/// Whether a choice of licences within an SPDX expression is allowed. `/` is the old way to write OR.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.replace('/', " OR ");
    split(&expression, " OR ").iter().any(|choice| {
        split(choice, " AND ").iter().all(|part| {
            let part = part.trim();
            match part.strip_prefix('(').and_then(|part| part.strip_suffix(')')) {
                Some(inner) => is_allowed(inner, allowed),
                None => allowed.contains(&part),
            }
        })
    })
}

/// Splits outside of parentheses.
fn split<'a>(text: &'a str, by: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= start && text[at..].starts_with(by) => {
                parts.push(&text[start..at]);
                start = at + by.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: &[&str] = &["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"];

    #[test]
    fn an_exception_is_for_its_package() {
        let licences = Licences {
            allow: vec!["MIT".into()],
            exceptions: vec![Exception {
                name: "foca".into(),
                allow: vec!["MPL-2.0".into()],
            }],
        };
        let package = |name: &str| serde_json::json!({"name": name, "version": "1.0.0", "license": "MPL-2.0"});
        assert_eq!(refused(&package("foca"), &licences), None);
        let finding = refused(&package("other"), &licences).unwrap();
        assert!(finding.message.contains("MPL-2.0"), "{finding:?}");
    }

    #[test]
    fn one_allowed_choice_is_enough_and_all_parts_are_needed() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-2.0/MIT",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(is_allowed(good, ALLOWED), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(GPL-2.0 OR GPL-3.0) AND MIT"] {
            assert!(!is_allowed(bad, ALLOWED), "{bad}");
        }
    }
}
