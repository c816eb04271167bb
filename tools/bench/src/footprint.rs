//! What the kernel says that a process takes.

use std::os::unix::fs::MetadataExt;

use crate::Outcome;

/// One look at it, in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Its share of every page that it has mapped.
    pub(crate) pss: u64,
    /// Page tables, which no PSS counts.
    pub(crate) tables: u64,
    /// Private memory: heap, stacks, copies.
    pub(crate) private: u64,
    /// Pages of its memory file that are there and not mapped: PSS alone would miss them.
    pub(crate) unmapped: u64,
    /// Kernel mappings.
    pub(crate) mappings: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Outcome<Usage> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        let rollup = read("smaps_rollup")?;
        Ok(Usage {
            pss: kib(&rollup, "Pss:")?,
            tables: kib(&read("status")?, "VmPTE:")?,
            private: kib(&rollup, "Pss_Anon:")?,
            unmapped: memory_file_kib(pid)?.saturating_sub(kib(&rollup, "Pss_Shmem:")?),
            mappings: read("maps")?.lines().count() as u64,
        })
    }

    /// KiB for each of so many grains since an earlier look.
    pub(crate) fn each(&self, before: &Usage, grains: usize) -> f64 {
        let sum = |usage: &Usage| usage.pss + usage.tables + usage.unmapped;
        sum(self).saturating_sub(sum(before)) as f64 / grains as f64
    }
}

/// A figure in a text of the kernel's, in KiB.
pub(crate) fn kib(text: &str, name: &str) -> Outcome<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .ok_or("the kernel doesn't say")?;
    Ok(value.trim().trim_end_matches("kB").trim().parse()?)
}

/// Blocks of the file that grains' memories lie in.
pub(crate) fn memory_file_kib(pid: u32) -> Outcome<u64> {
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        if std::fs::read_link(&path).is_ok_and(|link| link.to_string_lossy().contains("memfd:granary-memories")) {
            // Of 512 bytes.
            return Ok(std::fs::metadata(&path)?.blocks() / 2);
        }
    }
    Ok(0)
}
