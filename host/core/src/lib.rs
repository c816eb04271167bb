//! What a grain host decides, apart from how it does it.
//!
//! One host: ids, messages, what a turn changed ([`commit`]), the table of stored replies, the [`activation`] machine, the wait-for graph,
//! which requests to refuse ([`admission`]), how a host stops ([`stopping`]).
//! Many hosts: who seems to be there ([`membership`]), who holds copies ([`config_chain`], [`ring`]), which activation may commit
//! ([`replication`]), where it is ([`directory`], [`routing`]) and where it goes ([`placement`]); [`cluster`] is one machine of them all. Nothing here
//! reads a clock, opens a socket or a file, starts a thread or iterates in an order that differs between runs: time and
//! randomness come in as arguments, decisions go out as data that a test can print and compare.
//!
//! The machines share one shape: `handle(&mut self, input, &mut Vec<Output>)`. The host drives them from tokio tasks, a
//! simulator from a virtual clock.
//!
//! **Not here:** how a guest runs (`granary_host::wasm`), how bytes reach the disk (`granary_host::storage`).

pub mod activation;
pub mod admission;
pub mod api;
pub mod cluster;
pub mod codec;
pub mod commit;
pub mod config_chain;
pub mod directory;
pub mod id;
pub mod membership;
pub mod message;
pub mod page;
pub mod placement;
pub mod replication;
pub mod reply_table;
pub mod ring;
pub mod rng;
pub mod routing;
pub mod slot;
pub mod stopping;
pub mod time;
pub mod waits;
