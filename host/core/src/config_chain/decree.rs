//! One decree: how the voters of a configuration agree on its successor.
//!
//! Single-decree Paxos (Lamport, *Paxos Made Simple*, 2001, section 2.2). A proposer picks a ballot that nobody else has and asks
//! the voters to promise that they accept nothing below it; each answers with what it has accepted. Once a majority has promised,
//! the proposer has to take over the value of the highest ballot among the answers, and is free only when there is none. It asks
//! for that value to be accepted; a majority of acceptances under one ballot decides. Two majorities share a voter, so a later
//! ballot meets every value that may have been decided.
//!
//! A voter makes what it promised or accepted durable before it says so: else two majorities would share only a voter that has
//! forgotten. A ballot holds its proposer's incarnation, so a proposer keeps nothing: after a restart it has new ballots.
//!
//! The value is a parameter because two kinds are agreed on: configurations, and the numbers that the model checker's tests walk
//! through every order of messages with (`config_chain/model.rs`).
//!
//! **Not here:** messages, durability, when and by whom something is proposed ([`super::chain`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{Ballot, HostId};

/// A voter's part. All of it is durable before an answer that it gives leaves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Acceptor<V> {
    promised: Option<Ballot>,
    accepted: Option<(Ballot, V)>,
}

/// The voter has promised this ballot, which is higher: nothing changed, the proposer needs a higher one yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbid(pub Ballot);

impl<V> Default for Acceptor<V> {
    fn default() -> Acceptor<V> {
        Acceptor {
            promised: None,
            accepted: None,
        }
    }
}

impl<V: Clone> Acceptor<V> {
    /// Promises to accept nothing below `ballot`; returns what was accepted so far. The same ballot again is promised again: the
    /// answer may have been lost.
    pub fn promise(&mut self, ballot: Ballot) -> Result<Option<(Ballot, V)>, Outbid> {
        self.admit(ballot)?;
        Ok(self.accepted.clone())
    }

    /// Accepts a value under `ballot`.
    pub fn accept(&mut self, ballot: Ballot, value: V) -> Result<(), Outbid> {
        self.admit(ballot)?;
        self.accepted = Some((ballot, value));
        Ok(())
    }

    fn admit(&mut self, ballot: Ballot) -> Result<(), Outbid> {
        match self.promised {
            Some(promised) if promised > ballot => Err(Outbid(promised)),
            _ => {
                self.promised = Some(ballot);
                Ok(())
            }
        }
    }

    /// The highest ballot that it has promised.
    pub fn promised(&self) -> Option<Ballot> {
        self.promised
    }

    /// What it has accepted last.
    pub fn accepted(&self) -> Option<&(Ballot, V)> {
        self.accepted.as_ref()
    }
}

/// What a majority's promises leave to the proposer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<V> {
    /// Nobody can have decided anything: propose what seems right.
    Free,
    /// This may have been decided: propose it again.
    Bound(V),
}

/// A proposer's part: one attempt under one ballot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt<V> {
    ballot: Ballot,
    voters: Vec<HostId>,
    promises: BTreeMap<HostId, Option<(Ballot, V)>>,
    value: Option<V>,
    acceptances: BTreeSet<HostId>,
}

impl<V: Clone> Attempt<V> {
    /// An attempt to have `voters` agree, under a ballot that was never used.
    pub fn new(ballot: Ballot, voters: Vec<HostId>) -> Attempt<V> {
        Attempt {
            ballot,
            voters,
            promises: BTreeMap::new(),
            value: None,
            acceptances: BTreeSet::new(),
        }
    }

    /// Takes a voter's promise. With the one that makes a majority comes the choice; then call [`Attempt::propose`].
    pub fn promised(&mut self, from: HostId, accepted: Option<(Ballot, V)>) -> Option<Choice<V>> {
        if self.value.is_some() || !self.voters.contains(&from) || self.promises.contains_key(&from) {
            return None;
        }
        self.promises.insert(from, accepted);
        if self.promises.len() != self.majority() {
            return None;
        }
        let found = self.promises.values().flatten().max_by_key(|(ballot, _)| *ballot);
        Some(found.map_or(Choice::Free, |(_, value)| Choice::Bound(value.clone())))
    }

    /// Fixes the value.
    ///
    /// # Panics
    ///
    /// When it's fixed already: two values under one ballot could both be decided.
    pub fn propose(&mut self, value: V) {
        assert!(self.value.is_none(), "a ballot has one value");
        self.value = Some(value);
    }

    /// Takes a voter's acceptance. True with the one that decides.
    pub fn accepted(&mut self, from: HostId) -> bool {
        let new = self.value.is_some() && self.voters.contains(&from) && self.acceptances.insert(from);
        new && self.acceptances.len() == self.majority()
    }

    /// Its ballot.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Its value, once there is one.
    pub fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }

    /// Voters whose answer to the present question is still to come.
    pub fn missing(&self) -> impl Iterator<Item = HostId> + '_ {
        let has_answered = |voter: &HostId| match self.value {
            Some(_) => self.acceptances.contains(voter),
            None => self.promises.contains_key(voter),
        };
        self.voters.iter().copied().filter(move |voter| !has_answered(voter))
    }

    fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u8) -> HostId {
        HostId([n; 16])
    }

    fn ballot(counter: u64, n: u8) -> Ballot {
        Ballot {
            counter,
            host: host(n),
            incarnation: 1,
        }
    }

    #[test]
    fn a_voter_accepts_nothing_below_its_promise() {
        let mut voter = Acceptor::default();
        assert_eq!(voter.promise(ballot(2, 1)), Ok(None));
        assert_eq!(voter.accept(ballot(1, 9), 'a'), Err(Outbid(ballot(2, 1))));
        assert_eq!(voter.promise(ballot(1, 9)), Err(Outbid(ballot(2, 1))));
        assert_eq!(voter.accept(ballot(2, 1), 'b'), Ok(()));
        // An acceptance is a promise, too.
        assert_eq!(voter.accept(ballot(3, 1), 'c'), Ok(()));
        assert_eq!(voter.promise(ballot(2, 9)), Err(Outbid(ballot(3, 1))));
    }

    #[test]
    fn a_promise_that_was_lost_is_given_again() {
        let mut voter = Acceptor::default();
        voter.accept(ballot(1, 1), 'a').unwrap();
        assert_eq!(voter.promise(ballot(2, 1)), Ok(Some((ballot(1, 1), 'a'))));
        assert_eq!(voter.promise(ballot(2, 1)), Ok(Some((ballot(1, 1), 'a'))));
    }

    #[test]
    fn the_value_of_the_highest_ballot_is_taken_over() {
        let mut attempt = Attempt::new(ballot(5, 1), vec![host(1), host(2), host(3), host(4), host(5)]);
        assert_eq!(attempt.promised(host(1), Some((ballot(4, 2), 'x'))), None);
        assert_eq!(attempt.promised(host(1), None), None, "a voter counts once");
        assert_eq!(attempt.promised(host(9), None), None, "a stranger doesn't count");
        assert_eq!(attempt.promised(host(2), Some((ballot(3, 3), 'y'))), None);
        assert_eq!(attempt.promised(host(3), None), Some(Choice::Bound('x')));
    }

    #[test]
    fn a_majority_decides_once() {
        let mut attempt = Attempt::new(ballot(1, 1), vec![host(1), host(2), host(3)]);
        attempt.promised(host(1), None);
        assert_eq!(attempt.promised(host(2), None), Some(Choice::Free));
        attempt.propose('v');
        assert_eq!(attempt.missing().count(), 3);
        assert!(!attempt.accepted(host(3)));
        assert!(!attempt.accepted(host(3)), "a voter counts once");
        assert!(attempt.accepted(host(1)));
        assert!(!attempt.accepted(host(2)), "it was decided before");
    }
}
