//! What was proposed and acknowledged, and whether it's all one history for each grain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use granary_core::config_chain::config::{Config, ConfigNumber};
use granary_core::id::{GrainId, Seq};
use granary_core::replication::messages::CommitHash;

/// What can't be, as a sentence that begins with the invariant's name.
pub type Broken = String;

const NOTHING: CommitHash = [0; 16];

/// See the file's text.
#[derive(Debug, Default)]
pub struct History {
    /// Of each commit that was ever proposed: its number and the one before.
    commits: BTreeMap<CommitHash, (Seq, CommitHash)>,
    /// The last commit of each grain that a client was told of.
    acknowledged: BTreeMap<GrainId, (Seq, CommitHash)>,
    configs: BTreeMap<ConfigNumber, Arc<Config>>,
    next: u128,
}

impl History {
    /// A commit behind `before`, under a name of its own.
    pub fn propose(&mut self, (seq, before): (Seq, CommitHash)) -> (Seq, CommitHash) {
        self.next += 1;
        let hash = self.next.to_be_bytes();
        self.commits.insert(hash, (seq.next(), before));
        (seq.next(), hash)
    }

    /// What an activation that begins now has to know.
    pub fn floor(&self, grain: GrainId) -> (Seq, CommitHash) {
        self.acknowledged.get(&grain).copied().unwrap_or((Seq(0), NOTHING))
    }

    /// A client is told of a commit.
    pub fn acknowledge(&mut self, grain: GrainId, commit: (Seq, CommitHash)) -> Result<(), Broken> {
        let before = self.floor(grain);
        if commit.0 > before.0 {
            self.follows(commit, before)
                .map_err(|what| format!("8, prefixes: {grain:?}: {what}"))?;
            self.acknowledged.insert(grain, commit);
        } else {
            self.follows(before, commit)
                .map_err(|what| format!("8, prefixes: {grain:?}: {what}"))?;
        }
        Ok(())
    }

    /// An activation begins with `head`, and everything up to `floor` was acknowledged before it asked for the grain.
    pub fn begins(&self, grain: GrainId, head: (Seq, CommitHash), floor: (Seq, CommitHash)) -> Result<(), Broken> {
        self.follows(head, floor)
            .map_err(|what| format!("nothing acknowledged is lost: {grain:?}: {what}"))
    }

    /// Whether `later` is `earlier` or comes after it in the same history.
    fn follows(&self, later: (Seq, CommitHash), earlier: (Seq, CommitHash)) -> Result<(), String> {
        let mut at = later;
        while at.0 > earlier.0 {
            let Some((seq, before)) = self.commits.get(&at.1) else {
                return Err(format!("{at:?} was never proposed"));
            };
            at = (Seq(seq.0 - 1), *before);
        }
        if at == earlier {
            Ok(())
        } else {
            Err(format!("{later:?} has {at:?} where {earlier:?} was acknowledged"))
        }
    }

    /// A host has a configuration in force.
    pub fn configured(&mut self, config: &Arc<Config>) -> Result<(), Broken> {
        let known = self.configs.entry(config.n).or_insert_with(|| config.clone());
        if known == config {
            Ok(())
        } else {
            Err(format!(
                "4, one successor: two configurations have the number {}",
                config.n.0
            ))
        }
    }

    /// The newest configuration.
    pub fn config(&self) -> Option<&Arc<Config>> {
        self.configs.values().next_back()
    }

    /// How many configurations there were.
    pub fn configs(&self) -> usize {
        self.configs.len()
    }

    /// Grains that clients were told of.
    pub fn grains(&self) -> BTreeSet<GrainId> {
        self.acknowledged.keys().copied().collect()
    }
}
