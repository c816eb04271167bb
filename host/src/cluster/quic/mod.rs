//! The network between hosts: QUIC, with mutual TLS by the cluster's own authority.
//!
//! ```text
//!   endpoint     one UDP socket; implements the cluster's link
//!   lane         a connection that this host has dialled: frames in order, datagrams, questions
//!   incoming     connections that others have dialled: what comes of them are events
//!   desk         questions that are worked on
//!   allowance    how many bytes of others' messages are held
//!   known        which life of a host is believed, and what this host is told of itself
//!   message      a question's and an answer's bytes
//!   strangers    who isn't known yet, and how many of them there may be
//!   join         a new host shows its token and gets a certificate
//!   traffic      counts bytes
//!   authority    lets hosts in; identity: who this host is; tls: who is believed; token, token_book: who may join
//! ```
//!
//! Each host sends on connections that it has dialled and hears on those that others have dialled, so two hosts never have to agree on which
//! of two connections stays. Everything runs on a thread of its own: guests that compute must not make this host look dead.
//!
//! **Not here:** what frames mean.

mod allowance;
mod authority;
mod desk;
mod endpoint;
mod identity;
mod incoming;
mod join;
mod known;
mod lane;
mod message;
mod strangers;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod token_book;
mod traffic;

pub(super) use allowance::Held;
pub(super) use authority::Authority;
pub(crate) use authority::AuthorityError;
pub(crate) use endpoint::BindError;
pub(super) use endpoint::{Quic, QuicSettings};
pub(super) use identity::{Identity, Origin};
pub(crate) use incoming::{Answered, Answering, Events, Joining, Telling};
pub(crate) use join::JoinError;
pub(super) use join::join;
pub(super) use token::{JoinToken, NoToken};
pub(crate) use traffic::Bytes as TrafficBytes;
