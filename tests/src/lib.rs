//! What the end-to-end tests share: a real host as a child process, a client, the command line, seeded randomness.
//!
//! The tests use the binary as its users do: by its command line and by HTTP. They know nothing of its inside, so
//! they stay true when it changes. `cargo xtask test` builds what they need and runs them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails, and a skip is told on stdout"
)]

pub mod built;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod flip;
pub mod history;
pub mod host;
pub mod ledger;
pub mod linearizable;
pub mod network;
pub mod occupied;
pub mod port;
pub mod procfs;
pub mod seed;
pub mod soak;
pub mod tool;
pub mod trace;
pub mod wait;

pub use client::{Client, Reply, Request};
pub use cluster::Cluster;
pub use host::Host;
