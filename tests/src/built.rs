//! Where the binary and the guests' modules are: named by the environment, or next to the test program.

use std::path::{Path, PathBuf};

/// The `granary` binary.
pub fn granary() -> PathBuf {
    existing(named("GRANARY_BIN").unwrap_or_else(|| release_folder().join("granary")))
}

/// A host with a fault, see tests/sabotaged.
pub fn sabotaged() -> PathBuf {
    existing(named("GRANARY_SABOTAGED_BIN").unwrap_or_else(|| release_folder().join("sabotaged")))
}

/// The module of one of this repository's guests, by its crate's name.
pub fn module(name: &str) -> PathBuf {
    let folder = named("GRANARY_GUESTS").unwrap_or_else(|| release_folder().join("../wasm32-wasip1/release"));
    existing(folder.join(format!("{}.wasm", name.replace('-', "_"))))
}

/// The bytes of such a module.
pub fn module_bytes(name: &str) -> Vec<u8> {
    let path = module(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folder with the guests' machine code, if it was made beforehand.
pub fn compiled() -> Option<PathBuf> {
    named("GRANARY_GUESTS_COMPILED").map(existing)
}

/// The root of this repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// Test programs run from `target/release/deps`.
fn release_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(2).unwrap().to_owned()
}

fn existing(path: PathBuf) -> PathBuf {
    assert!(
        path.exists(),
        "{} is missing: `cargo xtask test` builds it",
        path.display()
    );
    path
}
