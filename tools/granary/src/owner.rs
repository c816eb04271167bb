//! The way in for the owner of a host's data folder: HTTP on the socket in it, without a token.
//!
//! A host on the same machine says where the socket is when it refuses a request that came without a token. The socket gives no secret away, and only a
//! socket of the user who runs this is used: another user's program that pretends to be the host learns nothing.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use ureq::config::Config;
use ureq::http::{Response, StatusCode, Uri};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};
use ureq::{Agent, Error};

use crate::early_answer::EarlyAnswer;

/// The socket's name in a data folder.
const NAME: &str = "admin.sock";
/// The header of a refusal that has its path.
const HEADER: &str = "granary-owner-socket";
/// What stands for a host in URLs.
pub(crate) const URL: &str = "http://localhost";

/// The socket in a data folder.
pub(crate) fn socket_in(data: &Path) -> PathBuf {
    data.join(NAME)
}

/// The socket that a host's refusal names, if the host is on this machine.
pub(crate) fn socket_named(refusal: &Response<ureq::Body>, host: &str) -> Option<PathBuf> {
    if refusal.status() != StatusCode::UNAUTHORIZED || !is_here(host) {
        return None;
    }
    let path = refusal.headers().get(HEADER)?.to_str().ok()?;
    let path: Vec<u8> = percent_decode_str(path).collect();
    Some(PathBuf::from(std::ffi::OsString::from_vec(path)))
}

/// Whether a URL leads to this machine for certain.
fn is_here(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return false };
    let host = url.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether a request failed before it was sent: nobody listens there, or not for this user.
pub(crate) fn is_shut(error: &Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    matches!(error, Error::Io(error) if matches!(error.kind(), ConnectionRefused | NotFound | PermissionDenied))
}

/// Sends requests by a socket.
pub(crate) fn agent(config: Config, socket: PathBuf) -> Agent {
    Agent::with_parts(config, Socket(socket).chain(EarlyAnswer), DefaultResolver::default())
}

/// Connects to the socket, whatever a URL says.
#[derive(Debug)]
struct Socket(PathBuf);

impl Socket {
    fn open(&self) -> io::Result<UnixStream> {
        let Socket(path) = self;
        let say = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let found = fs::metadata(path).map_err(say)?;
        let me = fs::metadata("/proc/self")?.uid();
        if !found.file_type().is_socket() || (found.uid() != me && me != 0) {
            let why = format!("{} is no socket of this user", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        // A socket's address has 108 bytes, a path 4,096: the folder is named by its descriptor.
        let folder = File::open(path.parent().unwrap_or(Path::new("."))).map_err(say)?;
        UnixStream::connect(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd())).map_err(say)
    }
}

impl Connector<()> for Socket {
    type Out = Stream;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Stream>, Error> {
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        let stream = self.open()?;
        Ok(Some(Stream { stream, buffers }))
    }
}

#[derive(Debug)]
struct Stream {
    stream: UnixStream,
    buffers: LazyBuffers,
}

impl Transport for Stream {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream
            .set_write_timeout(timeout.for_write().not_zero().map(|time| *time))?;
        let written = self.stream.write_all(&self.buffers.output()[..amount]);
        written.map_err(|error| in_time(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream
            .set_read_timeout(timeout.for_read().not_zero().map(|time| *time))?;
        let read = self.stream.read(self.buffers.input_append_buf());
        let count = read.map_err(|error| in_time(error, timeout))?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        // Each connection is for one request: nothing is gained by keeping one.
        false
    }
}

fn in_time(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_taken_from_hosts_of_this_machine_only() {
        for here in [
            "http://127.0.0.1:7777",
            "http://localhost",
            "http://[::1]:7777/",
            "http://LOCALHOST:1",
        ] {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in [
            "http://10.0.0.1:7777",
            "http://localhost.example",
            "https://granary.example",
            "x",
            "",
        ] {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn what_is_no_socket_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = socket_in(folder.path());
        let open = || Socket(path.clone()).open().unwrap_err().to_string();
        assert!(open().contains("admin.sock: No such file"), "{}", open());
        fs::write(&path, "no socket").unwrap();
        assert!(open().contains("no socket of this user"), "{}", open());
    }
}
