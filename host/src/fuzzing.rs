//! What outside fuzzing reaches: one function for each form that comes from outside. Each takes any bytes and panics
//! when a promise is broken.
//!
//! **Not here:** anything that a host uses.

pub use crate::http::fuzzing::http_arguments;
pub use crate::storage::fuzzing::{head_value, image_file, log_replay};
pub use crate::wasm::fuzzing::module;
