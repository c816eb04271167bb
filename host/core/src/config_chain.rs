//! The chain of configurations: which hosts are the cluster, and which of them hold each slot, agreed.
//!
//! Membership by gossip may differ from host to host; if each host picked quorums from its own view, two sides of a cut could
//! both commit. So the hosts agree on a numbered [`Config`](config::Config) after the other: the voters of configuration n decide
//! n+1 by one Paxos decree ([`decree`]). Changes are rare (a join, a leave, a death), so the price of a decree doesn't matter, and
//! no call waits for one.
//!
//! [`chain::Chain`] is the machine that a host runs; [`crate::ring`] says which hosts a slot should have. That data of a slot
//! is found again whatever happens during a change hangs on the sources in each configuration ([`config`]).
//!
//! **Not here:** who seems alive (membership tells), how slots are handed over (replication does).

pub mod chain;
pub mod config;
pub mod decree;
pub mod event;
mod form;
#[cfg(test)]
mod model;
#[cfg(test)]
mod rivals;
mod roster;
#[cfg(test)]
mod sources;
mod successor;
#[cfg(test)]
mod tests;
