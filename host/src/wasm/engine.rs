//! The one engine of a host: memories, stacks, interrupt ticks, and what guests may import.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use granary_core::id::ModuleHash;
use wasmtime::{Config, Linker, OptLevel};

use super::calls::{GuestState, Listener, LogRate, add_to_linker};
use super::compiler::Compiler;
use super::config::WasmConfig;
use super::failure::{StartError, TurnFailure};
use super::gate::MemoryGate;
use super::instance::Instance;
use super::module::{Cache, CheckedModule, Kept, Module, ModuleError, loaded, machine_code};
use super::slab::{Slab, SlabMemories};
use super::stacks::{SlabStacks, Stacks};
use super::ticker::Ticker;

/// Compiles modules and makes instances.
pub struct Engine {
    pub(super) wasmtime: wasmtime::Engine,
    pub(super) config: Arc<WasmConfig>,
    pub(super) slab: Arc<Slab>,
    pub(super) stacks: Arc<Stacks>,
    pub(super) ticker: Ticker,
    linker: Linker<GuestState>,
    cache: Option<Cache>,
    compiler: Compiler,
    pub(super) gate: OnceLock<Arc<dyn MemoryGate>>,
    pub(super) log_rate: Arc<LogRate>,
}

/// A module that can run, and what it says of itself.
#[derive(Debug)]
pub struct Prepared {
    /// The module.
    pub module: Arc<Module>,
    /// What its `describe` returned.
    pub document: Vec<u8>,
}

/// Why the engine can't start: what the host lacks.
#[derive(Debug)]
pub enum EngineError {
    /// A limit of the configuration can't be.
    Config(&'static str),
    /// The system refused memory, a thread or the cache's folder.
    Io(&'static str, io::Error),
    /// The engine refused its configuration.
    Engine(String),
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EngineError::Config(what) => f.write_str(what),
            EngineError::Io(what, error) => write!(f, "{what}: {error}"),
            EngineError::Engine(error) => write!(f, "the wasm engine can't start: {error}"),
        }
    }
}

impl std::error::Error for EngineError {}

/// Why a module's description can't be had.
#[derive(Debug)]
pub enum DescribeError {
    /// No instance could be made.
    Start(StartError),
    /// `describe` failed.
    Failure(DescribeFailure),
}

/// How `describe` failed.
#[derive(Clone, Debug)]
pub struct DescribeFailure {
    /// The failure.
    pub failure: TurnFailure,
    /// The last lines that the guest wrote before: a panic's message is among them.
    pub output: Vec<String>,
}

impl std::fmt::Display for DescribeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DescribeError::Start(error) => error.fmt(f),
            DescribeError::Failure(DescribeFailure { failure, output }) => {
                let told = format!("the module can't describe itself: {failure}");
                f.write_str(&told)?;
                // A trap says itself what the guest said last.
                let more: Vec<&str> = output
                    .iter()
                    .map(String::as_str)
                    .filter(|line| !told.contains(line))
                    .collect();
                if more.is_empty() {
                    return Ok(());
                }
                write!(f, "; it wrote: {}", more.join(" / "))
            }
        }
    }
}

impl std::error::Error for DescribeError {}

impl Engine {
    /// Reserves memories and stacks and starts the interrupt tick.
    pub fn new(config: &WasmConfig) -> Result<Arc<Engine>, EngineError> {
        if config.memory_limit == 0 || !config.memory_limit.is_multiple_of(1 << 16) || config.memory_limit > 1 << 32 {
            return Err(EngineError::Config(
                "the memory limit is a multiple of 64 KiB, at most 4 GiB",
            ));
        }
        if config.max_instances == 0 || config.wasm_stack < 1 << 14 || config.host_stack < 1 << 16 {
            return Err(EngineError::Config(
                "at least one instance, 16 KiB of stack for the guest and 64 KiB for the host are needed",
            ));
        }
        let io = |what| move |error| EngineError::Io(what, error);
        let slab = Slab::new(config.memory_limit, config.max_instances).map_err(io("memories can't be reserved"))?;
        let stack = (config.wasm_stack + config.host_stack).next_multiple_of(4096);
        let stacks = Stacks::new(stack, slab.slots()).map_err(io("stacks can't be reserved"))?;
        let engine = |error: wasmtime::Error| EngineError::Engine(format!("{error:#}"));
        let wasmtime = wasmtime::Engine::new(&engine_config(config, stack, &stacks)).map_err(engine)?;
        let mut linker = Linker::new(&wasmtime);
        add_to_linker(&mut linker).map_err(engine)?;
        let ticker = Ticker::start(&wasmtime, config.tick).map_err(io("the interrupt tick can't start"))?;
        let cache = match &config.cache {
            Some(folder) => {
                Some(Cache::open(folder, config.cache_limit).map_err(io("the folder of compiled modules"))?)
            }
            None => None,
        };
        Ok(Arc::new(Engine {
            wasmtime,
            config: Arc::new(config.clone()),
            slab,
            stacks,
            ticker,
            linker,
            cache,
            compiler: Compiler::new(&config.compiler),
            gate: OnceLock::new(),
            log_rate: Arc::new(LogRate::new(config.log_rate, Instant::now())),
        }))
    }

    /// Has guests ask `gate` before their memory grows: those of instances made from now on. Only the first call counts.
    pub fn set_gate(&self, gate: Arc<dyn MemoryGate>) {
        let _ = self.gate.set(gate);
    }

    /// Guests' log records that were dropped since the start, since all guests together wrote too many.
    pub fn dropped_log_records(&self) -> u64 {
        self.log_rate.dropped()
    }

    /// Checks a module as it was uploaded, and rewrites it. Blocks for as long as reading it takes.
    pub fn check(&self, bytes: &[u8]) -> Result<CheckedModule, ModuleError> {
        CheckedModule::new(bytes, &self.config)
    }

    /// Checks, compiles and describes a module where [`CompilerConfig`](super::CompilerConfig) says, or takes what was kept.
    pub async fn prepare(self: &Arc<Engine>, hash: ModuleHash, bytes: Vec<u8>) -> Result<Prepared, ModuleError> {
        // What is kept has to wait for no compilation.
        let (checked, kept, bytes) = self
            .aside(move |engine| {
                let checked = engine.check(&bytes)?;
                let kept = engine.kept(&hash, &checked.wasm);
                Ok((checked, kept, bytes))
            })
            .await?;
        if let Some(Kept { code, document }) = kept
            && let Some(document) = document
        {
            let module = Module::new(hash, checked.facts, &code, &self.linker).map(Arc::new)?;
            return Ok(Prepared { module, document });
        }
        let _turn = self.compiler.turn().await?;
        self.aside(move |engine| engine.make(hash, &bytes, checked)).await
    }

    /// Does something long on a thread that may take its time.
    async fn aside<T: Send + 'static>(
        self: &Arc<Engine>,
        work: impl FnOnce(&Engine) -> Result<T, ModuleError> + Send + 'static,
    ) -> Result<T, ModuleError> {
        let engine = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&engine));
        done.await
            .unwrap_or_else(|error| Err(ModuleError::CompileCrash(error.to_string())))
    }

    /// Compiles and describes.
    fn make(&self, hash: ModuleHash, bytes: &[u8], checked: CheckedModule) -> Result<Prepared, ModuleError> {
        let code = self.compiler.compile(&self.config, &checked.wasm)?;
        let document = self.compiler.describe(&self.config, bytes, &code)?;
        if let Some(cache) = &self.cache {
            cache.store(&self.wasmtime, (&hash, &checked.wasm), &document, &code);
        }
        let module = self.load(hash, checked, &code)?;
        Ok(Prepared { module, document })
    }

    /// Whether what the rewrite made is valid; the error says where it is not.
    pub(super) fn validate(&self, checked: &CheckedModule) -> Result<(), String> {
        wasmtime::Module::validate(&self.wasmtime, &checked.wasm).map_err(|error| format!("{error:#}"))
    }

    /// Checks and compiles a module in this process, or takes what was kept. Blocks, for seconds if the module is large.
    pub fn compile(&self, hash: ModuleHash, bytes: &[u8]) -> Result<Arc<Module>, ModuleError> {
        let checked = self.check(bytes)?;
        if let Some(Kept { code, .. }) = self.kept(&hash, &checked.wasm) {
            return Module::new(hash, checked.facts, &code, &self.linker).map(Arc::new);
        }
        let code = machine_code(&self.wasmtime, &checked.wasm)?;
        if let Some(cache) = &self.cache {
            cache.store(&self.wasmtime, (&hash, &checked.wasm), &[], &code);
        }
        self.load(hash, checked, &code)
    }

    /// A checked module with the machine code that was made of it by an engine of the same settings.
    pub(super) fn load(
        &self,
        hash: ModuleHash,
        checked: CheckedModule,
        code: &[u8],
    ) -> Result<Arc<Module>, ModuleError> {
        let code = loaded(&self.wasmtime, code)?;
        Module::new(hash, checked.facts, &code, &self.linker).map(Arc::new)
    }

    fn kept(&self, module: &ModuleHash, wasm: &[u8]) -> Option<Kept> {
        self.cache.as_ref()?.load(&self.wasmtime, module, wasm)
    }

    /// Ends what is being compiled: the host stops.
    pub fn stop_compiling(&self) {
        self.compiler.stop();
    }

    /// The module's description of itself: bytes that should be JSON. Calls to other grains end it.
    pub async fn describe(self: &Arc<Engine>, module: &Arc<Module>) -> Result<Vec<u8>, DescribeError> {
        let mut instance = Instance::start(self, module, &[]).map_err(DescribeError::Start)?;
        let listener = Arc::new(Listener::default());
        instance.describe(listener.clone()).await.map_err(|failure| {
            let output = listener.take();
            DescribeError::Failure(DescribeFailure { failure, output })
        })
    }

    /// The memories.
    pub fn slab(&self) -> &Arc<Slab> {
        &self.slab
    }

    /// Whether the system guards stacks without kernel mappings. Otherwise they have headroom and a canary.
    pub fn stacks_are_guarded(&self) -> bool {
        self.stacks.guarded()
    }

    /// The limits.
    pub fn config(&self) -> &WasmConfig {
        &self.config
    }

    pub(super) fn memory_file(&self) -> BorrowedFd<'_> {
        self.slab.file()
    }
}

/// The engine's settings. The memory ones belong together with [`SlabMemories`], which has writable bytes behind every memory: only
/// with nothing reserved and nothing guarded does compiled code compare each address with the memory's current length.
fn engine_config(config: &WasmConfig, stack: usize, stacks: &Arc<Stacks>) -> Config {
    let mut engine = Config::new();
    engine
        .with_host_memory(Arc::new(SlabMemories))
        .memory_reservation(0)
        .memory_reservation_for_growth(0)
        .memory_guard_size(0)
        .guard_before_linear_memory(false)
        .memory_may_move(false)
        .memory_init_cow(false)
        .with_host_stack(Arc::new(SlabStacks(Arc::clone(stacks))))
        .async_stack_size(stack)
        .max_wasm_stack(config.wasm_stack)
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        // What the check lets pass, and nothing else.
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_tail_call(true)
        .wasm_extended_const(true)
        .wasm_relaxed_simd(true)
        // A grain may move to another machine.
        .relaxed_simd_deterministic(true)
        .generate_address_map(false);
    engine
}
