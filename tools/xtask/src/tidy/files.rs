//! Files: how long they may be, how they begin, what they may be called.

use super::{Finding, Source};

/// Beyond this a reader can't keep a file in mind.
const LINES_LIMIT: usize = 600;
/// Beyond this a file is worth a thought.
const LINES_HINT: usize = 300;
/// Words that say nothing or something else; the glossary has better ones for each.
const AVOIDED: &[&str] = &[
    "node", "actor", "entity", "worker", "manager", "service", "helper", "helpers", "util", "utils", "data", "process",
    "common", "misc",
];

/// What may lie at the top, apart from dot files: a reader takes it in at a glance.
const TOP_LEVEL: &[&str] = &[
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "docs",
    "examples",
    "guest-sdk",
    "host",
    "rustfmt.toml",
    "target",
    "tests",
    "tools",
    "wit",
];

/// What lies at the top and shouldn't.
pub(super) fn check_top_level(names: &[String]) -> Vec<Finding> {
    let stray = names
        .iter()
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()));
    stray
        .map(|name| Finding::new(name, "the top level is fixed: it belongs into one of the folders"))
        .collect()
}

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let lines = source.text.lines().count();
        if lines > LINES_LIMIT {
            findings.push(Finding::new(
                &source.path,
                format!("{lines} lines; a file has at most {LINES_LIMIT}, aim at 300"),
            ));
        }
        if !source.text.starts_with("//!") {
            findings.push(Finding::new(
                &source.path,
                "a file begins with `//!` and says what it does and why",
            ));
        }
        findings.extend(avoided_name(&source.path));
        if source.path != "tools/xtask/src/tidy/files.rs" && source.text.contains("#[ignore") {
            findings.push(Finding::new(
                &source.path,
                "no `#[ignore]`: a test that can't run says `skipped: NAME wants TOOL`",
            ));
        }
    }
    findings
}

/// What isn't wrong yet.
pub(super) fn hints(sources: &[Source]) -> Vec<Finding> {
    let long = |source: &&Source| (LINES_HINT + 1..=LINES_LIMIT).contains(&source.text.lines().count());
    let hint = |source: &Source| {
        Finding::new(
            &source.path,
            format!("{} lines; aim at 300", source.text.lines().count()),
        )
    };
    sources.iter().filter(long).map(hint).collect()
}

fn avoided_name(path: &str) -> Option<Finding> {
    let words = path.trim_end_matches(".rs").split(['/', '_', '-']);
    let word = words.into_iter().find(|word| AVOIDED.contains(word))?;
    Some(Finding::new(
        path,
        format!("`{word}` is not in the glossary: name the thing that the file is about"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let source = Source {
            path: path.into(),
            text: text.into(),
        };
        check(&[source]).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_short_file_with_a_header_is_fine() {
        assert_eq!(
            messages("host/src/router.rs", "//! Where is the grain?\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_top_level_is_fixed() {
        let names = ["Cargo.toml", ".ci", "NOTES.md"].map(str::to_owned);
        let places: Vec<String> = check_top_level(&names)
            .into_iter()
            .map(|finding| finding.place)
            .collect();
        assert_eq!(places, ["NOTES.md"]);
    }

    #[test]
    fn headers_lengths_and_names_are_checked() {
        assert!(messages("host/src/router.rs", "use std::fmt;\n")[0].contains("begins with `//!`"));
        let long = format!("//! Long.\n{}", "\n".repeat(LINES_LIMIT));
        assert!(messages("host/src/router.rs", &long)[0].contains("601 lines"));
        assert!(messages("host/src/log_helper.rs", "//! Logs.\n")[0].contains("`helper`"));
        assert!(messages("host/src/data/log.rs", "//! Logs.\n")[0].contains("`data`"));
    }
}
