//! Machine code and descriptions, made in child processes.
//!
//! A compiler can't be interrupted, its memory can't be bounded from inside, and it reads what strangers wrote. So each compilation runs
//! in a process of its own, the same binary with another first argument, with limits on its memory, its time and its files; a second
//! one runs the guest's `describe`. No guest code runs in the process that made machine code.
//!
//! **Not here:** checking and rewriting ([`module`](super::module)), which is our own code, linear in the upload, and done by the host.

mod child;
mod frame;
mod task;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

pub use self::task::compile_child;
use super::config::WasmConfig;
use super::module::ModuleError;

/// Where machine code is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompilerPlace {
    /// In the host's own process, without limits: for tests, and for embedders who trust what they deploy.
    #[default]
    InThisProcess,
    /// In a child process that calls [`compile_child`].
    Child {
        /// What to run.
        program: PathBuf,
        /// With which arguments.
        args: Vec<String>,
    },
}

/// The knobs of compiling.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompilerConfig {
    /// Where.
    pub place: CompilerPlace,
    /// Address space of a child in bytes, besides a guest's memory. Stops a module that makes the compiler eat all memory.
    pub memory: u64,
    /// How long a child may take. Stops a module that compiles for hours.
    pub deadline: Duration,
    /// Children at a time.
    pub at_once: usize,
    /// How many may wait for their turn; each holds its upload in memory.
    pub waiting: usize,
    /// The longest machine code in bytes.
    pub code_limit: usize,
}

impl Default for CompilerConfig {
    fn default() -> CompilerConfig {
        CompilerConfig {
            place: CompilerPlace::InThisProcess,
            memory: 2 << 30,
            deadline: Duration::from_secs(60),
            at_once: 1,
            waiting: 16,
            code_limit: 256 << 20,
        }
    }
}

/// What a child is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Task {
    /// Machine code.
    Compile,
    /// What `describe` returns.
    Describe,
}

/// Runs children, a bounded number at a time.
#[derive(Debug)]
pub(super) struct Compiler {
    room: Semaphore,
    queue: Semaphore,
    stopping: AtomicBool,
}

/// Leave to run children; others wait while it's held.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _room: tokio::sync::SemaphorePermit<'a>,
}

impl Compiler {
    pub(super) fn new(config: &CompilerConfig) -> Compiler {
        let at_once = config.at_once.max(1);
        Compiler {
            room: Semaphore::new(at_once),
            queue: Semaphore::new(at_once + config.waiting),
            stopping: AtomicBool::new(false),
        }
    }

    /// Waits for its turn; refuses when too many wait already.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, ModuleError> {
        let _place = self.queue.try_acquire().map_err(|_| ModuleError::Busy)?;
        let room = self.room.acquire().await;
        Ok(Turn {
            _room: room.map_err(|_| ModuleError::Busy)?,
        })
    }

    /// Ends running children soon: their work is of no more use.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The machine code of checked and rewritten wasm. Blocks.
    pub(super) fn compile(&self, config: &WasmConfig, wasm: &[u8]) -> Result<Vec<u8>, ModuleError> {
        self.run(config, Task::Compile, wasm, &[], config.compiler.code_limit)
    }

    /// The description that the module `bytes`, as it was uploaded, gives of itself. Blocks.
    pub(super) fn describe(&self, config: &WasmConfig, bytes: &[u8], code: &[u8]) -> Result<Vec<u8>, ModuleError> {
        self.run(config, Task::Describe, bytes, code, config.describe_limit)
    }

    fn run(
        &self,
        config: &WasmConfig,
        task: Task,
        wasm: &[u8],
        code: &[u8],
        limit: usize,
    ) -> Result<Vec<u8>, ModuleError> {
        match &config.compiler.place {
            CompilerPlace::InThisProcess => task::perform(task, config, wasm, code),
            CompilerPlace::Child { program, args } => {
                let request = frame::Request {
                    task,
                    config,
                    wasm,
                    code,
                };
                child::run(program, args, &request, limit, &self.stopping)
            }
        }
    }
}
