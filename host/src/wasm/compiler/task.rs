//! The work itself, and the child that does it.

use std::io::{self, Read};
use std::process::ExitCode;
use std::sync::Arc;

use granary_core::id::ModuleHash;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, nice, set_parent_process_death_signal, setrlimit};

use super::frame::{self, Received};
use super::{CompilerConfig, CompilerPlace, Task};
use crate::wasm::config::WasmConfig;
use crate::wasm::engine::Engine;
use crate::wasm::module::{CheckedModule, ModuleError, machine_code};

/// How much later than others a child gets a processor: calls go first.
const NICENESS: i32 = 10;
/// Descriptors of a child: its pipes, and an engine's few files.
const DESCRIPTORS: u64 = 64;
/// Address space for the program itself, its threads and an engine, in bytes.
const OWN_MEMORY: u64 = 1 << 30;

/// What a child process does: takes one task from standard input, limits itself, and answers on standard output. For the
/// first lines of a `main` whose program [`CompilerPlace::Child`] names.
pub fn compile_child() -> ExitCode {
    let mut input = io::stdin().lock();
    let result = serve(&mut input);
    match frame::answer(&result, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // The host doesn't listen any more.
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(input: &mut impl Read) -> Result<Vec<u8>, ModuleError> {
    let host = |error: io::Error| ModuleError::Host(error.to_string());
    // A host that is killed leaves no compiler behind.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // Best effort: without it compiling takes time from calls.
    let _ = nice(NICENESS);
    let Received {
        task,
        config,
        wasm,
        code,
    } = Received::read(input).map_err(host)?;
    limit(&config).map_err(host)?;
    perform(task, &config, &wasm, &code)
}

/// Takes from this process what its task doesn't need.
fn limit(config: &WasmConfig) -> io::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let memory = config.compiler.memory + config.memory_limit as u64 + OWN_MEMORY;
    let seconds = config.compiler.deadline.as_secs() * cores + 1;
    for (resource, most) in [
        (Resource::As, memory),
        (Resource::Cpu, seconds),
        (Resource::Core, 0),
        (Resource::Nofile, DESCRIPTORS),
        // It writes no file at all.
        (Resource::Fsize, config.memory_limit as u64),
    ] {
        // What the host itself may not have can't be given.
        let most = getrlimit(resource)
            .maximum
            .map_or(Some(most), |hard| Some(hard.min(most)));
        setrlimit(
            resource,
            Rlimit {
                current: most,
                maximum: most,
            },
        )?;
    }
    Ok(())
}

/// Compiles `wasm`, or describes the uploaded module `wasm` with the machine code that was made of it.
pub(super) fn perform(task: Task, config: &WasmConfig, wasm: &[u8], code: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let alone = WasmConfig {
        max_instances: 1,
        cache: None,
        compiler: CompilerConfig {
            place: CompilerPlace::InThisProcess,
            ..config.compiler.clone()
        },
        ..config.clone()
    };
    let engine = Engine::new(&alone).map_err(|error| ModuleError::Host(error.to_string()))?;
    match task {
        Task::Compile => machine_code(&engine.wasmtime, wasm),
        Task::Describe => describe(&engine, wasm, code),
    }
}

fn describe(engine: &Arc<Engine>, bytes: &[u8], code: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let checked = CheckedModule::new(bytes, engine.config())?;
    let hash = ModuleHash(*blake3::hash(bytes).as_bytes());
    let module = engine.load(hash, checked, code)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| ModuleError::Host(error.to_string()))?;
    runtime
        .block_on(engine.describe(&module))
        .map_err(|error| ModuleError::Describe(error.to_string()))
}
