//! Clusters of real processes: what any host answers, and what stays when hosts die, freeze, leave and come back.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails; what it prints is shown then"
)]

mod authority;
mod bankers;
mod chaos;
mod circles;
mod clocks;
mod copied_folders;
mod dead_threads;
mod deaths;
mod deletions;
mod deploys;
mod joining;
mod lifetimes;
mod listing;
mod logs;
mod moving;
mod repairs;
mod repeaters;
mod restarts;
mod serving;
mod sharers;
mod stopping;
mod sweeping;
mod targets;
mod verbs;
mod writers;
mod zones;
