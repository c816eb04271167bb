//! What a host keeps is for its owner's eyes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use granary_tests::Host;

/// All files and folders below one, itself included, with their modes.
fn all(path: &Path, found: &mut Vec<(PathBuf, u32)>) {
    let facts = std::fs::symlink_metadata(path).unwrap();
    found.push((path.to_owned(), facts.permissions().mode() & 0o777));
    if facts.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            all(&entry.unwrap().path(), found);
        }
    }
}

#[test]
fn a_data_folder_is_closed_to_others_whatever_the_umask_is() {
    let mut host = Host::prepared(&["--cluster-listen", "127.0.0.1:0"])
        .compiling()
        .wrapped(&["sh", "-c", "umask 000; exec \"$0\" \"$@\""]);
    host.start_again();
    host.deploy("counter");
    host.client().call("counter/a/add", "[1]").expect(200);
    // An open folder of an earlier time is closed, too.
    host.kill();
    std::fs::set_permissions(host.data(), std::fs::Permissions::from_mode(0o755)).unwrap();
    host.start_again();
    let mut found = Vec::new();
    all(&host.data(), &mut found);
    let open: Vec<_> = found.iter().filter(|(_, mode)| mode & 0o077 != 0).collect();
    assert!(open.is_empty() && found.len() > 10, "{open:?} of {}", found.len());
}
