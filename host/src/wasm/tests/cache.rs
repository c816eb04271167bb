//! Compiled modules on the disk: used when they're whole, never trusted when they aren't.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use granary_core::id::ModuleHash;

use super::guest::*;
use crate::wasm::{Engine, WasmConfig};

fn engine_with(folder: &Path) -> Arc<Engine> {
    Engine::new(&WasmConfig {
        cache: Some(folder.to_owned()),
        ..config()
    })
    .unwrap()
}

fn compiled(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|kind| kind == "code"));
    files.sort();
    files
}

fn works(folder: &Path) {
    let engine = engine_with(folder);
    assert_eq!(add(&mut Guest::default().start(&engine), 5), 5);
}

#[test]
fn what_was_compiled_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    works(folder.path());
    let files = compiled(folder.path());
    assert_eq!(files.len(), 1);
    let before = fs::read(&files[0]).unwrap();
    works(folder.path());
    assert_eq!(compiled(folder.path()), files);
    assert!(fs::read(&files[0]).unwrap() == before);
}

#[test]
fn a_damaged_file_is_compiled_anew() {
    let folder = tempfile::tempdir().unwrap();
    works(folder.path());
    let path = compiled(folder.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let mut damaged: Vec<Vec<u8>> = vec![Vec::new(), whole[..20].to_vec(), whole[..whole.len() - 1].to_vec()];
    for at in [0, 9, 40, 41, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        damaged.push(bytes);
    }
    for bytes in damaged {
        fs::write(&path, &bytes).unwrap();
        works(folder.path());
        // Compiling again gives other bytes than the damaged ones.
        assert!(fs::read(&path).unwrap() != bytes);
    }
}

#[test]
fn a_file_of_another_key_or_name_is_compiled_anew() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    works(ours.path());
    works(theirs.path());
    let (path, foreign) = (compiled(ours.path()).remove(0), compiled(theirs.path()).remove(0));
    assert_eq!(path.file_name(), foreign.file_name());
    fs::copy(&foreign, &path).unwrap();
    works(ours.path());
    assert!(
        fs::read(&path).unwrap() != fs::read(&foreign).unwrap(),
        "another host's signature was taken"
    );
    // A good file under another module's name: it must not run in that one's place.
    let engine = engine_with(ours.path());
    let other = Guest::calling(ECHO);
    other.compile(&engine);
    let second = compiled(ours.path()).into_iter().find(|file| *file != path).unwrap();
    fs::copy(&path, &second).unwrap();
    assert_eq!(
        call(&mut other.start(&engine_with(ours.path())), b"echo"),
        Ok(b"echo".to_vec())
    );
}

#[test]
fn a_lost_or_torn_key_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    works(folder.path());
    let key = folder.path().join("key");
    fs::write(&key, b"half").unwrap();
    works(folder.path());
    assert_eq!(fs::read(&key).unwrap().len(), 32);
    fs::remove_file(&key).unwrap();
    works(folder.path());
}

#[test]
fn a_key_that_others_could_read_or_write_is_made_anew() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    works(folder.path());
    let key = folder.path().join("key");
    let compiled_by = |key: &Path| (fs::read(key).unwrap(), fs::read(&compiled(folder.path())[0]).unwrap());
    let mut before = compiled_by(&key);
    works(folder.path());
    assert!(compiled_by(&key) == before, "a good key is kept");
    for mode in [0o644, 0o660, 0o400, 0o700] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        works(folder.path());
        let after = compiled_by(&key);
        assert!(after.0 != before.0 && after.1 != before.1, "{mode:o}");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        before = after;
    }
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&key, &elsewhere).unwrap();
    symlink(&elsewhere, &key).unwrap();
    works(folder.path());
    assert!(fs::symlink_metadata(&key).unwrap().is_file());
    assert!(fs::read(&key).unwrap() != before.0);
}

#[test]
fn the_key_and_the_folder_are_the_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    works(folder.path());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join("key")), 0o600);
    assert_eq!(mode(&compiled(folder.path())[0]), 0o600);
    assert_eq!(mode(folder.path()), 0o700);
}

#[test]
fn the_longest_unused_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::new(&WasmConfig {
        cache: Some(folder.path().to_owned()),
        cache_limit: 1,
        ..config()
    })
    .unwrap();
    Guest::default().compile(&engine);
    Guest::calling(ECHO).compile(&engine);
    assert_eq!(compiled(folder.path()).len(), 1);
}

/// Their code is the same; what they say of themselves isn't.
#[test]
fn modules_that_differ_in_their_data_only_have_each_its_own_description() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let engine = engine_with(folder.path());
        for (extra, said) in [
            (r#"(data (i32.const 66100) "{}")"#, b"{}"),
            (r#"(data (i32.const 66100) "[]")"#, b"[]"),
        ] {
            let wasm = Guest {
                extra,
                ..Guest::default()
            }
            .wasm();
            let hash = ModuleHash(*blake3::hash(&wasm).as_bytes());
            assert_eq!(run(engine.prepare(hash, wasm)).unwrap().document, said);
        }
        assert_eq!(compiled(folder.path()).len(), 2);
    }
}
