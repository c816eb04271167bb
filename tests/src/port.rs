//! Ports that are a test's own for as long as its process runs, so that a host finds its port free again after a restart.
//!
//! A port that was free a moment ago, as the system gives one, may be another program's by the time a host binds it. These lie below
//! the range from which the system gives any, and a lock on a file tells the tests of this machine apart.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below 32,768, where Linux begins to give ports by itself, and above what well-known programs use.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// Held until the process ends.
static LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());
/// How many this process has tried: processes begin at different places.
static TRIED: AtomicU16 = AtomicU16::new(0);

/// A UDP port of the loopback address that nobody else uses.
pub fn own() -> SocketAddr {
    let folder = folder();
    std::fs::create_dir_all(&folder).unwrap();
    let begin = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (begin + tried) % COUNT;
        let lock = File::create(folder.join(port.to_string())).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if lock.try_lock().is_ok() && UdpSocket::bind(address).is_ok() {
            LOCKS.lock().unwrap().push(lock);
            return address;
        }
    }
    panic!("no port from {FIRST} to {} is free", FIRST + COUNT);
}

/// One for each user: nobody can lock another's files. Not below `TMPDIR`, which is another one for each test.
fn folder() -> PathBuf {
    let user = std::fs::metadata("/proc/self").unwrap().uid();
    PathBuf::from(format!("/tmp/granary-test-ports-{user}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_stay_their_owners() {
        let [one, other] = [own(), own()];
        assert_ne!(one, other);
        let again = File::open(folder().join(one.port().to_string())).unwrap();
        assert!(again.try_lock().is_err(), "it isn't locked");
        // It's free for the host that gets it.
        drop(UdpSocket::bind(one).unwrap());
        drop(UdpSocket::bind(one).unwrap());
    }
}
