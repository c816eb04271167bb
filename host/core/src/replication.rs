//! Replication: which activation of a grain may commit, and where its commits are kept.
//!
//! Each slot has R replicas (three, in a cluster of three hosts or more). A grain's activation has its commits accepted by a quorum
//! of them, q with 2q > R, under a [ballot](crate::id::Ballot) that no other activation has. Taking over a grain means to have a quorum promise
//! a higher ballot; from then on the old activation gets no quorum any more, wherever it is and whatever it believes.
//!
//! - [`proposer`]: an activation's side; [`proposers`] all of a host's, with the renewal of their ballots.
//! - [`replica`]: a slot's side; [`replicas`] all of a host's. [`record`] is what it writes, `register` one grain's rules.
//! - `handover`: a slot gets other replicas.
//! - [`messages`]: what they say to each other. The network may lose, double, delay and re-order all of it.
//!
//! What gossip says about who is alive decides nothing here; it only helps to choose whom to ask.
//!
//! # Invariants
//!
//! By number in the code that keeps them, and by name in the model and in the simulator's checkers:
//!
//! 1. *fence*: a replica never accepts below its promise, before or after a restart.
//! 2. *no way back*: within a ballot a replica never goes back.
//! 3. *quorums meet*: promises and accepts need q replicas, 2q > R; with R = 2 both.
//! 4. *sealed*: a configuration has one successor; a sealed replica answers nothing at the old number.
//! 5. *committed before seen*: no reply or effect of a `committed` grain leaves before its commit has q acknowledgements.
//! 6. *write-back*: an activation is active only after q identical promises, or after writing back under its own ballot.
//! 7. *identity is the disk*: a host that lost its disk is another host.
//! 8. *one history*: all acknowledged or served histories of a grain are prefixes of one another (until a deleted grain is forgotten).
//! 9. *fresh reads*: a linearizable read replies after a quorum's answer to a question that was asked after the read arrived.
//! 10. *patience* (policy): nobody pre-empts a holder that seems alive.

pub mod body;
mod handover;
pub mod messages;
#[cfg(test)]
mod model;
pub mod mutation;
pub mod proposer;
pub mod proposers;
pub mod record;
mod register;
pub mod replica;
pub mod replica_set;
pub mod replicas;
#[cfg(test)]
pub(crate) mod tests;
