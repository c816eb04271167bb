//! How much disk is taken while far more is written than lives: at most eight times the live data and a fixed amount.
//!
//! Real files, and samples all the time. Grains are of three sizes, so that each part has its share: images in the snapshot store, images
//! that just don't fit there, and long ones. Soak has the defaults of the configuration and a gigabyte, an ordinary run
//! less of both.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use granary_core::commit::{Change, Delta, Head};
use granary_core::page::{PAGE_SIZE, Patches};

use super::noise::Noise;
use super::suite::{append, commit, grain};
use super::*;

const GRAINS: usize = 1000;
/// How much is written, and what may be there.
struct Sizes {
    /// Bytes of deltas where the bound is tightest, and elsewhere.
    many: u64,
    some: u64,
    /// What may be there beside eight times the live data: the log, and what the snapshot store takes however little lives.
    fixed: u64,
    /// Of the usual sizes of segments, files and limits the configuration has this part.
    part: u64,
}

const SOAK: Sizes = Sizes {
    many: 1 << 30,
    some: 384 << 20,
    fixed: 256 << 20,
    part: 1,
};

const USUAL: Sizes = Sizes {
    many: 320 << 20,
    some: 192 << 20,
    fixed: 128 << 20,
    part: 8,
};

fn sizes() -> Sizes {
    let is_soak = std::env::var_os("GRANARY_SOAK").is_some();
    if is_soak { SOAK } else { USUAL }
}

/// Bytes on the disk below `dir`. Files may go while they are counted.
fn disk_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => disk_bytes(&entry.path()),
        Ok(about) => about.blocks() * 512,
        Err(_) => 0,
    });
    bytes.sum()
}

/// Writes `total` bytes to `GRAINS` grains of `pages` pages each, `bytes` of noise a commit, and returns the most that was on
/// the disk.
fn grow(total: u64, pages: usize, bytes: usize) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let (usual, part) = (StorageConfig::default(), sizes().part);
    let config = StorageConfig {
        reserve_percent: 0,
        reserve_bytes: 0,
        segment_bytes: usual.segment_bytes / part as u32,
        log_limit_bytes: usual.log_limit_bytes / part,
        image_file_bytes: usual.image_file_bytes / part,
        ballast_bytes: usual.ballast_bytes / part,
        ..usual
    };
    let storage = SledStorage::open(dir.path(), config).unwrap();
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(disk_bytes(dir.path()), Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        write_all(&*storage, total, pages, bytes);
        storage.close();
        done.store(true, Ordering::Relaxed);
    });
    most.into_inner().max(disk_bytes(dir.path()))
}

fn write_all(storage: &dyn Storage, total: u64, pages: usize, bytes: usize) {
    let mut noise = Noise::new(7);
    let mut heads: Vec<Option<Head>> = vec![None; GRAINS];
    let mut memory = vec![[0; PAGE_SIZE]; pages];
    let mut written = 0;
    while written < total {
        let which = noise.below(GRAINS as u64) as usize;
        let mut patches = Patches::new();
        // At first all of it, so that the live data is known.
        let dirty = if heads[which].is_none() {
            pages
        } else {
            bytes.div_ceil(PAGE_SIZE)
        };
        let first = noise.below((pages - dirty + 1) as u64) as usize;
        for (index, page) in memory.iter_mut().enumerate().skip(first).take(dirty) {
            let before = *page;
            noise.fill(&mut page[..bytes.min(PAGE_SIZE)]);
            patches.push_changes(index as u32, &before, page);
        }
        written += patches.as_bytes().len() as u64;
        let delta = Delta {
            memory_len: (pages * PAGE_SIZE) as u64,
            globals: vec![1],
            patches,
        };
        while storage.admit().is_err() {
            std::thread::yield_now();
        }
        let name = grain(&format!("grain-{which}"));
        let (head, _) = append(storage, &commit(&name, heads[which].as_ref(), Change::Delta(delta)));
        heads[which] = Some(head);
    }
}

#[test]
fn the_disk_is_bounded_while_short_states_are_written() {
    let live = (GRAINS * 2048) as u64;
    let most = grow(sizes().many, 1, 2048);
    assert!(most <= 8 * live + sizes().fixed, "{most} bytes for {live} that live");
}

#[test]
fn the_disk_is_bounded_while_states_that_just_miss_the_store_are_written() {
    let live = (GRAINS * 2 * PAGE_SIZE) as u64;
    let most = grow(sizes().some, 2, PAGE_SIZE);
    assert!(most <= 8 * live + sizes().fixed, "{most} bytes for {live} that live");
}

#[test]
fn the_disk_is_bounded_while_long_states_are_written() {
    let live = (GRAINS * 16 * PAGE_SIZE) as u64;
    let most = grow(sizes().some, 16, PAGE_SIZE);
    assert!(most <= 8 * live + sizes().fixed, "{most} bytes for {live} that live");
}
