//! How much memory there is for this process: the machine's, or less if a cgroup says so.

use std::path::Path;

/// Percent of what is there that a host takes by default. The rest is for the page cache, which the log and the snapshot
/// store live on, and for others.
const SHARE_PERCENT: u64 = 60;
/// The least budget: below it a host can hardly hold its own caches.
pub(crate) const FLOOR: u64 = 128 << 20;
/// For when nothing can be read.
const UNKNOWN: u64 = 2 << 30;

/// The budget when nobody names one.
pub(crate) fn default_budget() -> u64 {
    share(available(Path::new("/")).unwrap_or(UNKNOWN))
}

fn share(available: u64) -> u64 {
    (available / 100 * SHARE_PERCENT).max(FLOOR)
}

/// The smaller of the machine's memory and the cgroup's limit, below `root`.
fn available(root: &Path) -> Option<u64> {
    let machine = std::fs::read_to_string(root.join("proc/meminfo"))
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim();
            line.strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        });
    machine.into_iter().chain(cgroup(root)).min()
}

/// The lowest limit of this process' cgroup and of those above it, in either version.
fn cgroup(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (kinds, path) = (fields.next()?, fields.next()?);
        let (mount, file) = if kinds.is_empty() {
            ("sys/fs/cgroup", "memory.max")
        } else if kinds.split(',').any(|kind| kind == "memory") {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            return None;
        };
        // In a container the path may be one of the machine's: then only the mount's own root is there.
        let group = Path::new(path.trim_start_matches('/'));
        let folders = group.ancestors().map(|group| root.join(mount).join(group));
        folders
            .filter_map(|folder| {
                std::fs::read_to_string(folder.join(file))
                    .ok()?
                    .trim()
                    .parse::<u64>()
                    .ok()
            })
            .min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal:       8000000 kB\nMemFree: 1 kB\n");

    #[test]
    fn without_a_cgroup_it_is_the_machines_memory() {
        assert_eq!(available(root(&[MACHINE]).path()), Some(8_000_000 * 1024));
        assert_eq!(available(root(&[]).path()), None);
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let group = ("proc/self/cgroup", "0::/a/b\n");
        let version_2 = [
            MACHINE,
            group,
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.max", "1000000\n"),
        ];
        assert_eq!(available(root(&version_2).path()), Some(1_000_000));
        let group = ("proc/self/cgroup", "9:cpu:/x\n4:memory:/a/b\n0::/\n");
        let version_1 = [
            MACHINE,
            group,
            ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "2000000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(available(root(&version_1).path()), Some(2_000_000));
    }

    #[test]
    fn a_group_that_cannot_be_seen_falls_back_to_its_mount() {
        let files = [
            MACHINE,
            ("proc/self/cgroup", "0::/../elsewhere/container\n"),
            ("sys/fs/cgroup/memory.max", "3000000\n"),
        ];
        assert_eq!(available(root(&files).path()), Some(3_000_000));
    }

    #[test]
    fn a_share_is_taken_but_never_too_little() {
        assert_eq!(share(10 << 30), (10 << 30) / 100 * 60);
        assert_eq!(share(64 << 20), FLOOR);
    }
}
