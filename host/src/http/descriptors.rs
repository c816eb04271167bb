//! File descriptors: as many as the system allows, and some of them kept for storage.
//!
//! Each connection costs one. Where connections use up the last, storage can't open its files, and a host whose log fails
//! ends. So the limit on connections is never above what leaves storage its own.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for everything that isn't a connection: log segments, images, modules, sled.
const KEPT: usize = 512;

/// Raises the process's soft limit to its hard one, as far as that goes, and gives the limit that holds then.
pub(super) fn raise_limit() -> usize {
    let found = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: found.maximum,
        ..found
    };
    if found.current != found.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        tracing::debug!("the limit on file descriptors can't be raised");
    }
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many connections may be open with so many descriptors.
pub(super) fn connections(wanted: usize, descriptors: usize) -> usize {
    let kept = KEPT.min(descriptors / 2);
    wanted.min(descriptors - kept).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_keeps_its_descriptors() {
        assert_eq!(connections(10_000, 20_000), 10_000);
        assert_eq!(connections(10_000, 1024), 512);
        assert_eq!(connections(10_000, 100), 50);
        assert_eq!(connections(10_000, 0), 1);
        assert_eq!(connections(10_000, usize::MAX), 10_000);
        assert!(raise_limit() > 0);
    }
}
