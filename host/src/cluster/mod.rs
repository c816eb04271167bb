//! This host's part in its cluster: what `granary_core::cluster` decides, done.
//!
//! ```text
//!   link  --frames-->  office (one thread, the machine)  --accepted commits-->  storage's log
//!   (QUIC)             ^      |                          --everything else---->  journal
//!                      |      v
//!   activations, router, membership: notes and news
//! ```
//!
//! **Not here:** rules and protocols (core), turns (`activation`), requests on their way (`router`).

mod config;
mod copies;
mod dispatch;
mod entry;
mod files;
mod handle;
mod journal;
mod keys;
mod link;
mod members;
mod notes;
mod office;
mod quic;
mod reader;
mod station;
#[cfg(test)]
mod tests;
mod wire;

pub use config::ClusterConfig;
pub(crate) use entry::was_in_one;
pub(crate) use handle::{Handle, Inbox, channel_to_office};
pub(crate) use link::CallError;
pub(crate) use notes::{Edited, Hear, News, OpenError, Way};
pub(crate) use quic::{Answered, Answering, Joining};
pub(crate) use station::{Answerer, Station, StationCounts, StationError, StationSettings};
pub use station::{ClusterView, HostView};
pub(crate) use wire::{Topic, decode, encode, question, topic_of};
