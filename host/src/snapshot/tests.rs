//! One suite for every way of finding changed pages.

use std::sync::Arc;

use granary_core::commit::Delta;
use granary_core::page::{PAGE_SIZE, Page, Patches};

use super::dirty::Mapping;
use super::{BaseImage, Choice, Method, SnapshotConfig, Span, Tracker, Tracking};

/// The reservation: a memory of at most 64 pages behind some that belong to nobody.
const FIRST: usize = 8;
const PAGES: usize = 64;

/// A memory of some length with its tracker, and what all collections together say that it holds.
struct Grain {
    mapping: Mapping,
    pages: usize,
    dead: std::ops::Range<usize>,
    tracking: Arc<Tracking>,
    base: Arc<BaseImage>,
    tracker: Option<Tracker>,
    parts: Vec<Delta>,
}

fn each_method(check: impl Fn(SnapshotConfig)) {
    for choice in [Choice::Userfaultfd, Choice::Compare] {
        let config = SnapshotConfig {
            choice,
            ..SnapshotConfig::default()
        };
        let mapping = Mapping::new(PAGE_SIZE).unwrap();
        match Tracking::new(&config, mapping.range()) {
            Ok(_) => check(config),
            Err(error) => eprintln!("skipped: userfaultfd wants Linux >= 6.7: {error}"),
        }
    }
}

impl Grain {
    fn new(config: &SnapshotConfig, pages: usize) -> Grain {
        let mapping = Mapping::new((FIRST + PAGES) * PAGE_SIZE).unwrap();
        let tracking = Tracking::new(config, mapping.range()).unwrap();
        let base = BaseImage::new([(3 * PAGE_SIZE as u32 + 5, &[7; 6000][..])]);
        let mut grain = Grain {
            mapping,
            pages,
            dead: 0..0,
            tracking,
            base: Arc::new(base),
            tracker: None,
            parts: Vec::new(),
        };
        let span = grain.span();
        grain.base.write_to(span.file, span.offset).unwrap();
        grain.tracker = Some(Tracker::arm(&grain.tracking, &grain.span(), &grain.base, &[]).unwrap());
        grain
    }

    fn bytes(&mut self) -> &mut [u8] {
        let end = (FIRST + self.pages) * PAGE_SIZE;
        &mut self.mapping.bytes_mut()[FIRST * PAGE_SIZE..end]
    }

    fn span(&self) -> Span<'_> {
        let whole = self.mapping.span();
        Span {
            bytes: &whole.bytes[FIRST * PAGE_SIZE..][..self.pages * PAGE_SIZE],
            offset: (FIRST * PAGE_SIZE) as u64,
            dead: self.dead.clone(),
            ..whole
        }
    }

    fn write(&mut self, page: usize, offset: usize, byte: u8) {
        self.bytes()[page * PAGE_SIZE + offset] = byte;
    }

    /// Collects, and returns which pages had changed.
    fn collect(&mut self) -> Vec<u32> {
        let mut patches = Patches::new();
        let mut tracker = self.tracker.take().unwrap();
        tracker.collect(&self.span(), &mut patches).unwrap();
        self.tracker = Some(tracker);
        let changed = patches.iter().map(|patch| patch.index).collect();
        // As it will be read.
        let patches = Patches::from_bytes(patches.as_bytes()).unwrap();
        self.parts.push(Delta {
            memory_len: (self.pages * PAGE_SIZE) as u64,
            globals: Vec::new(),
            patches,
        });
        changed
    }

    fn rest(&mut self) {
        let mut tracker = self.tracker.take().unwrap();
        tracker.rest(&self.span()).unwrap();
        self.tracker = Some(tracker);
    }

    /// What a restore from all collections would give.
    fn restored(&self) -> Vec<u8> {
        let mut memory = vec![0; self.pages * PAGE_SIZE];
        for (index, page) in memory.chunks_mut(PAGE_SIZE).enumerate() {
            page.copy_from_slice(self.base.page(index as u32));
        }
        for part in &self.parts {
            part.patches.apply(&mut memory).unwrap();
        }
        memory
    }

    fn assert_restored(&mut self) {
        let restored = self.restored();
        let dead = self.dead.clone();
        for (i, (is, should)) in restored
            .chunks(PAGE_SIZE)
            .zip(self.bytes().chunks(PAGE_SIZE))
            .enumerate()
        {
            let place = i * PAGE_SIZE;
            assert!(
                is == should || (dead.start <= place && place + PAGE_SIZE <= dead.end),
                "page {i} differs"
            );
        }
    }

    /// Forgets the tracker and begins anew with what was collected, as after an eviction.
    fn reactivate(&mut self) {
        let merged = Delta::merge(&self.parts);
        self.parts = merged.into_iter().collect();
        let restored = self.restored();
        self.bytes().copy_from_slice(&restored);
        self.tracker = None;
        self.tracker = Some(Tracker::arm(&self.tracking, &self.span(), &self.base, &self.parts).unwrap());
    }

    fn is_userfaultfd(&self) -> bool {
        self.tracking.method() == Method::Userfaultfd
    }
}

fn noise(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*seed >> 33) as usize % below
}

fn random_run(config: &SnapshotConfig, mut seed: u64) {
    let mut grain = Grain::new(config, 16);
    for _ in 0..150 {
        // Mostly the same few pages, as allocators and stacks do.
        for _ in 0..noise(&mut seed, 6) {
            let page = if noise(&mut seed, 3) > 0 {
                noise(&mut seed, 4)
            } else {
                noise(&mut seed, grain.pages)
            };
            let offset = noise(&mut seed, PAGE_SIZE);
            let byte = noise(&mut seed, 3) as u8;
            grain.write(page, offset, byte);
        }
        match noise(&mut seed, 20) {
            0 => grain.mapping.drop_entries(),
            1 if grain.pages < PAGES => grain.pages += 16,
            2 => grain.rest(),
            // A read-only turn: nothing is collected.
            3..6 => continue,
            6 => {
                grain.collect();
                grain.reactivate();
            }
            _ => {}
        }
        grain.collect();
        grain.assert_restored();
    }
}

#[test]
fn collections_add_up_to_the_memory() {
    each_method(|config| (0..20).for_each(|seed| random_run(&config, seed)));
}

#[test]
fn collections_add_up_without_room_for_copies_and_with_quick_cooling() {
    each_method(|config| {
        (0..10).for_each(|seed| {
            random_run(
                &SnapshotConfig {
                    hot_bytes: 0,
                    ..config.clone()
                },
                seed,
            )
        });
        (0..10).for_each(|seed| {
            random_run(
                &SnapshotConfig {
                    hot_bytes: 2 * PAGE_SIZE,
                    ..config.clone()
                },
                seed,
            )
        });
        (0..10).for_each(|seed| {
            random_run(
                &SnapshotConfig {
                    quiet_commits: 1,
                    ..config.clone()
                },
                seed,
            )
        });
    });
}

#[test]
fn a_page_that_did_not_change_is_not_collected() {
    each_method(|config| {
        let mut grain = Grain::new(&config, 16);
        assert_eq!(grain.collect(), [0u32; 0]);
        grain.write(3, 5, 7);
        assert_eq!(grain.collect(), [0u32; 0], "the byte was 7 before");
        grain.write(9, 0, 1);
        assert_eq!(grain.collect(), [9]);
        assert_eq!(grain.collect(), [0u32; 0]);
        grain.write(9, 0, 2);
        grain.write(9, 0, 1);
        assert_eq!(grain.collect(), [0u32; 0]);
    });
}

#[test]
fn the_first_change_is_small_since_it_is_one_of_the_base() {
    each_method(|config| {
        let mut grain = Grain::new(&config, 16);
        grain.write(3, 100, 9);
        grain.write(12, 100, 9);
        assert_eq!(grain.collect(), [3, 12]);
        assert!(grain.parts[0].patches.as_bytes().len() < 20);
    });
}

#[test]
fn changes_after_a_rest_or_a_restore_are_small_too() {
    each_method(|config| {
        let mut grain = Grain::new(&config, 16);
        grain.write(3, 100, 9);
        grain.collect();
        for step in 0..4 {
            if step % 2 == 0 {
                grain.rest()
            } else {
                grain.reactivate()
            }
            grain.write(3, 101, step);
            assert_eq!(grain.collect(), [3]);
            assert!(grain.parts.last().unwrap().patches.as_bytes().len() < 20);
            grain.assert_restored();
        }
    });
}

#[test]
fn entries_dropped_between_write_and_scan_lose_nothing() {
    each_method(|config| {
        let mut grain = Grain::new(&config, 16);
        for round in 1..10 {
            grain.write(2, 8, round);
            grain.write(11, 8, round);
            grain.mapping.drop_entries();
            assert_eq!(grain.collect(), [2, 11]);
            grain.mapping.drop_entries();
            assert_eq!(grain.collect(), [0u32; 0]);
            grain.assert_restored();
            if round == 5 {
                grain.rest();
            }
        }
    });
}

#[test]
fn what_is_not_collected_joins_the_next_collection() {
    each_method(|config| {
        let mut grain = Grain::new(&config, 16);
        grain.write(5, 1, 1);
        grain.collect();
        // Two read-only turns and a rest in between.
        grain.write(5, 2, 2);
        grain.write(6, 2, 2);
        grain.rest();
        grain.write(7, 3, 3);
        assert_eq!(grain.collect(), [5, 6, 7]);
        grain.assert_restored();
    });
}

#[test]
fn a_grown_memory_is_followed_to_its_new_end() {
    each_method(|config| {
        let mut grain = Grain::new(&config, 16);
        grain.pages = 48;
        grain.write(20, 0, 1);
        grain.write(47, PAGE_SIZE - 1, 1);
        assert_eq!(grain.collect(), [20, 47]);
        grain.write(21, 0, 1);
        assert_eq!(grain.collect(), [21]);
        grain.assert_restored();
    });
}

#[test]
fn collecting_makes_no_untouched_page_resident() {
    each_method(|config| {
        let mut grain = Grain::new(&config, 16);
        let resident = |grain: &Grain| rustix::fs::fstat(grain.mapping.span().file).unwrap().st_blocks / 8;
        assert_eq!(resident(&grain), 2, "the base image's pages");
        grain.pages = 64;
        grain.write(40, 0, 1);
        grain.collect();
        grain.write(41, 0, 1);
        grain.collect();
        assert_eq!(resident(&grain), 4);
    });
}

#[test]
fn dead_pages_are_left_out_until_they_live() {
    each_method(|config| {
        let mut grain = Grain::new(&config, 16);
        grain.write(1, 0, 1);
        assert_eq!(grain.collect(), [1]);
        grain.dead = 0..2 * PAGE_SIZE + 100;
        for page in 0..4 {
            grain.write(page, 50, 9);
        }
        // The third page is dead in part only.
        assert_eq!(grain.collect(), [2, 3]);
        grain.dead = 0..PAGE_SIZE;
        assert_eq!(grain.collect(), [1]);
        grain.dead = 0..0;
        assert_eq!(grain.collect(), [0]);
        grain.assert_restored();
    });
}

#[test]
fn a_quiet_page_cools_and_is_seen_again() {
    each_method(|config| {
        let mut grain = Grain::new(
            &SnapshotConfig {
                quiet_commits: 3,
                ..config
            },
            16,
        );
        grain.write(4, 0, 1);
        grain.write(5, 0, 1);
        grain.collect();
        let hot = |grain: &Grain| grain.tracker.as_ref().unwrap().hot_pages();
        assert_eq!(hot(&grain), 2);
        for turn in 0..5 {
            // Too many places for a short difference.
            for place in (0..PAGE_SIZE).step_by(8) {
                grain.write(5, place, turn + 1);
            }
            assert_eq!(grain.collect(), [5]);
        }
        if grain.is_userfaultfd() {
            assert_eq!(hot(&grain), 1);
            assert_eq!(grain.tracking.kept_pages(), 1);
        }
        grain.write(4, 1, 1);
        assert_eq!(grain.collect(), [4]);
        grain.assert_restored();
        drop(grain.tracker.take());
        assert_eq!(grain.tracking.kept_pages(), 0);
    });
}

#[test]
fn a_page_that_keeps_changing_in_few_places_needs_no_copy() {
    each_method(|config| {
        let mut grain = Grain::new(&config, 16);
        for turn in 0..5 {
            grain.write(5, 1, turn + 1);
            assert_eq!(grain.collect(), [5]);
            assert_eq!(grain.tracking.kept_pages(), 0);
        }
        grain.assert_restored();
    });
}

/// Allocators write to the same pages in every turn and leave them as they were: protecting such a page after every turn
/// would cost a fault and an interrupt each time.
#[test]
fn a_page_that_is_written_and_left_as_it_was_stays_hot_without_a_copy() {
    each_method(|config| {
        let mut grain = Grain::new(&config, 16);
        grain.write(4, 0, 1);
        assert_eq!(grain.collect(), [4]);
        for _ in 0..3 {
            grain.write(4, 0, 2);
            grain.write(4, 0, 1);
            grain.write(9, 0, 0);
            assert!(grain.collect().is_empty());
            let hot = grain.tracker.as_ref().unwrap().hot_pages();
            if grain.is_userfaultfd() {
                assert_eq!((hot, grain.tracking.kept_pages()), (2, 0));
            }
        }
        grain.write(4, 9, 9);
        grain.write(9, 9, 9);
        assert_eq!(grain.collect(), [4, 9]);
        grain.assert_restored();
    });
}

#[test]
fn copies_are_bounded_over_all_grains() {
    each_method(|config| {
        let mut grain = Grain::new(
            &SnapshotConfig {
                hot_bytes: 3 * PAGE_SIZE,
                ..config
            },
            64,
        );
        for turn in 1..4 {
            (20..40).for_each(|page| grain.write(page, 7, turn));
            assert_eq!(grain.collect().len(), 20);
            grain.assert_restored();
        }
        let most = if grain.is_userfaultfd() { 3 } else { 64 };
        assert!(grain.tracking.kept_pages() <= most);
    });
}

#[test]
fn writes_by_the_kernel_are_seen() {
    use std::io::Read;
    each_method(|config| {
        let mut grain = Grain::new(&config, 16);
        let mut noise = std::fs::File::open("/dev/urandom").unwrap();
        noise.read_exact(&mut grain.bytes()[10 * PAGE_SIZE..][..64]).unwrap();
        assert_eq!(grain.collect(), [10]);
        grain.assert_restored();
    });
}

#[test]
fn pages_of_noise_survive_whole() {
    each_method(|config| {
        let mut grain = Grain::new(&config, 16);
        let mut seed = 3;
        for _ in 0..5 {
            let page: Page = std::array::from_fn(|_| noise(&mut seed, 256) as u8);
            grain.bytes()[6 * PAGE_SIZE..][..PAGE_SIZE].copy_from_slice(&page);
            grain.collect();
            grain.assert_restored();
            grain.rest();
        }
    });
}

#[test]
fn a_choice_that_the_kernel_lacks_is_an_error_and_auto_falls_back() {
    // A reservation that isn't there can't be registered.
    let nowhere = (std::ptr::without_provenance(PAGE_SIZE), PAGE_SIZE);
    let choose = |choice| {
        Tracking::new(
            &SnapshotConfig {
                choice,
                ..SnapshotConfig::default()
            },
            nowhere,
        )
    };
    assert!(choose(Choice::Userfaultfd).unwrap_err().to_string().contains("compare"));
    let fallback = choose(Choice::Auto).unwrap();
    assert_eq!(fallback.method(), Method::Compare);
    assert!(fallback.reason().is_some());
    assert!(choose(Choice::Compare).unwrap().reason().is_none());
}
