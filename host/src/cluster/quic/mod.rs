//! The network between hosts: QUIC, with mutual TLS by the cluster's own authority.
//!
//! ```text
//!   endpoint     one UDP socket; implements the cluster's link
//!   lane         a connection that this host has dialled: frames in order, datagrams, questions
//!   incoming     connections that others have dialled: what comes of them are events
//!   known        which life of a host is believed, and what this host is told of itself
//!   join         a new host shows its token and gets the authority
//!   traffic      counts bytes
//!   authority    signs certificates; tls: who is believed; token, token_book: who may join
//! ```
//!
//! Each host sends on connections that it has dialled and hears on those that others have dialled, so two hosts never have to agree on which
//! of two connections stays. Everything runs on a thread of its own: guests that compute must not make this host look dead.
//!
//! **Not here:** what frames mean.

mod authority;
mod endpoint;
mod incoming;
mod join;
mod known;
mod lane;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod token_book;
mod traffic;

pub(crate) use authority::{Authority, AuthorityError};
pub(crate) use endpoint::{Quic, QuicSettings};
pub(crate) use incoming::{Answered, Answering, Events, Joining};
pub(crate) use join::{JoinError, join};
pub(crate) use token::{JoinToken, NoToken};
pub(crate) use traffic::Bytes as TrafficBytes;
