//! Outside tools that a test wants. A test without its tool says so in one line that `cargo xtask test` counts.

use std::io::Write;
use std::process::{Command, Stdio};

/// Whether `tool` can be run; if not, says that the test `name` is skipped.
pub fn is_there(name: &str, tool: &str) -> bool {
    let found = Command::new(tool)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        skip(name, tool);
    }
    found
}

/// Says that the test `name` is skipped because it wants `tool`.
pub fn skip(name: &str, tool: &str) {
    // Not by `println!`: the test runner would keep that for itself when the test passes.
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(format!("\nskipped: {name} wants {tool}\n").as_bytes());
    let _ = stdout.flush();
}
