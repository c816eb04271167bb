//! Every limit of a guest, in one place: what it stops, its unit, its default.
//!
//! Limits that the engine compiles into machine code (the memory's, the stack's) are part of the compile cache's key.
//! **Not here:** mailboxes, deadlines and call depth, which are the activation's.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::compiler::CompilerConfig;

/// The knobs of [`Engine`](super::Engine). Its stored form goes to the compiler's processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WasmConfig {
    /// The longest linear memory in bytes, a multiple of 64 KiB; each instance takes as much address space. Stops a guest
    /// from using up the host's memory.
    pub memory_limit: usize,
    /// The most instances alive at a time. Address space is taken for all of them; where the system refuses, for fewer.
    pub max_instances: usize,
    /// Stack for a guest's native frames, in bytes. Stops infinite recursion.
    pub wasm_stack: usize,
    /// Stack below that for what the host itself runs on a guest's stack (WASI, logging, waking tasks), in bytes.
    pub host_stack: usize,
    /// CPU time of one turn. Stops endless loops; waiting for calls doesn't count.
    pub turn_cpu: Duration,
    /// CPU time of `describe` at upload.
    pub describe_cpu: Duration,
    /// The interrupt tick: how long a guest runs before its neighbours on the thread get a chance.
    pub tick: Duration,
    /// The longest result of a turn in bytes, and the longest arguments of a call. Stops a guest from filling the host's memory.
    pub reply_limit: usize,
    /// The longest state in bytes that a guest saves for another revision. Its memory's limit bounds it, too; this stops many at a time
    /// from filling the host's memory where a guest may have more.
    pub save_limit: usize,
    /// The longest description in bytes.
    pub describe_limit: usize,
    /// The most calls in one `invoke-all`.
    pub parallel_calls: usize,
    /// The most calls of a turn. Stops a turn whose waiting takes no CPU time from keeping other grains busy until its deadline.
    pub turn_calls: usize,
    /// The most subscriptions of one `poll_oneoff`. Stops a guest from having the host go through a memory full of them.
    pub subscriptions: u32,
    /// The most bytes of lists and buffers that the host reads in one call of WASI; more is the guest's `ENOMEM`. Stops millions of
    /// empty buffers.
    pub wasi_bytes: usize,
    /// The most log records of a turn, and
    pub log_records: u32,
    /// the longest of them in bytes; longer ones are cut. Stops a guest from filling the host's log.
    pub log_record_limit: usize,
    /// Log records a second of all guests together; more are dropped and counted. Stops many turns from doing what one may not.
    pub log_rate: u32,
    /// Where compiled modules are kept; `None` compiles at every start.
    pub cache: Option<PathBuf>,
    /// What the cache may take on the disk, in bytes; the longest unused go first.
    pub cache_limit: u64,
    /// Limits of a module.
    pub module: ModuleLimits,
    /// How machine code is made.
    pub compiler: CompilerConfig,
}

/// What a module may be. Each stops an upload that would take the compiler or every instance too much time or memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModuleLimits {
    /// Bytes of the uploaded file.
    pub bytes: usize,
    /// Functions that the module defines.
    pub functions: usize,
    /// Bytes of one function's body, at most [`ModuleLimits::LONGEST_BODY`]: compile time grows faster than this.
    pub body_bytes: usize,
    /// Entries of all tables at their initial size.
    pub table_entries: u64,
    /// Bytes of the pages that data segments lie in. Stops a short module from making a long base image, which stays in memory
    /// and is written for each instance, out of a byte here and there.
    pub base_bytes: usize,
    /// Mutable globals: each is saved with every commit.
    pub globals: usize,
}

impl ModuleLimits {
    /// The longest body of a function that can be allowed, in bytes: longer ones aren't valid to any engine of WebAssembly.
    pub const LONGEST_BODY: usize = 7_654_321;
}

impl Default for WasmConfig {
    fn default() -> WasmConfig {
        WasmConfig {
            memory_limit: 64 << 20,
            max_instances: 100_000,
            wasm_stack: 256 << 10,
            host_stack: 256 << 10,
            turn_cpu: Duration::from_secs(5),
            describe_cpu: Duration::from_secs(1),
            tick: Duration::from_millis(1),
            reply_limit: 8 << 20,
            save_limit: 64 << 20,
            describe_limit: 1 << 20,
            parallel_calls: 256,
            turn_calls: 10_000,
            subscriptions: 1_024,
            wasi_bytes: 8 << 20,
            log_records: 1_000,
            log_record_limit: 8 << 10,
            log_rate: 10_000,
            cache: None,
            cache_limit: 2 << 30,
            module: ModuleLimits::default(),
            compiler: CompilerConfig::default(),
        }
    }
}

impl Default for ModuleLimits {
    fn default() -> ModuleLimits {
        ModuleLimits {
            bytes: 16 << 20,
            functions: 50_000,
            body_bytes: 128 << 10,
            table_entries: 65_536,
            base_bytes: 16 << 20,
            globals: 1_000,
        }
    }
}
