//! The chain of configurations: which hosts are the cluster, and which of them hold each slot, agreed.
//!
//! **Not here:** who seems alive (membership tells), how slots are handed over (replication does).

pub mod config;
pub mod decree;
mod form;
#[cfg(test)]
mod model;
