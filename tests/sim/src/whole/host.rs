//! A simulated host: the cluster machine as a host drives it, its log, and activations that do nothing but commit.

use std::collections::{BTreeMap, VecDeque};

use granary_core::cluster::{Cluster, Record, Settings};
use granary_core::config_chain::config::ClusterId;
use granary_core::id::{GrainId, HostId, Seq};
use granary_core::membership::Seen;
use granary_core::replication::messages::{CommitHash, Payload, State};
use granary_core::replication::record;
use granary_core::time::Time;

/// All hosts of a run are of this cluster.
pub(super) const CLUSTER: ClusterId = ClusterId([7; 16]);

/// An activation: what it has proposed, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) is_active: bool,
    pub(super) is_isolated: bool,
    /// What was acknowledged when it asked for the grain.
    pub(super) floor: (Seq, CommitHash),
    pub(super) head: (Seq, CommitHash),
    /// Operations that wait for the activation.
    pub(super) waiting: Vec<u64>,
    /// Commits on their way, with their operations.
    pub(super) proposed: VecDeque<((Seq, CommitHash), u64)>,
}

/// See the file's text.
pub(super) struct Host {
    pub(super) id: HostId,
    pub(super) incarnation: u32,
    /// Nothing while it's down.
    pub(super) machine: Option<Cluster>,
    pub(super) log: Vec<(u64, Record)>,
    /// Records that a crash can't take.
    pub(super) durable: usize,
    /// When the last record written will be durable.
    pub(super) disk_free: Time,
    pub(super) kept: BTreeMap<GrainId, (Seq, CommitHash)>,
    pub(super) live: BTreeMap<GrainId, Live>,
    /// How it sees the others.
    pub(super) seen: BTreeMap<HostId, Seen>,
    /// Since when it hasn't been able to reach them.
    pub(super) missing: BTreeMap<HostId, Time>,
    pub(super) wake_at: Option<Time>,
    /// It has lost its disk, or has left, and doesn't come back.
    pub(super) is_over: bool,
}

impl Host {
    pub(super) fn new(number: u8) -> Host {
        Host {
            id: HostId([number; 16]),
            incarnation: 0,
            machine: None,
            log: Vec::new(),
            durable: 0,
            disk_free: Time(0),
            kept: BTreeMap::new(),
            live: BTreeMap::new(),
            seen: BTreeMap::new(),
            missing: BTreeMap::new(),
            wake_at: None,
            is_over: false,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.machine.is_some()
    }

    /// Makes the machine out of the log; the start itself is an input.
    pub(super) fn start(&mut self, now: Time, seed: u64) {
        self.incarnation += 1;
        let mut machine = Cluster::new(Settings::new(self.id, self.incarnation, CLUSTER, seed));
        self.kept.clear();
        for (_, record) in std::mem::take(&mut self.log) {
            self.keep(&record);
            machine.replay(now, record.clone());
            // Marks begin anew with each start.
            self.log.push((0, record));
        }
        self.durable = self.log.len();
        self.machine = Some(machine);
    }

    /// All but the log is gone, and of that what wasn't synced, but for `spared` records.
    pub(super) fn crash(&mut self, spared: usize) {
        self.machine = None;
        self.log.truncate(self.durable + spared);
        self.live.clear();
        self.seen.clear();
        self.missing.clear();
        self.wake_at = None;
    }

    pub(super) fn write(&mut self, mark: u64, record: Record) {
        self.keep(&record);
        self.log.push((mark, record));
    }

    /// The record with this mark and all before are on the disk.
    pub(super) fn synced(&mut self, mark: u64) {
        while self.log.get(self.durable).is_some_and(|(at, _)| *at <= mark) {
            self.durable += 1;
        }
    }

    pub(super) fn state(&self, grain: GrainId) -> Option<State> {
        let (seq, hash) = *self.kept.get(&grain)?;
        Some(State {
            seq,
            hash,
            deleted: false,
            body: hash.to_vec().into(),
        })
    }

    fn keep(&mut self, record: &Record) {
        match record {
            Record::Replica(_, record::Record::Accept { grain, proposal, .. })
                if !matches!(proposal.payload, Payload::Same) =>
            {
                self.kept.insert(*grain, (proposal.seq, proposal.hash));
            }
            Record::Replica(
                _,
                record::Record::Install {
                    grain,
                    accepted: Some(accepted),
                    body: Some(_),
                    ..
                },
            ) => {
                self.kept.insert(*grain, (accepted.seq, accepted.hash));
            }
            _ => {}
        }
    }
}
