//! What a resident grain costs: memory and kernel mappings.
//!
//! PSS alone would flatter: pages of grains' memories that a guest has not touched are in the memory file without being mapped.
//! So the file counts by its blocks, and page tables count, too.

use crate::Outcome;
use crate::footprint::{kib, memory_file_kib};
use crate::host::Server;
use crate::load::{self, Call};

/// Enough that the host itself disappears in the average.
const GRAINS: usize = 20_000;

pub(crate) fn measure(is_quick: bool) -> Outcome<()> {
    let grains = if is_quick { GRAINS / 10 } else { GRAINS };
    let server = Server::granary_with(&[], &["--idle-timeout", "1h"])?;
    load::touch(server.address(), &Call::add("counter", "key-"), 1)?;
    let before = Footprint::of(server.pid())?;
    load::touch(server.address(), &Call::add("counter", "key-"), grains)?;
    let after = Footprint::of(server.pid())?;
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / grains as f64;
    let memories = each(before.memories_kib, after.memories_kib);
    let private = each(before.private_kib, after.private_kib);
    let tables = each(before.page_tables_kib, after.page_tables_kib);
    println!("| resident grains | KiB each | of it memory | private | page tables | kernel mappings each |");
    println!("|---|---|---|---|---|---|");
    println!(
        "| {grains} | {:.1} | {memories:.1} | {private:.1} | {tables:.1} | {:.4} |\n",
        memories + private + tables,
        each(before.mappings, after.mappings),
    );
    Ok(())
}

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    /// The file that grains' memories lie in.
    memories_kib: u64,
    /// Heap and stacks.
    private_kib: u64,
    page_tables_kib: u64,
    mappings: u64,
    pub(crate) peak_rss_kib: u64,
}

impl Footprint {
    pub(crate) fn of(pid: u32) -> Outcome<Footprint> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        Ok(Footprint {
            memories_kib: memory_file_kib(pid)?,
            private_kib: kib(&read("smaps_rollup")?, "Pss_Anon:")?,
            page_tables_kib: kib(&read("status")?, "VmPTE:")?,
            mappings: read("maps")?.lines().count() as u64,
            peak_rss_kib: kib(&read("status")?, "VmHWM:")?,
        })
    }
}
