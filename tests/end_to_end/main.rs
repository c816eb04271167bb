//! The main job on one host, by HTTP and by the command line: every status, header and error code that one host has.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod admin;
mod arguments;
mod bank;
mod builds;
mod command_line;
mod counter;
mod deploys;
mod errors;
mod grains;
mod logs;
mod own_crate;
mod own_log;
mod pipes;
mod private;
mod rights;
mod signals;
mod starts;
mod upgrades;
mod values;
