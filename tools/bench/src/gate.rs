//! What the snapshot store costs with very many small grains: whether it can stay what it is.
//!
//! A process of its own commits one small change for each grain and closes the storage, another one opens it again: their
//! memory and time are the storage's alone.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use granary_core::commit::{Change, Commit, Delta};
use granary_core::id::{Ballot, GrainKey, GrainName, GrainType, Lsn, ModuleHash, Revision, Seq};
use granary_core::page::{PAGE_SIZE, Page, Patches};
use granary_host::storage::{DurableSink, SledStorage, Storage, StorageConfig, StorageError};

use crate::Outcome;
use crate::memory::Footprint;

const GRAINS: usize = 1_000_000;
/// What the design allows; above it the heads of grains have to share values.
const RSS_LIMIT_KIB: u64 = 4 << 20;

/// Writes and opens in children and prints what each took.
pub(crate) fn measure(is_quick: bool) -> Outcome<()> {
    let grains = if is_quick { GRAINS / 10 } else { GRAINS };
    let program = std::env::current_exe()?;
    let folder = tempfile::Builder::new()
        .prefix("granary-gate-")
        .tempdir_in(program.parent().ok_or("this program is nowhere")?)?;
    let child = |part: &str| -> Outcome<Report> {
        let output = Command::new(&program)
            .arg(part)
            .arg(folder.path())
            .arg(grains.to_string())
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        Report::read(&String::from_utf8(output.stdout)?)
    };
    let written = child("gate-write")?;
    let opened = child("gate-open")?;
    let all_read = child("gate-read")?;
    println!("| {grains} small grains in the snapshot store | time s | peak memory MiB | disk MiB |");
    println!("|---|---|---|---|");
    let disk = disk_mib(folder.path())?;
    for (what, report) in [
        ("write all, checkpoint, close", &written),
        ("open, read one", &opened),
        ("open, read all", &all_read),
    ] {
        println!("| {what} | {:.2} | {} | {disk} |", report.seconds, report.rss_kib >> 10);
    }
    let most = written.rss_kib.max(opened.rss_kib).max(all_read.rss_kib);
    let verdict = if most <= RSS_LIMIT_KIB { "within" } else { "ABOVE" };
    println!("\nmemory is {verdict} the limit of {} MiB\n", RSS_LIMIT_KIB >> 10);
    Ok(())
}

/// In a child: commits one change for each grain, then closes.
pub(crate) fn write(folder: &Path, grains: usize) -> Outcome<()> {
    let started = Instant::now();
    let storage = open(folder)?;
    let ballot = Ballot {
        counter: 1,
        host: storage.host(),
        incarnation: storage.incarnation(),
    };
    let change = Change::Delta(small_delta());
    for number in 0..grains {
        while let Err(StorageError::Overloaded) = storage.admit() {
            std::thread::sleep(Duration::from_millis(1));
        }
        storage.append(&Commit {
            grain: name(number)?,
            ballot,
            seq: Seq(1),
            prev_hash: [0; 16],
            module: ModuleHash([7; 32]),
            revision: Revision(1),
            change: change.clone(),
            replies: Vec::new(),
        });
    }
    storage.close();
    let left = storage.stats().dirty_grains;
    if left > 0 {
        return Err(format!("{left} grains are in the log only: the store wasn't measured").into());
    }
    report(started)
}

/// In a child: opens and reads one grain, or every grain.
pub(crate) fn open_again(folder: &Path, grains: usize, read_all: bool) -> Outcome<()> {
    let started = Instant::now();
    let storage = open(folder)?;
    let read = if read_all {
        0..grains
    } else {
        grains / 2..grains / 2 + 1
    };
    for number in read {
        match storage.load(&name(number)?)? {
            Some(stored) if stored.head.seq == Seq(1) => {}
            other => return Err(format!("a grain came back as {other:?}").into()),
        }
    }
    report(started)
}

fn open(folder: &Path) -> Outcome<Arc<SledStorage>> {
    let storage = SledStorage::open(folder, StorageConfig::default())?;
    storage.set_sink(Arc::new(Deaf));
    Ok(storage)
}

fn name(number: usize) -> Outcome<GrainName> {
    Ok(GrainName::new(
        GrainType::new("counter")?,
        GrainKey::new(&format!("key-{number}"))?,
    ))
}

/// What a counter's first turn leaves: a few changed bytes on four pages.
fn small_delta() -> Delta {
    let before: Page = [0; PAGE_SIZE];
    let mut patches = Patches::new();
    for index in [1, 15, 16, 20] {
        let mut after = before;
        after[100..140].copy_from_slice(&[index as u8; 40]);
        patches.push_changes(index, &before, &after);
    }
    Delta {
        memory_len: 2 << 16,
        globals: vec![65_536],
        patches,
    }
}

struct Deaf;

impl DurableSink for Deaf {
    fn durable(&self, _: Lsn) {}
}

/// What a child says: seconds and KiB.
#[derive(Debug)]
struct Report {
    seconds: f64,
    rss_kib: u64,
}

impl Report {
    fn read(text: &str) -> Outcome<Report> {
        let (seconds, rss) = text.trim().split_once(' ').ok_or("the child said nothing")?;
        Ok(Report {
            seconds: seconds.parse()?,
            rss_kib: rss.parse()?,
        })
    }
}

fn report(started: Instant) -> Outcome<()> {
    println!(
        "{} {}",
        started.elapsed().as_secs_f64(),
        Footprint::of(std::process::id())?.peak_rss_kib
    );
    Ok(())
}

fn disk_mib(folder: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut blocks = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            blocks += metadata.blocks();
        }
    }
    Ok((blocks * 512) >> 20)
}
