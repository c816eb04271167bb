//! What a damaged log still holds, for `granary repair`: which commits stay when it's cut at the first damage, and which go.
//!
//! Nothing is changed here. The walk is the one of a start (`replay`), but where that refuses, this one goes on and notes what lies
//! behind: those commits can't stay, since what comes between is unknown, but whose they are can be said.

use std::collections::BTreeSet;

use granary_core::commit::{Change, Commit, Head};
use granary_core::id::{GrainName, Lsn, Seq};

use super::format::{
    BODY_START, GROUP_HEADER_LEN, GroupView, RECORD_HEADER_LEN, SegmentHeader, is_untouched, read_record,
};
use super::register::{self, REGISTER};
use super::segment::{LOG_DIR, file_name, file_number, path};
use crate::storage::StorageError;
use crate::storage::files::{Files, UNFINISHED, read_all};

/// A commit that was found.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) grain: GrainName,
    pub(crate) prev_hash: [u8; 16],
    pub(crate) head: Head,
    pub(crate) deletes: bool,
    /// Whether it's a copy of a whole state, which needs nothing before it.
    pub(crate) whole: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Salvage {
    /// Commits that stay, in order.
    pub(crate) kept: Vec<Seen>,
    /// Grains and numbers of commits that go.
    pub(crate) lost: Vec<(GrainName, Seq)>,
    /// What is wrong, a sentence each.
    pub(crate) problems: Vec<String>,
    /// Whether commits may be lost that nothing names any more.
    pub(crate) more_may_be_lost: bool,
    /// The file that is to be cut, and where.
    pub(crate) cut: Option<(String, u64)>,
    /// Files that go into the quarantine.
    pub(crate) removed: Vec<String>,
    /// Numbers of the files that stay.
    pub(crate) staying: BTreeSet<u64>,
    /// Whether there is damage, and so something to cut.
    pub(crate) broken: bool,
    /// Whether the register has to be written anew.
    pub(crate) register: bool,
}

struct Walk {
    found: Salvage,
    next: Option<Lsn>,
    /// A segment before the first sound group in which something was written that is no group any more.
    gap: Option<String>,
    /// The commits in it.
    suspects: Vec<(GrainName, Seq)>,
    /// Whether the first damage was passed.
    broken: bool,
    /// Commits named since the last sound group.
    named: u64,
}

/// Looks at the whole log.
pub(crate) fn salvage(files: &dyn Files) -> Result<Salvage, StorageError> {
    files.make_dir(LOG_DIR)?;
    let mut walk = Walk {
        found: Salvage::default(),
        next: None,
        gap: None,
        suspects: Vec::new(),
        broken: false,
        named: 0,
    };
    let registered = match register::read(files) {
        Ok(registered) => registered,
        Err(StorageError::Corrupt(what)) => {
            walk.found.problems.push(what);
            None
        }
        Err(other) => return Err(other),
    };
    if registered.is_none() {
        walk.found.register = true;
        walk.found.more_may_be_lost = true;
        walk.found.problems.push(format!(
            "{LOG_DIR}/{REGISTER} can't say whether all files of the log are there"
        ));
    }
    let (segments, floor) = walk.segments(files, registered.as_ref())?;
    let mut spares = Vec::new();
    for (name, header, bytes) in &segments {
        walk.segment(name, header, bytes, &mut spares);
    }
    if !walk.broken && walk.next.is_some_and(|next| next < floor) {
        walk.broken = true;
        walk.found.more_may_be_lost = true;
        walk.found.problems.push(format!(
            "commits up to place {} of the log were durable, and those from {} on are gone",
            floor.0 - 1,
            walk.next.map_or(0, |next| next.0)
        ));
    }
    // A spare that was prepared after what is cut says that it had been durable.
    if walk.broken {
        walk.found.removed.extend(spares);
    } else {
        let numbers = spares.iter().filter_map(|name| file_number(name));
        walk.found.staying.extend(numbers);
    }
    walk.found.register |= registered.is_some_and(|registered| registered != walk.found.staying);
    walk.found.broken = walk.broken;
    Ok(walk.found)
}

type Segments = Vec<(String, SegmentHeader, Vec<u8>)>;

impl Walk {
    /// The segments with sound headers in their order, and the highest place that one of them says was reached.
    fn segments(
        &mut self,
        files: &dyn Files,
        registered: Option<&BTreeSet<u64>>,
    ) -> Result<(Segments, Lsn), StorageError> {
        let mut segments: Segments = Vec::new();
        let mut floor = Lsn(0);
        let mut missing = registered.cloned().unwrap_or_default();
        for name in files.list(LOG_DIR)? {
            if name == REGISTER || name.ends_with(UNFINISHED) {
                continue;
            }
            let Some(number) = file_number(&name) else {
                self.found
                    .problems
                    .push(format!("{} is no segment of the log", path(&name)));
                self.found.removed.push(name);
                continue;
            };
            if registered.is_some_and(|registered| !registered.contains(&number)) {
                continue;
            }
            missing.remove(&number);
            let bytes = read_all(files, &path(&name))?;
            match SegmentHeader::decode(&bytes).filter(|header| header.file_len == bytes.len() as u64) {
                Some(header) => {
                    floor = floor.max(header.lsn_floor);
                    segments.push((name, header, bytes));
                }
                None => self.headless(name, &bytes),
            }
        }
        for number in missing {
            self.found.more_may_be_lost = true;
            self.found
                .problems
                .push(format!("{} is missing", path(&file_name(number))));
        }
        segments.sort_by_key(|(_, header, _)| header.incarnation);
        Ok((segments, floor))
    }

    /// A segment whose header is damaged or whose length is wrong: what's in it can't be told from leftovers of earlier uses.
    fn headless(&mut self, name: String, bytes: &[u8]) {
        let seen = loose_commits(bytes);
        self.found.problems.push(format!(
            "the header of {} is damaged, or the file was cut: {} bytes are there",
            path(&name),
            bytes.len()
        ));
        let untouched = bytes.iter().skip(BODY_START as usize).all(|byte| *byte == 0);
        self.found.more_may_be_lost |= !untouched || bytes.len() <= BODY_START as usize;
        self.found.lost.extend(seen);
        self.found.removed.push(name);
    }

    fn segment(&mut self, name: &str, header: &SegmentHeader, bytes: &[u8], spares: &mut Vec<String>) {
        let mut at = BODY_START as usize;
        let mut kept_here = false;
        let mut seen_here = false;
        while at + GROUP_HEADER_LEN <= bytes.len() {
            let Some(group) = sound_group(header, &bytes[at..]) else {
                let Some(behind) = later_group(header, &bytes[at..]) else {
                    self.no_more(name, header, &bytes[at..]);
                    break;
                };
                self.stop(format!("{} is damaged at byte {at}", path(name)));
                let loose = loose_commits(&bytes[at..at + behind]);
                self.named += loose.len() as u64;
                self.found.lost.extend(loose);
                // Without a place before it nobody knows how many there were.
                self.found.more_may_be_lost |= self.next.is_none();
                seen_here = true;
                at += behind;
                continue;
            };
            seen_here = true;
            let first = group.header.first_lsn;
            if let Some(before) = self.gap.take() {
                self.stop(before);
                self.found.more_may_be_lost = true;
                self.found.lost.append(&mut self.suspects);
            }
            if let Some(next) = self.next.filter(|next| *next != first) {
                self.stop(format!("commits before byte {at} of {} are missing", path(name)));
                self.found.more_may_be_lost |= first.0.saturating_sub(next.0) > self.named;
            }
            self.named = 0;
            self.next = Some(Lsn(first.0 + u64::from(group.header.count)));
            for record in group.records() {
                self.commit(record.body);
            }
            if !self.broken {
                kept_here = true;
            }
            at += group.len();
            if kept_here && !self.broken {
                self.found.cut = Some((name.to_owned(), at as u64));
            }
        }
        if kept_here {
            self.found.staying.extend(file_number(name));
        } else if seen_here {
            self.found.removed.push(name.to_owned());
        } else {
            spares.push(name.to_owned());
        }
    }

    /// Where a segment's groups end. Before the first sound group of all, what is there counts as damage once a later group is found:
    /// a start wipes first groups that were never durable.
    fn no_more(&mut self, name: &str, header: &SegmentHeader, bytes: &[u8]) {
        if self.next.is_none() && !is_untouched(header, &bytes[..bytes.len().min(BODY_START as usize)]) {
            self.gap
                .get_or_insert(format!("the first group of {} is damaged", path(name)));
            self.suspects.extend(loose_commits(bytes));
        }
    }

    fn stop(&mut self, problem: String) {
        if !self.broken {
            self.broken = true;
            self.found.problems.push(problem);
        }
    }

    fn commit(&mut self, body: &[u8]) {
        let Ok(commit) = Commit::decode(body) else {
            self.stop("a record of the log is sound but no commit".into());
            return;
        };
        if self.broken {
            self.found.lost.push((commit.grain, commit.seq));
            return;
        }
        let head = commit.head(Commit::hash(body));
        self.found.kept.push(Seen {
            prev_hash: commit.prev_hash,
            head,
            deletes: commit.change.deletes(),
            whole: matches!(commit.change, Change::Whole { .. }),
            grain: commit.grain,
        });
    }
}

fn sound_group<'a>(header: &SegmentHeader, bytes: &'a [u8]) -> Option<GroupView<'a>> {
    let group = GroupView::read(header, bytes)?;
    let sound = group.records().all(|record| record.checked_hash().is_some());
    sound.then_some(group)
}

fn later_group(header: &SegmentHeader, bytes: &[u8]) -> Option<usize> {
    (8..bytes.len())
        .step_by(8)
        .find(|&at| GroupView::read(header, &bytes[at..]).is_some())
}

/// Commits whose own hashes are right, wherever they lie: good enough to name them, not to keep them.
fn loose_commits(bytes: &[u8]) -> Vec<(GrainName, Seq)> {
    let mut seen = Vec::new();
    let mut at = 0;
    while at + RECORD_HEADER_LEN < bytes.len() {
        // The second word of a record is zero: that alone spares most places the hashing.
        let starts = bytes[at + 4..at + 8] == [0; 4];
        let record = read_record(&bytes[at..]).filter(|record| starts && !record.body.is_empty());
        match record.filter(|record| record.checked_hash().is_some()) {
            Some(record) => {
                if let Ok(commit) = Commit::summary(record.body) {
                    seen.push((commit.grain, commit.seq));
                }
                at += super::format::record_len(record.body.len());
            }
            None => at += 8,
        }
    }
    seen
}
