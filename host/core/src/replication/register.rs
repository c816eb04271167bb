//! One grain's ballots at one replica: a CASPaxos register whose value is a chain of commits.
//!
//! The register holds what was promised and what was accepted last; the commits themselves are in storage. A state is named by the
//! hash of its last commit, which covers all before it, so comparing hashes compares histories.
//!
//! Source: Rystsov, *CASPaxos: Replicated State Machines without logs* (2018); here the activation is a standing proposer, which
//! prepares once and then sends commit after commit under its ballot.
//!
//! **Not here:** durability, configurations, and who is asked ([`Replica`](super::replica::Replica)).

use super::messages::{Accepted, CommitHash, Payload, Proposal, Refusal};
use super::mutation::{Mutation, Rules};
use crate::id::{Ballot, HostId, Seq};
use crate::time::Time;

/// Who holds the grain, as far as this replica has heard. Policy only (**invariant 10**): it delays others, and permits nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    /// Its ballot.
    pub(super) ballot: Ballot,
    /// The host that holds the grain or is about to.
    pub(super) host: HostId,
    /// Others wait until then.
    pub(super) until: Time,
}

/// A grain's register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Register {
    /// Nothing below is accepted.
    pub(super) promised: Option<Ballot>,
    /// The last accepted commit.
    pub(super) accepted: Option<Accepted>,
    /// The ticket of the last record about this grain: answers wait for it.
    pub(super) ticket: u64,
    /// Who holds it.
    pub(super) holder: Option<Holder>,
}

/// What comes of an Accept that isn't refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It's accepted.
    Taken,
    /// It, or a later commit of the same activation, was accepted before.
    Before,
    /// It doesn't follow what is here.
    Gap,
}

impl Register {
    /// Promises `ballot`. `Ok(true)` when that is new, `Ok(false)` when it's promised already: a repeat, answered like the first.
    pub(super) fn prepare(&mut self, floor: Option<Ballot>, ballot: Ballot) -> Result<bool, Refusal> {
        self.admits(floor, ballot)?;
        let new = self.promised != Some(ballot);
        self.promised = Some(ballot);
        Ok(new)
    }

    /// Accepts a commit, if it's not below the promise and follows what is here.
    pub(super) fn accept(
        &mut self,
        floor: Option<Ballot>,
        ballot: Ballot,
        proposal: &Proposal,
        rules: Rules,
    ) -> Result<Step, Refusal> {
        // Invariant 1: a replica never accepts below its promise, before or after a restart.
        if !rules.breaks(Mutation::NoFence) {
            self.admits(floor, ballot)?;
        }
        if !rules.breaks(Mutation::ReorderedAccept) {
            if self
                .accepted
                .is_some_and(|last| last.ballot == ballot && last.seq >= proposal.seq)
            {
                // Invariant 2: within a ballot a replica never goes back. An activation's commits are one chain, so the later one
                // contains this one.
                return Ok(Step::Before);
            }
            if !self.follows(proposal) {
                return Ok(Step::Gap);
            }
        }
        self.restore(ballot, proposal);
        Ok(Step::Taken)
    }

    /// Takes in a commit that is accepted: it's checked, or was before a restart.
    pub(super) fn restore(&mut self, ballot: Ballot, proposal: &Proposal) {
        self.promised = self.promised.max(Some(ballot));
        self.accepted = Some(proposal.accepted(ballot));
    }

    /// Whether an activation with this ballot can still be the one that commits, as far as this replica knows.
    pub(super) fn confirms(&self, floor: Option<Ballot>, ballot: Ballot) -> Result<(), Refusal> {
        self.admits(floor, ballot)
    }

    /// Whether the grain may be forgotten: its last commit is this tombstone, and nobody has been promised anything since.
    pub(super) fn forgets(&self, ballot: Ballot, hash: CommitHash) -> bool {
        self.promised == Some(ballot) && self.accepted.is_some_and(|last| last.deleted && last.hash == hash)
    }

    /// Takes what another replica knows: the higher promise, the higher commit.
    pub(super) fn merge(&mut self, promised: Option<Ballot>, accepted: Option<Accepted>) {
        self.accepted = self.accepted.max(accepted);
        // Whoever has accepted a ballot has promised it, even if its listing was made before.
        self.promised = self.promised.max(promised).max(self.accepted.map(|last| last.ballot));
    }

    /// Notes that the activation with this ballot lives.
    pub(super) fn hear(&mut self, ballot: Ballot, until: Time) {
        if self.holder.is_none_or(|holder| holder.ballot <= ballot) {
            self.holder = Some(Holder {
                ballot,
                host: ballot.host,
                until,
            });
        }
    }

    /// Whom `asker` has to wait for.
    pub(super) fn held_against(&self, asker: HostId, now: Time) -> Option<Holder> {
        self.holder.filter(|holder| holder.host != asker && holder.until > now)
    }

    fn admits(&self, floor: Option<Ballot>, ballot: Ballot) -> Result<(), Refusal> {
        match (self.promised, floor) {
            (Some(promised), _) if ballot < promised => Err(Refusal::Promised(promised)),
            (Some(_), _) => Ok(()),
            // What is forgotten can't be told from what never was: the highest promise of all forgotten grains stands for each.
            (None, Some(floor)) if ballot <= floor => Err(Refusal::BelowFloor(floor)),
            (None, _) => Ok(()),
        }
    }

    fn follows(&self, proposal: &Proposal) -> bool {
        let (seq, hash) = self.accepted.map_or((Seq(0), [0; 16]), |last| (last.seq, last.hash));
        match proposal.payload {
            Payload::Same => (seq, hash) == (proposal.seq, proposal.hash),
            Payload::Delta(_) => (seq.next(), hash) == (proposal.seq, proposal.prev_hash),
            Payload::Full(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::body::Body;
    use crate::replication::tests::{accepted, ballot, hash, proposal};

    /// A register that has promised and accepted: `promised` counter, accepted (counter, seq, hash).
    fn register(promised: Option<u64>, accepted: Option<(u64, u64, u8)>) -> Register {
        Register {
            promised: promised.map(ballot),
            accepted: accepted.map(|(counter, seq, name)| Accepted {
                ballot: ballot(counter),
                seq: Seq(seq),
                hash: hash(name),
                deleted: false,
            }),
            ..Register::default()
        }
    }

    fn check_prepare(mut register: Register, floor: Option<u64>, counter: u64, expect: Result<bool, Refusal>) {
        assert_eq!(
            register.prepare(floor.map(ballot), ballot(counter)),
            expect,
            "{register:?}"
        );
    }

    #[test]
    fn a_prepare_needs_more_than_what_is_promised() {
        check_prepare(register(None, None), None, 1, Ok(true));
        check_prepare(register(Some(1), None), None, 2, Ok(true));
        check_prepare(register(Some(2), None), None, 2, Ok(false));
        check_prepare(register(Some(3), None), None, 2, Err(Refusal::Promised(ballot(3))));
    }

    #[test]
    fn a_grain_without_a_promise_is_as_if_all_below_the_floor_were_promised() {
        check_prepare(register(None, None), Some(4), 4, Err(Refusal::BelowFloor(ballot(4))));
        check_prepare(register(None, None), Some(4), 5, Ok(true));
        check_prepare(register(Some(1), None), Some(4), 2, Ok(true));
    }

    fn check_accept(
        mut register: Register,
        counter: u64,
        proposal: Proposal,
        expect: Result<Step, Refusal>,
        then: Option<(u64, u64, u8)>,
    ) {
        assert_eq!(
            register.accept(None, ballot(counter), &proposal, Rules::default()),
            expect
        );
        assert_eq!(
            register.accepted,
            self::register(None, then).accepted,
            "after {proposal:?}"
        );
    }

    #[test]
    fn an_accept_below_the_promise_is_refused() {
        let refusal = Err(Refusal::Promised(ballot(3)));
        check_accept(
            register(Some(3), Some((1, 1, 1))),
            2,
            proposal(2, 1, 2),
            refusal,
            Some((1, 1, 1)),
        );
        check_accept(
            register(Some(3), Some((1, 1, 1))),
            3,
            proposal(2, 1, 2),
            Ok(Step::Taken),
            Some((3, 2, 2)),
        );
    }

    #[test]
    fn an_accept_above_the_promise_raises_it() {
        let mut register = register(Some(1), None);
        assert_eq!(
            register.accept(None, ballot(5), &proposal(1, 0, 1), Rules::default()),
            Ok(Step::Taken)
        );
        assert_eq!(register.promised, Some(ballot(5)));
    }

    #[test]
    fn within_a_ballot_nothing_goes_back() {
        let at = Some((3, 5, 5));
        check_accept(register(Some(3), at), 3, proposal(4, 3, 4), Ok(Step::Before), at);
        check_accept(register(Some(3), at), 3, proposal(5, 4, 5), Ok(Step::Before), at);
        let full = Proposal {
            payload: Payload::Full(Body::default()),
            ..proposal(4, 3, 4)
        };
        check_accept(register(Some(3), at), 3, full, Ok(Step::Before), at);
    }

    #[test]
    fn a_delta_has_to_follow() {
        let at = Some((1, 5, 5));
        check_accept(
            register(Some(1), at),
            3,
            proposal(6, 5, 6),
            Ok(Step::Taken),
            Some((3, 6, 6)),
        );
        check_accept(register(Some(1), at), 3, proposal(7, 6, 7), Ok(Step::Gap), at);
        check_accept(register(Some(1), at), 3, proposal(6, 9, 6), Ok(Step::Gap), at);
        check_accept(
            register(None, None),
            3,
            proposal(1, 0, 1),
            Ok(Step::Taken),
            Some((3, 1, 1)),
        );
        check_accept(register(None, None), 3, proposal(2, 1, 2), Ok(Step::Gap), None);
    }

    #[test]
    fn the_whole_state_replaces_what_an_older_ballot_left() {
        let full = Proposal {
            payload: Payload::Full(Body::default()),
            ..proposal(4, 3, 4)
        };
        check_accept(
            register(Some(1), Some((1, 5, 5))),
            3,
            full,
            Ok(Step::Taken),
            Some((3, 4, 4)),
        );
    }

    #[test]
    fn a_write_back_needs_the_same_state() {
        let same = Proposal {
            payload: Payload::Same,
            ..proposal(5, 0, 5)
        };
        check_accept(
            register(Some(1), Some((1, 5, 5))),
            3,
            same.clone(),
            Ok(Step::Taken),
            Some((3, 5, 5)),
        );
        check_accept(
            register(Some(1), Some((1, 5, 6))),
            3,
            same,
            Ok(Step::Gap),
            Some((1, 5, 6)),
        );
    }

    #[test]
    fn what_is_merged_is_the_higher_of_both_and_promised() {
        let mut register = register(Some(3), Some((2, 5, 5)));
        register.merge(Some(ballot(1)), Some(accepted(4, 4, 4)));
        assert_eq!(
            (register.promised, register.accepted),
            (Some(ballot(4)), Some(accepted(4, 4, 4)))
        );
        register.merge(Some(ballot(6)), Some(accepted(4, 3, 3)));
        assert_eq!(
            (register.promised, register.accepted),
            (Some(ballot(6)), Some(accepted(4, 4, 4)))
        );
    }

    #[test]
    fn only_the_tombstone_of_the_promised_activation_is_forgotten() {
        let mut register = register(Some(3), Some((3, 5, 5)));
        assert!(!register.forgets(ballot(3), hash(5)), "the grain isn't deleted");
        register.accepted.as_mut().unwrap().deleted = true;
        assert!(register.forgets(ballot(3), hash(5)));
        assert!(!register.forgets(ballot(3), hash(4)), "another tombstone");
        register.promised = Some(ballot(4));
        assert!(!register.forgets(ballot(3), hash(5)), "somebody else is at work");
    }
}
