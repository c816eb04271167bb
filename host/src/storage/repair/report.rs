//! What `granary repair` says: what is wrong, and what would be gone afterwards.

use std::fmt;

use granary_core::id::{GrainName, Seq};
use serde::Serialize;

/// Names of grains that a text shows; the numbers are exact, and JSON has all.
const NAMES_SHOWN: usize = 20;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// What is wrong, a sentence each. Empty: the folder is sound.
    pub problems: Vec<String>,
    /// Grains that lose commits.
    pub grains: Vec<LostGrain>,
    /// Revisions whose module is gone.
    pub revisions: Vec<LostRevision>,
    /// Whether commits may be lost besides that nothing names any more.
    pub more_may_be_lost: bool,
}

/// A grain that loses commits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LostGrain {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its key.
    pub key: String,
    /// The commit that it goes back to; none when its whole state is lost.
    pub kept_seq: Option<u64>,
    /// The last commit that is known of it; none when only its name is.
    pub known_seq: Option<u64>,
}

/// A revision whose module is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostRevision {
    /// The grain type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its number.
    pub revision: u32,
    /// The name of the module's bytes: deploying them again makes its grains readable.
    pub module: String,
}

impl RepairReport {
    /// Whether there is anything to do.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether a repair gives anything up.
    pub fn loses(&self) -> bool {
        !self.grains.is_empty() || !self.revisions.is_empty() || self.more_may_be_lost
    }

    pub(super) fn lose(&mut self, grain: &GrainName, kept: Option<Seq>, known: Option<Seq>) {
        self.grains.push(LostGrain {
            kind: grain.kind.to_string(),
            key: grain.key.to_string(),
            kept_seq: kept.map(|seq| seq.0),
            known_seq: known.map(|seq| seq.0),
        });
    }
}

impl fmt::Display for LostGrain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostGrain { kind, key, .. } = self;
        match (self.kept_seq, self.known_seq) {
            (Some(kept), Some(known)) => write!(f, "{kind}/{key} goes back from commit {known} to commit {kept}"),
            (None, Some(known)) => write!(f, "{kind}/{key} loses its state (the last known commit is {known})"),
            (Some(kept), None) => write!(f, "{kind}/{key} goes back to commit {kept}"),
            (None, None) => write!(f, "{kind}/{key} loses its state"),
        }
    }
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_sound() {
            return writeln!(f, "nothing is damaged");
        }
        writeln!(f, "damaged:")?;
        self.problems
            .iter()
            .try_for_each(|problem| writeln!(f, "  {problem}"))?;
        if !self.loses() {
            return writeln!(f, "a repair loses nothing");
        }
        writeln!(f, "a repair would lose:")?;
        if !self.grains.is_empty() {
            writeln!(f, "  commits of {} grains", self.grains.len())?;
            for grain in self.grains.iter().take(NAMES_SHOWN) {
                writeln!(f, "    {grain}")?;
            }
            if self.grains.len() > NAMES_SHOWN {
                let more = self.grains.len() - NAMES_SHOWN;
                writeln!(f, "    and {more} more; --json names them all")?;
            }
        }
        for LostRevision { kind, revision, module } in &self.revisions {
            writeln!(f, "  revision {revision} of {kind}: deploy the module {module} again")?;
        }
        if self.more_may_be_lost {
            writeln!(f, "  perhaps commits that nothing names any more")?;
        }
        Ok(())
    }
}
