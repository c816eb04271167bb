//! Damage of every kind to every file: a start refuses, or serves nothing that's wrong; a repair keeps what it doesn't name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use granary_core::commit::{Change, Commit, Delta, Head};
use granary_core::id::{GrainName, GrainType, Lsn, ModuleHash, Revision};
use granary_core::page::{PAGE_SIZE, Patches};

use super::super::noise::Noise;
use super::super::suite::{Waiter, append, commit, grain, memory, small_config, write};
use super::super::*;
use super::quarantine::steps::LEFT;

/// A grain's memory after each of its commits; none where that deleted it.
type History = Vec<Option<Vec<u8>>>;

/// A data folder and what is in it.
struct World {
    dir: tempfile::TempDir,
    histories: BTreeMap<GrainName, History>,
    heads: BTreeMap<GrainName, Head>,
    modules: Vec<(ModuleHash, Vec<u8>)>,
}

fn config() -> StorageConfig {
    StorageConfig {
        ballast_bytes: 0,
        ..small_config()
    }
}

/// A folder in memory where there is one: hundreds of starts would keep a disk busy with syncs.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let builder = tempfile::Builder::new();
    if memory.is_dir() {
        return builder
            .tempdir_in(memory)
            .unwrap_or_else(|_| tempfile::tempdir().unwrap());
    }
    tempfile::tempdir().unwrap()
}

impl World {
    /// Small and large images, commits in the log, deleted grains, modules; left behind as by a kill.
    fn new() -> World {
        let mut world = World {
            dir: folder(),
            histories: BTreeMap::new(),
            heads: BTreeMap::new(),
            modules: Vec::new(),
        };
        let mut noise = Noise::new(7);
        for part in 0..3 {
            let storage = SledStorage::open(world.dir.path(), config()).unwrap();
            let waiter = Arc::new(Waiter::default());
            storage.set_sink(waiter.clone());
            storage.forget_deleted().unwrap();
            world.forget_deleted();
            world.deploy(&storage, part);
            let mut last = Lsn(0);
            for i in 0..40u64 {
                last = world.step(&storage, i % 13 + part, &mut noise);
                if i % 5 == 0 {
                    waiter.wait(last);
                }
            }
            waiter.wait(last);
            // The last group of a log is nobody's proof: a grain of its own has it.
            append(&*storage, &write(&grain(&format!("sentinel-{part}")), None, 0, 1));
            if part < 2 {
                storage.close();
            } else {
                while storage.durable().0 < last.0 + 1 {
                    std::thread::yield_now();
                }
                storage.stop_for_test();
            }
        }
        world
    }

    /// Deleted grains are forgotten, as by a host alone: their numbering begins anew.
    fn forget_deleted(&mut self) {
        self.histories
            .retain(|_, history| history.last().is_some_and(Option::is_some));
        self.heads.retain(|name, _| self.histories.contains_key(name));
    }

    fn deploy(&mut self, storage: &SledStorage, part: u64) {
        let bytes = vec![part as u8 + 1; 3000];
        let module = storage.put_module(&bytes).unwrap();
        self.modules.push((module, bytes));
        let record = ModuleRecord {
            kind: GrainType::new("counter").unwrap(),
            revision: Revision(part as u32 + 1),
            module,
            at_ms: 5,
            follows: Revision(part as u32),
        };
        storage.put_revision(&record).unwrap();
    }

    /// A commit of a grain: a small one, a large one, or its deletion.
    fn step(&mut self, storage: &SledStorage, which: u64, noise: &mut Noise) -> Lsn {
        let name = grain(&format!("g{which:02}"));
        let before = self.heads.get(&name).cloned();
        let history = self.histories.entry(name.clone()).or_default();
        let current = history.last().cloned().flatten();
        let (next, now) = if current.is_some() && noise.below(7) == 0 {
            (commit(&name, before.as_ref(), Change::Delete), None)
        } else {
            let mut now = current.unwrap_or_else(|| vec![0; 16 * PAGE_SIZE]);
            let next = if which.is_multiple_of(3) {
                large(&name, before.as_ref(), noise)
            } else {
                write(&name, before.as_ref(), noise.below(9) as usize * 700, noise.next())
            };
            if let Change::Delta(delta) = &next.change {
                delta.patches.apply(&mut now).unwrap();
            }
            (next, Some(now))
        };
        let (head, lsn) = append(storage, &next);
        history.push(now);
        self.heads.insert(name, head);
        lsn
    }

    /// The same folder elsewhere.
    fn copy(&self) -> tempfile::TempDir {
        let to = folder();
        copy_folder(self.dir.path(), to.path());
        to
    }

    /// All files, relative to the folder.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        list(self.dir.path(), Path::new(""), &mut files);
        files.retain(|file| file != Path::new("lock"));
        files.sort();
        files
    }

    /// What a start on a damaged folder says: refused, or how many grains can't be read. Anything wrong is a panic.
    fn judge(&self, dir: &Path, what: &str) -> Outcome {
        let storage = match SledStorage::open(dir, config()) {
            Ok(storage) => storage,
            Err(error) => {
                let said = error.to_string();
                assert!(
                    said.contains("granary repair") || said.contains("move it elsewhere"),
                    "{what}: {said}"
                );
                return Outcome::Refused;
            }
        };
        let mut unreadable = 0;
        for (name, history) in &self.histories {
            match storage.load(name) {
                Err(StorageError::Corrupt(_)) => unreadable += 1,
                Err(other) => panic!("{what}: {name}: {other}"),
                Ok(stored) => {
                    let found = stored.filter(|stored| !stored.deleted).map(|stored| memory(&stored));
                    assert!(found == *history.last().unwrap(), "{what}: {name} has a wrong value");
                }
            }
        }
        let revisions = storage.revisions().unwrap();
        assert_eq!(revisions.len(), self.modules.len(), "{what}: a revision is missing");
        for (module, bytes) in &self.modules {
            match storage.module(module) {
                Ok(Some(found)) => assert!(found == *bytes, "{what}: a wrong module"),
                Ok(None) | Err(StorageError::Corrupt(_)) => unreadable += 1,
                Err(other) => panic!("{what}: {other}"),
            }
        }
        // A checkpoint over what can't be read must neither end the process nor take anything with it.
        storage.close();
        if unreadable == 0 {
            Outcome::Whole
        } else {
            Outcome::Unreadable
        }
    }

    /// Repairs a damaged folder: what isn't named has its value, what is named is what was said. Returns how many were named.
    fn repair(&self, dir: &Path, what: &str) -> usize {
        let repair = Repair::examine(dir).unwrap_or_else(|error| panic!("{what}: {error}"));
        let report = repair.report().clone();
        if report.is_sound() {
            drop(repair);
        } else {
            repair
                .mend(config(), Whose::Alone)
                .unwrap_or_else(|error| panic!("{what}: {error}\n{report}"));
        }
        self.agrees(dir, &report, what);
        report.grains.len()
    }

    /// Checks that a repaired folder holds what a report said.
    fn agrees(&self, dir: &Path, report: &RepairReport, what: &str) {
        let storage = SledStorage::open(dir, config()).unwrap_or_else(|error| panic!("{what}: {error}\n{report}"));
        for (name, history) in &self.histories {
            let stored = storage.load(name);
            let stored = stored.unwrap_or_else(|error| panic!("{what}: {error}\n{report}"));
            let found = stored.filter(|stored| !stored.deleted).map(|stored| memory(&stored));
            let named = report.grains.iter().find(|lost| lost.key == name.key.as_str());
            let expected = match named {
                None => history.last().unwrap().clone(),
                Some(LostGrain {
                    kept_seq: Some(kept), ..
                }) => history[*kept as usize - 1].clone(),
                Some(_) => None,
            };
            if named.is_none() && report.more_may_be_lost {
                assert!(
                    found.is_none() || history.contains(&found),
                    "{what}: {name} was made up\n{report}"
                );
            } else {
                assert!(found == expected, "{what}: {name} isn't what the repair said\n{report}");
            }
        }
        let lost: Vec<_> = report.revisions.iter().map(|lost| lost.revision).collect();
        for record in storage.revisions().unwrap() {
            assert!(!lost.contains(&record.revision.0), "{what}");
            assert!(storage.module(&record.module).unwrap().is_some(), "{what}");
        }
        storage.close();
        drop(storage);
        let again = Repair::examine(dir).unwrap();
        assert!(
            again.report().is_sound(),
            "{what}: after the repair: {}",
            again.report()
        );
    }

    /// Damages two copies of the folder; one is started on, the other repaired.
    fn damage(&self, what: &str, damage: impl Fn(&Path)) -> Outcome {
        let (started, repaired) = (self.copy(), self.copy());
        damage(started.path());
        damage(repaired.path());
        let outcome = self.judge(started.path(), what);
        self.repair(repaired.path(), what);
        outcome
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Whole,
    Unreadable,
    Refused,
}

/// A commit whose image is too long for the snapshot store.
fn large(name: &GrainName, before: Option<&Head>, noise: &mut Noise) -> Commit {
    let mut patches = Patches::new();
    for index in [1, 4, 9] {
        let mut page = [0; PAGE_SIZE];
        noise.fill(&mut page);
        patches.push_whole(index, &page);
    }
    let delta = Delta {
        memory_len: 16 * PAGE_SIZE as u64,
        globals: vec![1],
        patches,
    };
    commit(name, before, Change::Delta(delta))
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn list(root: &Path, inside: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root.join(inside)).unwrap() {
        let entry = entry.unwrap();
        let path = inside.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            list(root, &path, files);
        } else {
            files.push(path);
        }
    }
}

/// Where bytes of a file count: most of a segment or of sled's file is zeros.
fn flip(path: &Path, noise: &mut Noise) -> Option<usize> {
    let mut bytes = fs::read(path).unwrap();
    let used: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    if used.is_empty() {
        return None;
    }
    let at = used[noise.below(used.len() as u64) as usize];
    bytes[at] ^= 1 << noise.below(8);
    fs::write(path, bytes).unwrap();
    Some(at)
}

#[test]
fn an_undamaged_folder_is_whole_and_needs_no_repair() {
    let world = World::new();
    assert_eq!(world.judge(world.copy().path(), "nothing"), Outcome::Whole);
    let dir = world.copy();
    assert!(Repair::examine(dir.path()).unwrap().report().is_sound());
    assert_eq!(world.repair(dir.path(), "nothing"), 0);
}

#[test]
fn a_missing_file_of_each_kind_is_noticed() {
    let world = World::new();
    for file in world.files() {
        let what = format!("{} removed", file.display());
        let outcome = world.damage(&what, |dir| fs::remove_file(dir.join(&file)).unwrap());
        println!("{what}: {outcome:?}");
    }
    for folder in ["log", "snapshots", "copy", "images", "modules"] {
        let what = format!("the folder {folder} removed");
        let outcome = world.damage(&what, |dir| fs::remove_dir_all(dir.join(folder)).unwrap());
        println!("{what}: {outcome:?}");
        let expected = match folder {
            "snapshots" => Outcome::Whole,
            "modules" => Outcome::Unreadable,
            _ => Outcome::Refused,
        };
        assert_eq!(outcome, expected, "{what}");
    }
}

#[test]
fn an_emptied_or_cut_file_of_each_kind_is_noticed() {
    let world = World::new();
    for file in world.files() {
        for part in [0, 3] {
            let what = format!("{} cut to {part} tenths", file.display());
            let outcome = world.damage(&what, |dir| {
                let file = fs::OpenOptions::new().write(true).open(dir.join(&file)).unwrap();
                file.set_len(file.metadata().unwrap().len() * part / 10).unwrap();
            });
            println!("{what}: {outcome:?}");
        }
    }
}

#[test]
fn a_flipped_bit_in_a_file_of_each_kind_is_noticed_or_harmless() {
    let world = World::new();
    let mut outcomes: BTreeMap<(String, Outcome), u32> = BTreeMap::new();
    for file in world.files() {
        // There are many segments, all of a kind.
        let seeds = if file.starts_with("log") { 3 } else { 8 };
        for seed in 0..seeds {
            let what = format!("{} flipped with seed {seed}", file.display());
            let outcome = world.damage(&what, |dir| {
                flip(&dir.join(&file), &mut Noise::new(seed));
            });
            *outcomes.entry((file.display().to_string(), outcome)).or_default() += 1;
        }
    }
    outcomes
        .iter()
        .for_each(|((file, outcome), count)| println!("{file}: {outcome:?} {count}"));
}

#[test]
fn a_repair_that_is_cut_off_at_any_step_can_be_run_again() {
    let world = World::new();
    let with = |folder: &str| {
        let files = world.files().into_iter();
        files.filter(|file| file.starts_with(folder)).collect::<Vec<_>>()
    };
    let segments = with("log");
    let damage = |dir: &Path| {
        flip(&dir.join(&with("images")[0]), &mut Noise::new(1)).unwrap();
        for file in &segments {
            flip(&dir.join(file), &mut Noise::new(3));
        }
        fs::remove_file(dir.join("identity")).unwrap();
        fs::remove_file(dir.join(&with("modules")[0])).unwrap();
    };
    for steps in 0.. {
        let what = format!("cut off after {steps} steps");
        let dir = world.copy();
        damage(dir.path());
        let repair = Repair::examine(dir.path()).unwrap();
        let report = repair.report().clone();
        LEFT.set(steps);
        let mended = repair.mend(config(), Whose::Alone);
        LEFT.set(u32::MAX);
        if mended.is_ok() {
            assert!(steps > 8, "the damage takes more steps than {steps}");
            world.agrees(dir.path(), &report, &what);
            break;
        }
        let repair = Repair::examine(dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        if !repair.report().is_sound() {
            repair
                .mend(config(), Whose::Alone)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        } else {
            drop(repair);
        }
        world.agrees(dir.path(), &report, &what);
    }
}

#[test]
fn a_folder_of_a_newer_form_is_refused_and_left_alone() {
    let world = World::new();
    let identity = world.dir.path().join("identity");
    let text = "granary data folder 2\nwhatever comes with it\n";
    fs::write(&identity, text).unwrap();
    let refused = SledStorage::open(world.dir.path(), config()).err().unwrap().to_string();
    assert!(
        refused.contains("form 2") && refused.contains("newer host"),
        "{refused}"
    );
    let refused = Repair::examine(world.dir.path()).err().unwrap().to_string();
    assert!(refused.contains("newer host"), "{refused}");
    assert_eq!(fs::read_to_string(&identity).unwrap(), text);
}

#[test]
fn foreign_files_are_left_alone_or_named() {
    let world = World::new();
    for (name, refused) in [
        ("notes.txt", false),
        ("images/notes.txt", false),
        ("modules/notes.txt", false),
        ("log/notes.txt", true),
        ("copy/notes.txt", true),
    ] {
        let dir = world.copy();
        let path = dir.path().join(name);
        fs::write(&path, "mine").unwrap();
        match SledStorage::open(dir.path(), config()) {
            Ok(_) => assert!(!refused, "{name}"),
            Err(error) => {
                let said = error.to_string();
                assert!(
                    refused && said.contains(name) && said.contains("move it elsewhere"),
                    "{said}"
                );
            }
        }
        assert_eq!(fs::read_to_string(path).unwrap(), "mine");
    }
}

#[test]
fn a_folder_that_can_t_be_written_is_named() {
    let dir = folder();
    let file = dir.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let said = SledStorage::open(&file.join("data"), config())
        .err()
        .unwrap()
        .to_string();
    assert!(said.contains("file/data can't be written"), "{said}");
}

#[test]
fn one_host_uses_a_folder_at_a_time() {
    let world = World::new();
    let dir = world.dir.path();
    let running = SledStorage::open(dir, config()).unwrap();
    let said = SledStorage::open(dir, config()).err().unwrap().to_string();
    assert!(said.contains("another host uses"), "{said}");
    assert!(matches!(Repair::examine(dir), Err(StorageError::InUse(_))));
    drop(running);
    SledStorage::open(dir, config()).unwrap();
}

#[test]
fn a_start_that_fails_leaves_no_thread_and_no_lock_behind() {
    let world = World::new();
    let dir = world.copy();
    fs::remove_file(dir.path().join("identity")).unwrap();
    assert!(SledStorage::open(dir.path(), config()).is_err());
    // Were the lock or a file of sled's still held, this would wait in vain.
    fs::copy(world.dir.path().join("identity"), dir.path().join("identity")).unwrap();
    assert_eq!(world.judge(dir.path(), "after a failed start"), Outcome::Whole);
}
