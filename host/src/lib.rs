//! A host of grains: stateful functions whose memory is their state.
//!
//! # The path of a call
//!
//! 1. [`http`]: a request becomes an [`Invocation`](router::Invocation): method, arguments, deadline, idempotency key.
//! 2. [`router`]: here, there, or unknown? On one host: here.
//! 3. `activation`: the grain's mailbox; one turn at a time. A grain that isn't in memory is restored from [`storage`] into a
//!    slot of the slab.
//! 4. [`wasm`]: the turn. Arguments go in, the result comes out, calls to other grains suspend it.
//! 5. [`snapshot`]: the pages that the turn changed become a delta.
//! 6. [`storage`]: the delta goes into the commit log; one fdatasync serves all that wait. Meanwhile the next turn runs.
//! 7. The reply leaves when everything that it could see is durable.
//!
//! What is decided on the way (who runs next, which reply waits for what, what a repeated call gets) is in `granary_core`, without
//! I/O. [`host`] builds the parts and starts and stops them.

mod activation;
pub mod audit;
#[doc(hidden)]
pub mod clock;
mod cluster;
pub mod config;
pub mod description;
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
pub mod http;
pub mod modules;
pub mod outlet;
pub mod router;
pub mod snapshot;
pub mod storage;
pub mod telemetry;
#[doc(hidden)]
pub mod threads;
pub mod wasm;
