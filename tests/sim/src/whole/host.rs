//! A simulated host: the cluster machine as a host drives it, its files, and its activations.

use std::collections::BTreeMap;

use granary_core::cluster::recovery::Recovery;
use granary_core::cluster::{Cluster, Settings};
use granary_core::config_chain::config::ClusterId;
use granary_core::id::{GrainId, HostId};
use granary_core::membership::Seen;
use granary_core::message::Token;
use granary_core::replication::mutation::Rules;
use granary_core::time::Time;

use super::disk::{Disk, File};
use super::lives::{Life, Read};
use crate::dice::Dice;

/// All hosts of a run are of this cluster.
const CLUSTER: ClusterId = ClusterId([7; 16]);

/// See the file's text.
pub(super) struct Host {
    pub(super) id: HostId,
    pub(super) incarnation: u32,
    /// Nothing while it's down.
    pub(super) cluster: Option<Cluster>,
    pub(super) disk: Disk,
    /// Until then this file takes long to be synced.
    pub(super) slow: (File, Time),
    pub(super) lives: BTreeMap<GrainId, Life>,
    /// The grains of activations, by the tokens that name them.
    pub(super) opened: BTreeMap<Token, GrainId>,
    /// Answers that wait for a quorum.
    pub(super) reads: BTreeMap<Token, Read>,
    /// The last token that was drawn.
    tokens: u64,
    /// How it sees the others.
    pub(super) seen: BTreeMap<HostId, Seen>,
    /// Since when it hasn't been able to reach them.
    pub(super) missing: BTreeMap<HostId, Time>,
    pub(super) wake_at: Option<Time>,
    pub(super) is_tidying: bool,
    /// It has lost its disk, or has left, and doesn't come back.
    pub(super) is_over: bool,
    /// Since when.
    pub(super) over_at: Time,
}

impl Host {
    pub(super) fn new(number: u8) -> Host {
        Host {
            id: HostId([number; 16]),
            incarnation: 0,
            cluster: None,
            disk: Disk::default(),
            slow: (File::Log, Time(0)),
            lives: BTreeMap::new(),
            opened: BTreeMap::new(),
            reads: BTreeMap::new(),
            tokens: 0,
            seen: BTreeMap::new(),
            missing: BTreeMap::new(),
            wake_at: None,
            is_tidying: false,
            is_over: false,
            over_at: Time(0),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.cluster.is_some()
    }

    /// It doesn't come back.
    pub(super) fn end(&mut self, now: Time) {
        (self.is_over, self.over_at) = (true, now);
    }

    pub(super) fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    /// Makes the machine out of the files; the start itself is an input.
    pub(super) fn start(&mut self, now: Time, seed: u64, rules: Rules) -> Result<(), String> {
        self.incarnation += 1;
        let settings = Settings {
            rules,
            ..Settings::new(self.id, self.incarnation, CLUSTER, seed)
        };
        let heads = self.disk.open()?;
        let mut recovery = Recovery::new(settings, self.disk.log_durable());
        for record in self.disk.records() {
            recovery.journal(now, record);
        }
        heads.iter().for_each(|(name, head)| recovery.stored(name, *head));
        let cluster = recovery.finish(now, false, &mut self.disk);
        self.cluster = Some(cluster.map_err(|missing| missing.to_string())?);
        Ok(())
    }

    /// All but the files is gone, and of those what a crash takes.
    pub(super) fn crash(&mut self, dice: &mut Dice) {
        self.cluster = None;
        self.disk.cut(dice);
        self.lives.clear();
        self.opened.clear();
        self.reads.clear();
        self.seen.clear();
        self.missing.clear();
        self.wake_at = None;
        self.is_tidying = false;
    }
}
