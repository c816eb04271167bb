//! Step 1 of a call's path: a request comes in, a reply goes out.
//!
//! | path | verbs | file |
//! |---|---|---|
//! | `/v1/grains/{type}/{key}/{method}` | POST; GET for `#[read]` methods | `invoke` |
//! | `/v1/grains/{type}/{key}` | GET, DELETE | `grains` |
//! | `/v1/grains/{type}` | GET | `grains` |
//! | `/v1/modules`, `/v1/modules/{type}` | GET, PUT | `modules` |
//! | `/v1/modules/{type}/rollback`, `.../upgrade` | POST, GET | `upgrades` |
//! | `/v1/cluster`, `/v1/cluster/token`, `.../rotate`, `.../drain`, `.../move` | GET, POST | `cluster` |
//! | `/healthz`, `/readyz`, `/metrics` | GET | `admin` |
//! | `/v1/logs` | GET | `logs` |
//! | `/v1/openapi.json`, `/` | GET: not built yet, and says so | `admin` |
//!
//! A connection (`server`) hands each request to `exchange`, which checks who asks and what they may do (`access`), finds its
//! handler, and adds to the reply what every reply has. Paths of grains are taken apart by `path`, since a key may hold any
//! character and calls are the hot path; axum routes the rest. What refuses a request says so as a `CallFailure`; `error`
//! alone turns that into a status and a document.
//!
//! **Not here:** what a call does. This module knows the router and the modules by their faces, and nothing of guests or
//! storage.

mod access;
mod admin;
mod args;
mod body;
mod cluster;
mod config;
mod connection;
mod depth;
mod descriptors;
mod door;
mod error;
mod exchange;
mod facts;
#[doc(hidden)]
pub mod fuzzing;
mod grains;
mod headers;
mod inside;
mod invoke;
mod listener;
mod logs;
mod memory;
mod metrics;
mod modules;
mod path;
mod peers;
mod percent;
mod pulse;
mod query;
mod reload;
mod request_id;
mod server;
#[cfg(test)]
mod tests;
mod upgrades;
mod wait;

use std::sync::Arc;

use axum::body::Bytes;
use http_body_util::{Either, Full};

pub use access::{OwnerSocket, SecurityError, TokenFileError};
pub use config::HttpConfig;
pub use facts::HostFacts;
pub(crate) use reload::reloader;
pub use reload::{Reloader, Reloads};
pub use server::{ServeError, serve};

use crate::audit::Audit;
use crate::modules::Modules;
use crate::router::Router;

/// What the HTTP side is given.
pub struct HttpParts {
    /// Takes calls to grains.
    pub router: Router,
    /// The grain types.
    pub modules: Modules,
    /// What the host says of itself.
    pub facts: Arc<HostFacts>,
    /// Where metrics are registered, and what `/metrics` shows.
    pub metrics: prometheus::Registry,
    /// Limits and who may call.
    pub config: HttpConfig,
    /// Where the data folder's owner comes in.
    pub owner: OwnerSocket,
    /// Where administrative acts are written down.
    pub audit: Arc<Audit>,
    /// When files are to be read again.
    pub reloads: Reloads,
}

/// A reply's body: in one piece on the hot path, whatever axum makes elsewhere.
type ReplyBody = Either<Full<Bytes>, axum::body::Body>;
type Response = axum::http::Response<ReplyBody>;

fn full(bytes: impl Into<Bytes>) -> ReplyBody {
    Either::Left(Full::new(bytes.into()))
}
