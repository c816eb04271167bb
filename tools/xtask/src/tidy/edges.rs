//! Which part of the host may use which: the table below, and nothing else.
//!
//! The parts that do one thing (`http`, `wasm`, `snapshot`, `storage`) don't know one another; `activation` and `host`
//! join them. `cluster` writes what it has promised to `storage` and knows nothing above it. What isn't in the table is a new edge: add it here, with a thought about the direction.

use super::code::strip;
use super::{Finding, Source};

/// A module of `host/src` and the modules that it may name as `crate::...`.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "activation",
        &[
            "clock",
            "cluster",
            "description",
            "modules",
            "snapshot",
            "storage",
            "telemetry",
            "threads",
            "wasm",
        ],
    ),
    ("audit", &["clock"]),
    ("clock", &[]),
    ("cluster", &["clock", "storage", "telemetry", "threads"]),
    ("config", &["cluster", "http", "snapshot", "storage", "wasm"]),
    ("description", &[]),
    (
        "host",
        &[
            "activation",
            "audit",
            "clock",
            "cluster",
            "config",
            "http",
            "modules",
            "outlet",
            "router",
            "snapshot",
            "storage",
            "telemetry",
            "threads",
            "wasm",
        ],
    ),
    ("fuzzing", &["http", "snapshot", "storage", "wasm"]),
    ("http", &["audit", "description", "modules", "router"]),
    ("lib", &[]),
    ("modules", &["clock", "description", "storage", "wasm"]),
    ("outlet", &[]),
    ("router", &["activation", "cluster", "modules", "storage"]),
    ("snapshot", &[]),
    ("storage", &["clock", "threads"]),
    ("telemetry", &[]),
    ("threads", &["outlet"]),
    ("wasm", &["clock", "snapshot", "threads"]),
];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let Some(from) = module_of(&source.path) else { continue };
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == from) else {
            findings.push(Finding::new(
                &source.path,
                format!("`{from}` has no line in the table of edges (tools/xtask/src/tidy/edges.rs)"),
            ));
            continue;
        };
        for (line, to) in named_modules(&strip(&source.text)) {
            let is_module = ALLOWED.iter().any(|(name, _)| *name == to);
            if is_module && to != from && !allowed.contains(&to.as_str()) {
                let place = format!("{}:{line}", source.path);
                findings.push(Finding::new(place, format!("`{from}` must not use `{to}`")));
            }
        }
    }
    findings
}

/// `host/src/wasm/slab.rs` belongs to `wasm`.
fn module_of(path: &str) -> Option<&str> {
    let inner = path.strip_prefix("host/src/")?;
    Some(inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs"))
}

/// The first names after `crate::`, with their lines; of a group all of them.
fn named_modules(stripped: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in stripped.match_indices("crate::") {
        let line = stripped[..at].matches('\n').count() + 1;
        let after = &stripped[at + "crate::".len()..];
        match after.strip_prefix('{') {
            None => found.push((line, name_at(after))),
            Some(group) => found.extend(group_names(group).into_iter().map(|name| (line, name))),
        }
    }
    found
}

fn group_names(group: &str) -> Vec<String> {
    let mut names = vec![name_at(group)];
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name_at(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn name_at(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_after_crate_are_found_in_groups_too() {
        let code = "use crate::storage::{Storage, x::y};\nuse crate::{\n    config::Config,\n    wasm::{a, b},\n    Router,\n};\n";
        let found: Vec<String> = named_modules(code).into_iter().map(|(_, name)| name).collect();
        assert_eq!(found, ["storage", "config", "wasm", "Router"]);
    }

    #[test]
    fn a_forbidden_edge_is_named() {
        let source = Source {
            path: "host/src/http/invoke.rs".into(),
            text: "\nuse crate::wasm::Instance;".into(),
        };
        assert_eq!(
            check(&[source]),
            [Finding::new("host/src/http/invoke.rs:2", "`http` must not use `wasm`")]
        );
    }

    #[test]
    fn the_table_keeps_the_parts_apart() {
        for (from, to) in [
            ("http", "storage"),
            ("http", "wasm"),
            ("wasm", "storage"),
            ("wasm", "cluster"),
            ("storage", "wasm"),
            ("storage", "cluster"),
            ("cluster", "wasm"),
            ("cluster", "activation"),
            ("cluster", "router"),
            ("cluster", "http"),
        ] {
            let (_, allowed) = ALLOWED.iter().find(|(name, _)| *name == from).unwrap();
            assert!(!allowed.contains(&to), "{from} -> {to}");
        }
    }
}
