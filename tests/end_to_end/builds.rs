//! `granary build`: which crate of a folder it builds, and that the module is small whatever flags there are. The crates here make
//! modules that no host would take, and have no dependencies.

use std::fs;
use std::path::Path;
use std::process::Command;

use granary_tests::built;
use granary_tests::cli::{Ended, run};

const LIBRARY: &str = "#[unsafe(no_mangle)] pub extern \"C\" fn five() -> i32 { 5 }";

/// A crate whose library is a module, with a program beside it.
fn write_guest(folder: &Path, name: &str, rest: &str) {
    fs::create_dir_all(folder.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\ncrate-type = [\"cdylib\"]\n\n{rest}"
    );
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/lib.rs"), LIBRARY).unwrap();
    fs::write(folder.join("src/main.rs"), "fn main() {}").unwrap();
}

fn build(folder: &Path, words: &[&str], flags: Option<&str>) -> Ended {
    let mut command = Command::new(built::granary());
    command.arg("build").args(words).current_dir(folder);
    for variable in [
        "CARGO_TARGET_DIR",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTFLAGS",
        "CARGO_BUILD_TARGET",
    ] {
        command.env_remove(variable);
    }
    run(command.envs(flags.map(|flags| ("RUSTFLAGS", flags))))
}

/// The pages of 64 KiB that a built module begins with.
fn pages(built: &Ended) -> u64 {
    let module = fs::read(built.ok()).unwrap();
    let mut rest = &module[8..];
    loop {
        let id = rest[0];
        rest = &rest[1..];
        let length = number(&mut rest) as usize;
        let (mut section, behind) = rest.split_at(length);
        if id == MEMORY {
            // How many memories, then whether there is a maximum, then the minimum.
            section = &section[2..];
            return number(&mut section);
        }
        rest = behind;
    }
}

const MEMORY: u8 = 5;

/// In LEB128.
fn number(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for place in 0.. {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            break;
        }
    }
    number
}

#[test]
fn the_stack_is_small_beside_flags_of_others_and_theirs_holds() {
    let folder = tempfile::tempdir().unwrap();
    let guest = folder.path().join("guest");
    write_guest(&guest, "guest", "[workspace]\n");
    let small = pages(&build(&guest, &[], None));
    assert!(small <= 2, "{small}");
    assert_eq!(pages(&build(&guest, &[], Some("-Copt-level=2"))), small);
    let own = "-Clink-arg=-zstack-size=524288";
    assert!(pages(&build(&guest, &[], Some(own))) >= 8);

    let config = folder.path().join(".cargo");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.toml"), "[build]\nrustflags = [\"-Copt-level=2\"]\n").unwrap();
    assert_eq!(pages(&build(&guest, &[], None)), small);
    let own = format!("[target.wasm32-wasip1]\nrustflags = [\"{own}\"]\n");
    fs::write(config.join("config.toml"), own).unwrap();
    assert!(pages(&build(&guest, &[], None)) >= 8);
}

#[test]
fn a_workspace_builds_the_guest_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(
        root.join("Cargo.toml"),
        "[workspace]\nresolver = \"3\"\nmembers = [\"cart\", \"user\"]\n",
    )
    .unwrap();
    write_guest(&root.join("cart"), "cart", "");
    write_guest(&root.join("user"), "user", "");
    let asked = build(root, &[], None);
    asked.expect(2);
    assert!(
        asked.stderr.contains("`--package NAME`; there are cart, user"),
        "{}",
        asked.stderr
    );
    for name in ["cart", "user"] {
        let file = format!("{name}.wasm");
        let named = build(root, &["--package", name], None);
        assert!(named.ok().ends_with(&file), "{}", named.stdout);
        let of_folder = build(&root.join(name), &[], None);
        assert!(of_folder.ok().ends_with(&file), "{}", of_folder.stdout);
    }
    build(root, &["--package", "order"], None).expect(2);
}
