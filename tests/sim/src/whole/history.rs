//! What was proposed and acknowledged, and whether it's all one history for each grain.
//!
//! A deletion is a commit like any other. When all replicas have forgotten it, numbers and hashes begin anew; here what begins then comes
//! after that deletion all the same, so that a grain's history is one chain from its first commit to its last.

use std::collections::BTreeMap;
use std::sync::Arc;

use granary_core::commit::NOTHING;
use granary_core::config_chain::config::{Config, ConfigNumber};
use granary_core::id::{Ballot, GrainId};
use granary_core::replication::messages::CommitHash;

/// What can't be, as a sentence that begins with the invariant's name.
pub type Broken = String;

/// A moment in a grain's history: the commit that was the last, none at first.
pub(super) type Moment = Option<CommitHash>;

#[derive(Clone, Debug)]
struct Entry {
    /// How many came before it.
    depth: u64,
    before: Moment,
    /// What the grain's state says; nothing when the commit deletes it.
    value: Option<u128>,
}

/// See the file's text.
#[derive(Debug, Default)]
pub struct History {
    /// Every commit that was ever proposed.
    commits: BTreeMap<CommitHash, Entry>,
    /// The last commit of each grain that a client has seen the effect of.
    acknowledged: BTreeMap<GrainId, CommitHash>,
    /// The last deletion of each grain that a replica has forgotten.
    forgotten: BTreeMap<GrainId, CommitHash>,
    /// The activation that has answered last, of grains whose states are never stored.
    answered: BTreeMap<GrainId, Ballot>,
    /// What was agreed of each table.
    tables: BTreeMap<GrainId, Vec<u8>>,
    configs: BTreeMap<ConfigNumber, Arc<Config>>,
}

impl History {
    /// The moment that a head names.
    pub fn moment(&self, grain: GrainId, hash: CommitHash) -> Moment {
        match hash {
            NOTHING => self.forgotten.get(&grain).copied(),
            hash => Some(hash),
        }
    }

    /// A commit that nobody has proposed before.
    pub fn propose(&mut self, hash: CommitHash, before: Moment, value: Option<u128>) {
        let depth = self.depth(before).unwrap_or(0) + 1;
        let entry = Entry { depth, before, value };
        self.commits.insert(hash, entry);
    }

    /// What an activation that begins now has to know.
    pub fn floor(&self, grain: GrainId) -> Moment {
        self.acknowledged.get(&grain).copied()
    }

    /// What the grain's state says at a moment.
    pub fn value(&self, moment: Moment) -> Option<u128> {
        self.commits.get(&moment?)?.value
    }

    /// A client sees the effect of a commit, or that nothing came after it.
    pub fn acknowledge(&mut self, grain: GrainId, moment: Moment) -> Result<(), Broken> {
        let floor = self.floor(grain);
        let prefixes = |what| format!("8, prefixes: {grain:?}: {what}");
        if self.depth(moment) < self.depth(floor) {
            return self.follows(floor, moment).map_err(prefixes);
        }
        self.follows(moment, floor).map_err(prefixes)?;
        if let Some(hash) = moment {
            self.acknowledged.insert(grain, hash);
        }
        Ok(())
    }

    /// A host takes `moment` for the grain's last, and everything up to `floor` was acknowledged before it was asked.
    pub fn knows(&self, grain: GrainId, moment: Moment, floor: Moment) -> Result<(), Broken> {
        self.follows(moment, floor)
            .map_err(|what| format!("nothing acknowledged is lost: {grain:?}: {what}"))
    }

    /// A replica has forgotten a deletion.
    pub fn forget(&mut self, grain: GrainId, deletion: CommitHash) -> Result<(), Broken> {
        let known = self.forgotten.get(&grain).copied();
        if self.value(Some(deletion)).is_some() {
            return Err(format!("only deletions are forgotten: {grain:?}: {deletion:?}"));
        }
        if self.depth(Some(deletion)) > self.depth(known) {
            self.knows(grain, Some(deletion), known)?;
            self.forgotten.insert(grain, deletion);
        }
        Ok(())
    }

    /// An activation of a grain without stored states has answered a request that came when `floor` was the last that had.
    pub fn answer(&mut self, grain: GrainId, ballot: Ballot, floor: Option<Ballot>) -> Result<(), Broken> {
        if Some(ballot) < floor {
            return Err(format!(
                "9, fresh reads: {grain:?}: {ballot:?} answers what was asked after {floor:?} had"
            ));
        }
        let last = self.answered.entry(grain).or_insert(ballot);
        *last = ballot.max(*last);
        Ok(())
    }

    /// The activation that has answered last.
    pub fn answered(&self, grain: GrainId) -> Option<Ballot> {
        self.answered.get(&grain).copied()
    }

    /// What is agreed of a table.
    pub fn table(&self, table: GrainId) -> &[u8] {
        self.tables.get(&table).map_or(&[], Vec::as_slice)
    }

    /// A table is said to be this, agreed, by an edit that only adds; `floor` bytes of it were agreed when it was asked for.
    pub fn agreed(&mut self, table: GrainId, bytes: &[u8], floor: usize) -> Result<(), Broken> {
        let known = self.tables.entry(table).or_default();
        let (shorter, longer) = if known.len() <= bytes.len() {
            (&known[..], bytes)
        } else {
            (bytes, &known[..])
        };
        if !longer.starts_with(shorter) || bytes.len() < floor {
            return Err(format!(
                "a table is edited by agreement: {table:?}: {bytes:?} after {known:?}, of which {floor} bytes were agreed"
            ));
        }
        *known = longer.to_vec();
        Ok(())
    }

    fn depth(&self, moment: Moment) -> Option<u64> {
        Some(self.commits.get(&moment?)?.depth)
    }

    /// Whether `later` is `earlier` or comes after it in the same history.
    fn follows(&self, later: Moment, earlier: Moment) -> Result<(), String> {
        let mut at = later;
        while self.depth(at) > self.depth(earlier) {
            at = at.and_then(|hash| self.commits.get(&hash)?.before);
        }
        if let Some(unknown) = at.filter(|hash| !self.commits.contains_key(hash)) {
            return Err(format!("{unknown:?} was never proposed"));
        }
        if at == earlier {
            return Ok(());
        }
        let (has, depth) = (self.depth(later), self.depth(earlier));
        Err(format!(
            "{later:?}, which is commit {has:?}, doesn't come after commit {depth:?}, {earlier:?}, which was acknowledged"
        ))
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
}
