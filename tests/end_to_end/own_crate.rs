//! A user's own crate, outside of this repository's workspace: the README's grain, built and deployed by the command line.

use std::fs;

use granary_tests::cli::granary_in;
use granary_tests::{Host, built};

/// The block of the README that is a whole grain, so that what newcomers copy is what is tested.
fn grain_of_the_readme() -> String {
    let readme = fs::read_to_string(built::repository().join("README.md")).unwrap();
    let blocks = readme
        .split("```rust\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let grain = blocks
        .filter(|block| block.contains("export!"))
        .map(str::to_owned)
        .next();
    grain.expect("the README shows a grain with its `export!`")
}

#[test]
fn the_readmes_grain_builds_deploys_and_counts() {
    let host = Host::start();
    let folder = host.scratch().join("counter");
    fs::create_dir_all(folder.join("src")).unwrap();
    let sdk = built::repository().canonicalize().unwrap().join("guest-sdk");
    let manifest = format!(
        "[package]\nname = \"counter\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [lib]\ncrate-type = [\"cdylib\"]\n\n[dependencies]\ngranary-sdk = {{ path = {sdk:?} }}\n\n[workspace]\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/lib.rs"), grain_of_the_readme()).unwrap();
    // The same versions as here, so that nothing has to be downloaded.
    fs::copy(built::repository().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();

    // Kept from run to run: what the grain depends on is compiled once.
    let target = built::granary().with_file_name("own-crate-target");
    granary_in(&folder, &host, &["deploy"], &[("CARGO_TARGET_DIR", &target)]).expect(0);
    assert_eq!(
        granary_in(&folder, &host, &["call", "counter/alice", "add", "n=5"], &[]).ok(),
        "5"
    );
}
