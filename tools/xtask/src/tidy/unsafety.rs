//! Where unsafe code may be: in the few files whose subject is raw memory, machine code or a symbol. Each has its reason.

use super::code::{strip, words};
use super::{Finding, Source};

/// A path's start, and why unsafe code is needed there.
const ALLOWED: &[(&str, &str)] = &[
    (
        "host/src/wasm/slab",
        "linear memories are slices of one mapping that we own",
    ),
    ("host/src/wasm/stacks", "so are the stacks of fibers"),
    (
        "host/src/wasm/module",
        "loads machine code that this host compiled itself",
    ),
    (
        "host/src/snapshot/dirty",
        "userfaultfd and PAGEMAP_SCAN are reached by ioctl",
    ),
    (
        "host/src/storage/sync_shim",
        "defines the symbol that makes the snapshot store's syncs real",
    ),
    (
        "host/src/activation/budget/heap",
        "tells the C library's allocator to give back what is freed",
    ),
    ("guest-sdk/src/bindings", "generated: the canonical ABI passes pointers"),
];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let is_allowed = ALLOWED.iter().any(|(start, _)| source.path.starts_with(start));
        let stripped = strip(&source.text);
        for (line, _) in words(&stripped).filter(|(_, word)| *word == "unsafe") {
            let place = format!("{}:{line}", source.path);
            if !is_allowed {
                findings.push(Finding::new(
                    place,
                    "unsafe code lives in few files only (tools/xtask/src/tidy/unsafety.rs)",
                ));
            } else if !has_reason(&source.text, line) {
                findings.push(Finding::new(
                    place,
                    "an unsafe block says in a `SAFETY:` comment why it holds",
                ));
            }
        }
    }
    findings
}

/// Whether a comment just before the line, or on it, says why. A function that is unsafe says it in its docs.
fn has_reason(text: &str, line: usize) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let says = |text: &str| text.contains("SAFETY:") || text.contains("# Safety");
    if says(lines[line - 1]) {
        return true;
    }
    // A statement may begin some lines before its unsafe block; attributes and docs may stand in between.
    lines[..line - 1].iter().rev().take(12).any(|line| says(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&[Source {
            path: path.into(),
            text: text.into(),
        }])
        .len()
    }

    #[test]
    fn unsafe_code_stays_where_it_belongs() {
        let code = "// SAFETY: the pointer is ours.\nlet x = unsafe { *pointer };\n";
        assert_eq!(found("host/src/wasm/slab.rs", code), 0);
        assert_eq!(found("host/src/http/invoke.rs", code), 1);
        assert_eq!(
            found("host/src/http/invoke.rs", "// unsafe\nlet unsafe_code = \"unsafe\";"),
            0
        );
    }

    #[test]
    fn an_unsafe_block_gives_its_reason() {
        assert_eq!(found("host/src/wasm/slab.rs", "let x = unsafe { *pointer };\n"), 1);
    }
}
