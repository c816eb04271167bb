//! The commits of an activation that some replica doesn't have yet.
//!
//! An activation's commits are one chain. The window holds its end: all that no quorum has, and a bounded part of what a quorum has and a
//! straggler doesn't. A straggler that is further behind gets the whole state.

use std::collections::{BTreeMap, VecDeque};

use super::Limits;
use crate::id::{HostId, Seq};
use crate::replication::messages::{Accepted, CommitHash, Payload, Proposal, State};
use crate::time::Time;

/// A state in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Point {
    pub(super) seq: Seq,
    pub(super) hash: CommitHash,
    pub(super) deleted: bool,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Progress {
    /// Accepted under this ballot, durably.
    pub(super) acked: Option<Seq>,
    /// It needs the whole state.
    pub(super) wants_image: bool,
    /// Up to where it was last sent what it lacked, and when.
    resent: Option<(Seq, Time)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    proposal: Proposal,
    /// When it was sent first.
    stamp: u64,
}

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Window {
    /// The state before the first entry.
    base: Point,
    entries: VecDeque<Entry>,
    bytes: usize,
    replicas: BTreeMap<HostId, Progress>,
}

impl Window {
    /// The window of an activation that begins with this state.
    pub(super) fn new(head: Option<Accepted>) -> Window {
        let base = head.map_or((Seq(0), [0; 16], false), |head| (head.seq, head.hash, head.deleted));
        let (seq, hash, deleted) = base;
        Window {
            base: Point { seq, hash, deleted },
            entries: VecDeque::new(),
            bytes: 0,
            replicas: BTreeMap::new(),
        }
    }

    /// Takes the next commit in.
    ///
    /// # Panics
    ///
    /// When it isn't the next: an activation that forks its own chain is this host's fault, and nothing that it did could be trusted.
    pub(super) fn push(&mut self, proposal: Proposal, stamp: u64) {
        let last = self.last();
        assert!(
            proposal.seq == last.seq.next() && proposal.prev_hash == last.hash,
            "{proposal:?} doesn't follow {last:?}"
        );
        self.bytes += len(&proposal);
        self.entries.push_back(Entry { proposal, stamp });
    }

    /// Notes an acknowledgement. The stamp of the commit's first sending, if that is known; nothing when it isn't one of this chain.
    pub(super) fn ack(&mut self, from: HostId, seq: Seq, hash: CommitHash) -> Option<u64> {
        if seq > self.last().seq || self.hash_at(seq).is_some_and(|known| known != hash) {
            return None;
        }
        let progress = self.replicas.entry(from).or_default();
        progress.acked = progress.acked.max(Some(seq));
        if progress.acked >= Some(seq) {
            progress.wants_image = false;
        }
        self.entry(seq).map(|entry| entry.stamp)
    }

    /// Up to which commit `quorum` of `hosts` have all.
    pub(super) fn held_by(&self, hosts: &[HostId], quorum: usize) -> Option<Seq> {
        let mut acked: Vec<Option<Seq>> = hosts.iter().map(|host| self.progress(*host).acked).collect();
        acked.sort_unstable();
        acked[acked.len().checked_sub(quorum)?]
    }

    /// Drops what a quorum has and stragglers can't have: more than `most_entries` or `most_bytes` up to `committed`, or what all have.
    pub(super) fn trim(&mut self, hosts: &[HostId], committed: Seq, most_entries: usize, most_bytes: usize) {
        let all = self.held_by(hosts, hosts.len()).unwrap_or(Seq(0));
        while let Some(first) = self.entries.front() {
            let seq = first.proposal.seq;
            let too_many = self.entries.len() > most_entries || self.bytes > most_bytes;
            if !(seq <= all || (seq <= committed && too_many)) {
                return;
            }
            self.bytes -= len(&first.proposal);
            let (hash, deleted) = (first.proposal.hash, first.proposal.deletes);
            self.base = Point { seq, hash, deleted };
            self.entries.pop_front();
        }
    }

    /// Forgets how far the replicas are: they are others now.
    pub(super) fn forget_replicas(&mut self) {
        self.replicas.clear();
    }

    /// A replica can't follow what was sent. Whether the window holds what lies between; the whole state is needed otherwise.
    pub(super) fn bridges(&self, have: Option<Accepted>) -> Option<Seq> {
        let (seq, hash) = have.map_or((Seq(0), [0; 16]), |last| (last.seq, last.hash));
        let next = self.entry(seq.next())?;
        (next.proposal.prev_hash == hash).then_some(next.proposal.seq)
    }

    /// Notes whether a replica needs the whole state.
    pub(super) fn want_image(&mut self, host: HostId, wants: bool) {
        self.replicas.entry(host).or_default().wants_image = wants;
    }

    /// Whether a replica that lacks all from `first` on is to be sent that: not when it's on its way, unless that was long ago.
    pub(super) fn may_resend(&mut self, host: HostId, first: Seq, now: Time, limits: &Limits) -> bool {
        let upto = Seq(first.0.saturating_add(limits.resent_commits as u64)).min(self.last().seq);
        let progress = self.replicas.entry(host).or_default();
        let is_under_way = progress
            .resent
            .is_some_and(|(upto, at)| first <= upto && now < at.plus_nanos(limits.retry_nanos / 4));
        if !is_under_way {
            progress.resent = Some((upto, now));
        }
        !is_under_way
    }

    /// At most `most` commits from `seq` on.
    pub(super) fn from(&self, seq: Seq, most: usize) -> impl Iterator<Item = &Proposal> {
        let skipped = seq.0.saturating_sub(self.base.seq.0 + 1) as usize;
        self.entries
            .iter()
            .skip(skipped)
            .take(most)
            .map(|entry| &entry.proposal)
    }

    /// The state before the first commit that is held.
    pub(super) fn base(&self) -> Point {
        self.base
    }

    /// The last commit.
    pub(super) fn last(&self) -> Point {
        self.entries.back().map_or(self.base, |entry| Point {
            seq: entry.proposal.seq,
            hash: entry.proposal.hash,
            deleted: entry.proposal.deletes,
        })
    }

    /// The whole state, when it takes nothing to know it: the grain is deleted, or there is none.
    pub(super) fn known_state(&self) -> Option<State> {
        let Point { seq, hash, deleted } = self.last();
        let body = super::Body::default();
        deleted.then_some(State {
            seq,
            hash,
            deleted,
            body,
        })
    }

    /// Whether `state` is one that the window knows to be this chain's. An older one may be, too, but under this activation's ballot it would
    /// outweigh what was committed since.
    pub(super) fn contains(&self, state: &State) -> bool {
        self.hash_at(state.seq) == Some(state.hash)
    }

    /// How far a replica is.
    pub(super) fn progress(&self, host: HostId) -> Progress {
        self.replicas.get(&host).copied().unwrap_or_default()
    }

    /// How many commits are held.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn entry(&self, seq: Seq) -> Option<&Entry> {
        let at = seq.0.checked_sub(self.base.seq.0 + 1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    fn hash_at(&self, seq: Seq) -> Option<CommitHash> {
        if seq == self.base.seq {
            return Some(self.base.hash);
        }
        self.entry(seq).map(|entry| entry.proposal.hash)
    }
}

fn len(proposal: &Proposal) -> usize {
    match &proposal.payload {
        Payload::Same => 0,
        Payload::Delta(body) | Payload::Full(body) => body.len(),
    }
}
