//! Guests: WebAssembly modules and their instances.
//!
//! [`Engine`] checks, rewrites and compiles a [`Module`]; an [`Instance`] of it runs turns on a memory of the [`Slab`]. What a guest
//! asks of its host on the way goes to the turn's [`TurnHost`].
//!
//! **Not here:** storage and HTTP, which this never uses; what changed in a memory ([`snapshot`](crate::snapshot)); which turn runs when.

mod abi;
mod calls;
mod compiler;
mod config;
mod engine;
mod failure;
pub mod fuzzing;
mod gate;
mod instance;
mod module;
mod slab;
mod stacks;
#[cfg(test)]
mod tests;
mod ticker;
mod trace;

pub use self::calls::{GuestCall, GuestCallError, LogLevel, LogSource, Replies, TurnHost};
pub use self::compiler::{CompilerConfig, CompilerPlace, compile_child};
pub use self::config::{ModuleLimits, WasmConfig};
pub use self::engine::{DescribeError, DescribeFailure, Engine, EngineError, Prepared};
pub use self::failure::{Fault, FaultKind, StartError, TurnFailure};
pub use self::gate::{Growth, MemoryGate};
pub use self::instance::{Answer, Instance};
pub use self::module::{CheckedModule, Module, ModuleError, debug_bytes, debug_remedy};
pub use self::slab::{Slab, SlabFull};
