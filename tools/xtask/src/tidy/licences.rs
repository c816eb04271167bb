//! Licences of everything that is linked or run: only those that ask for no more than being named.

use serde_json::Value;

use super::Finding;
use crate::workspace::{Workspace, metadata, text};

const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// A package whose licence asks for more, with what makes that no burden.
const EXCEPTIONS: &[(&str, &str)] = &[
    // Asks that its own files' source can be had: they are used as published, and are at crates.io.
    ("foca", "MPL-2.0"),
];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>, String> {
    // Dependencies of other platforms aren't ours, and aren't there without a network.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let filter = ["--filter-platform", platform.as_str()];
    let all = metadata(&workspace.root, &[&filter[..], &["--offline"]].concat())
        .or_else(|_| metadata(&workspace.root, &filter))?;
    let packages = all["packages"].as_array().ok_or("cargo metadata names no packages")?;
    Ok(packages.iter().filter_map(refused).collect())
}

fn refused(package: &Value) -> Option<Finding> {
    let licence = text(&package["license"]);
    if is_allowed(licence) || EXCEPTIONS.contains(&(text(&package["name"]), licence)) {
        return None;
    }
    let place = format!("{} {}", text(&package["name"]), text(&package["version"]));
    Some(Finding::new(
        place,
        format!("its licence `{licence}` is not in the list (tools/xtask/src/tidy/licences.rs)"),
    ))
}

/// Whether a choice of licences within an SPDX expression is allowed. `/` is the old way to write OR.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    split(&expression, " OR ").iter().any(|choice| {
        split(choice, " AND ").iter().all(|part| {
            let part = part.trim();
            match part.strip_prefix('(').and_then(|part| part.strip_suffix(')')) {
                Some(inner) => is_allowed(inner),
                None => ALLOWED.contains(&part),
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

    #[test]
    fn one_allowed_choice_is_enough_and_all_parts_are_needed() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-2.0/MIT",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(GPL-2.0 OR GPL-3.0) AND MIT"] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
}
