//! A data folder is for its owner's eyes: grains' states are in it, and in a cluster what makes a process one of its hosts.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::Mode;

/// Closes the folder to others, and all files and folders that this process makes from now on, whatever its umask was: those of libraries
/// that take no mode, too.
pub(super) fn keep(dir: &Path) -> io::Result<()> {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(|error| {
        let what = format!(
            "{} can't be closed to other users: {error}. It has to belong to the user who runs the host",
            dir.display()
        );
        io::Error::new(error.kind(), what)
    })
}
