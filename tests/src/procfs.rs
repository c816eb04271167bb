//! What the kernel says of a process in `/proc`: its memory, its open descriptors.

use std::fs;
use std::path::PathBuf;

/// Bytes in a field of the process' status, for example `VmRSS:`.
pub fn bytes(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// Whether none of its threads runs, by SIGSTOP.
pub fn is_stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut states = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    states.all(|status| status.contains("\nState:\tT"))
}

/// Its open descriptors, and what each leads to, but for the files of storage: the log's segments are made as they are needed, up to its
/// limit, and kept, so that whoever writes has it make them.
pub fn descriptors(pid: u32) -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let open = entries.map(|entry| (entry.path(), fs::read_link(entry.path()).unwrap_or_default()));
    open.filter(|(_, target)| {
        let target = target.to_string_lossy();
        !target.contains("/data/log/") && !target.contains("/data/images/")
    })
    .collect()
}
