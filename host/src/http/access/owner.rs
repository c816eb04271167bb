//! The owner's socket: HTTP on a Unix socket in the data folder. Whoever can open it is the folder's owner, and may do everything.
//!
//! The command line needs no secret this way: a host on the same machine tells it where the socket is when it refuses a request without a
//! token, and the system lets only the folder's owner (and root) connect.
//!
//! **Not here:** what administration is (`rights`).

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// See the file's text.
#[derive(Debug)]
pub struct OwnerSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl OwnerSocket {
    /// The socket's name in the data folder.
    pub(crate) const NAME: &str = "admin.sock";

    /// Listens in a data folder. What an earlier process has left there is replaced: the folder is this one's alone.
    pub fn open(data: &Path) -> io::Result<OwnerSocket> {
        let path = fs::canonicalize(data)?.join(OwnerSocket::NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // A socket's address has 108 bytes, a path 4,096: the folder is named by its descriptor.
        let folder = File::open(data)?;
        let address = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), OwnerSocket::NAME);
        let listener = UnixListener::bind(address)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(OwnerSocket { listener, path })
    }

    /// Where it is.
    pub(in crate::http) fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection. Dropping the future loses none.
    pub(in crate::http) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for OwnerSocket {
    fn drop(&mut self) {
        // Whoever finds it later would learn no more than that nobody listens.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileTypeExt;

    use super::*;

    #[tokio::test]
    async fn it_is_for_its_owner_however_long_its_path_is_and_replaces_one_that_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("d".repeat(200));
        fs::create_dir(&data).unwrap();
        fs::write(data.join(OwnerSocket::NAME), "left behind").unwrap();
        let socket = OwnerSocket::open(&data).unwrap();
        let found = fs::metadata(socket.path()).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        let at = File::open(&data).unwrap();
        let address = format!("/proc/self/fd/{}/{}", at.as_raw_fd(), OwnerSocket::NAME);
        let (connected, accepted) = tokio::join!(UnixStream::connect(address), socket.accept());
        connected.unwrap();
        accepted.unwrap();
        let path = socket.path().to_owned();
        drop(socket);
        assert!(!path.exists());
    }
}
