//! What a guest may ask of its host: one file for each interface of the world, and WASI.
//!
//! The host's side of a turn is a [`TurnHost`], made anew for each turn; nothing that a guest asks for outlives its turn.
//! **Not here:** who answers a call, and what a log record becomes.

#[expect(clippy::module_inception, reason = "the file for the interface `calls`")]
mod calls;
mod last_words;
mod log;
mod log_rate;
mod poll;
mod wasi;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Caller, Linker, Memory, ResourceLimiterAsync};
use wasmtime_wasi::p1::WasiP1Ctx;

use self::calls::Reply;
pub(super) use self::last_words::Words;
pub(super) use self::log::Listener;
use self::log::LogGate;
pub(super) use self::log_rate::LogRate;
use super::abi::{View, place};
use super::config::WasmConfig;
use super::failure::{Fault, Refused, TurnFailure, raise};
use super::gate::MemoryGate;
use super::module::{HOST, HOST_IMPORTS};

/// A call to another grain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestCall {
    /// The callee's grain type, as the guest wrote it.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// The method.
    pub method: String,
    /// A JSON array of arguments, unchecked.
    pub args: Vec<u8>,
}

impl GuestCall {
    /// Bytes of all that it holds.
    pub(super) fn size(&self) -> usize {
        self.kind.len() + self.key.len() + self.method.len() + self.args.len()
    }
}

/// Why a call gave no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestCallError {
    /// A code as in problem documents.
    pub code: String,
    /// For a person.
    pub message: String,
    /// The callee's own error as JSON.
    pub error: Option<Vec<u8>>,
}

/// What a turn's calls come back as, in their order.
pub type Replies = Pin<Box<dyn Future<Output = Vec<Result<Vec<u8>, GuestCallError>>> + Send>>;

/// The host's side of one turn.
pub trait TurnHost: Send + Sync {
    /// Makes these calls at the same time and answers all of them, in their order.
    fn invoke(&self, calls: Vec<GuestCall>) -> Replies;

    /// How long the turn may still wait. It ends when it waits for longer.
    fn time_left(&self) -> Duration;

    /// Takes one log record; must be quick and not block.
    fn log(&self, level: LogLevel, source: LogSource, message: &str);
}

/// How grave a log record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For the author while looking for an error.
    Trace,
    /// For the author.
    Debug,
    /// Normal.
    Info,
    /// Worth a look.
    Warn,
    /// Broken.
    Error,
}

/// Where a log record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// The world's `log` interface.
    Log,
    /// A line on standard output.
    Stdout,
    /// A line on standard error.
    Stderr,
}

/// What the engine keeps with an instance.
pub(super) struct GuestState {
    pub(super) config: Arc<WasmConfig>,
    /// The one memory; there from when the instance is made.
    pub(super) memory: Option<Memory>,
    /// The turn that is running.
    pub(super) turn: Option<Turn>,
    /// WASI's state, made when the guest first asks for it in a turn and dropped with the turn: the next begins as one of an
    /// instance that was restored.
    wasi: Option<Box<WasiP1Ctx>>,
    /// CPU time that the turn has taken so far, as far as it was measured.
    pub(super) cpu: Duration,
    pub(super) cpu_limit: Duration,
    /// What all guests' log records share.
    log_rate: Arc<LogRate>,
    /// Who knows whether the host has memory.
    pub(super) gate: Option<Arc<dyn MemoryGate>>,
}

/// One turn's state.
pub(super) struct Turn {
    /// Who answers.
    host: Arc<dyn TurnHost>,
    gate: Option<Arc<LogGate>>,
    pub(super) kind: TurnKind,
    /// Calls that it has made.
    calls: usize,
    /// Buffers that the guest has to allocate before its function begins, last one first.
    arguments: Vec<Vec<u8>>,
    /// The reply of a call, while it's being put into the memory.
    reply: Option<Reply>,
    /// What the function returned.
    pub(super) outcome: Option<Result<Vec<u8>, Fault>>,
    /// Whether the guest asked for memory and was refused.
    pub(super) refused: Refused,
    /// What it asked for and got.
    granted: Vec<Box<dyn Any + Send>>,
}

/// What a turn's function returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TurnKind {
    /// Nothing: constructors.
    Construct,
    /// `list<u8>`.
    Describe,
    /// `result<list<u8>, fault>`: call.
    Value,
    /// The same, with a state: save.
    State,
    /// `result<_, fault>`: load, check.
    Empty,
}

impl Turn {
    /// `arguments` in the order of the function's parameters.
    pub(super) fn new(host: Arc<dyn TurnHost>, kind: TurnKind, mut arguments: Vec<Vec<u8>>) -> Turn {
        arguments.reverse();
        Turn {
            host,
            gate: None,
            kind,
            calls: 0,
            arguments,
            reply: None,
            outcome: None,
            refused: Refused::No,
            granted: Vec::new(),
        }
    }

    /// What the guest said last, for the error that its trap becomes.
    pub(super) fn last_words(&self) -> Option<Words> {
        self.gate.as_ref()?.last_words()
    }
}

impl GuestState {
    pub(super) fn new(
        config: &Arc<WasmConfig>,
        log_rate: &Arc<LogRate>,
        gate: Option<&Arc<dyn MemoryGate>>,
    ) -> GuestState {
        GuestState {
            config: Arc::clone(config),
            memory: None,
            turn: None,
            wasi: None,
            cpu: Duration::ZERO,
            cpu_limit: config.turn_cpu,
            log_rate: Arc::clone(log_rate),
            gate: gate.cloned(),
        }
    }

    /// Ends the turn: unfinished lines of output become records, WASI's state goes.
    pub(super) fn end_turn(&mut self) -> Option<Turn> {
        self.wasi = None;
        self.turn.take()
    }

    fn turn(&mut self) -> wasmtime::Result<&mut Turn> {
        self.turn
            .as_mut()
            .ok_or_else(|| raise(TurnFailure::Abi("a call to the host outside of a turn".to_owned())))
    }

    /// The turn, when the guest may call imports of the world: not from `cabi_realloc` or `cabi_post_*`.
    fn free_turn(&mut self) -> wasmtime::Result<&mut Turn> {
        let turn = self.turn()?;
        if !turn.arguments.is_empty() || turn.reply.is_some() || turn.outcome.is_some() {
            return Err(raise(TurnFailure::Abi(
                "an import was called from cabi_realloc or cabi_post".to_owned(),
            )));
        }
        Ok(turn)
    }

    /// Where this turn's log records go.
    fn gate(&mut self) -> wasmtime::Result<Arc<LogGate>> {
        let (config, rate) = (Arc::clone(&self.config), Arc::clone(&self.log_rate));
        let turn = self.turn()?;
        let host = &turn.host;
        let gate = turn
            .gate
            .get_or_insert_with(|| LogGate::new(Arc::clone(host), rate, &config));
        Ok(Arc::clone(gate))
    }
}

/// What the engine waits for before a memory or table grows; the trait's form of an async function.
type Granted<'a> = Pin<Box<dyn Future<Output = wasmtime::Result<bool>> + Send + 'a>>;

impl ResourceLimiterAsync for GuestState {
    fn memory_growing<'a, 'b>(&'a mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Granted<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let is_short_enough = desired <= self.config.memory_limit;
            // An instance that is being made was charged as a whole.
            let Some(turn) = &mut self.turn else {
                return Ok(is_short_enough);
            };
            if !is_short_enough {
                turn.refused = Refused::ByLimit;
                return Ok(false);
            }
            let Some(gate) = &self.gate else { return Ok(true) };
            let grant = gate.grow(desired.saturating_sub(current) as u64).await;
            if grant.is_none() {
                turn.refused = Refused::ByHost;
            }
            let is_granted = grant.is_some();
            turn.granted.extend(grant);
            Ok(is_granted)
        })
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        if let Some(turn) = &mut self.turn {
            turn.refused = Refused::ByLimit;
        }
        Ok(())
    }

    fn table_growing<'a, 'b>(&'a mut self, _current: usize, _desired: usize, _maximum: Option<usize>) -> Granted<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        // The module's own limit was checked at upload, and it can't grow one.
        Box::pin(async { Ok(true) })
    }
}

/// Everything that a module may import.
pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    let [need, put, take] = HOST_IMPORTS;
    linker.func_wrap(HOST, need, |mut caller: Caller<'_, GuestState>| {
        calls::need(&mut caller)
    })?;
    linker.func_wrap(HOST, put, |mut caller: Caller<'_, GuestState>, ptr: u32| {
        put_buffer(&mut caller, ptr)
    })?;
    linker.func_wrap(HOST, take, |mut caller: Caller<'_, GuestState>, ptr: u32| {
        take_result(&mut caller, ptr)
    })?;
    calls::add_to_linker(linker)?;
    log::add_to_linker(linker)?;
    wasi::add_to_linker(linker)
}

/// The memory's bytes and the state, at the same time.
fn memory_and_state<'a>(
    caller: &'a mut Caller<'_, GuestState>,
) -> wasmtime::Result<(&'a mut [u8], &'a mut GuestState)> {
    let memory = caller
        .data()
        .memory
        .ok_or_else(|| wasmtime::Error::msg("the instance isn't complete"))?;
    Ok(memory.data_and_store_mut(caller))
}

/// The guest has allocated the next buffer: fill it.
fn put_buffer(caller: &mut Caller<'_, GuestState>, ptr: u32) -> wasmtime::Result<()> {
    let (memory, state) = memory_and_state(caller)?;
    let turn = state.turn()?;
    let len = memory.len();
    if let Some(bytes) = turn.arguments.pop() {
        let range = place(len, ptr, bytes.len(), 1, "what cabi_realloc returned").map_err(raise)?;
        memory[range].copy_from_slice(&bytes);
        return Ok(());
    }
    match &mut turn.reply {
        Some(reply) => reply.put(memory, ptr).map_err(raise),
        None => Err(raise(TurnFailure::Abi("a buffer that nobody asked for".to_owned()))),
    }
}

/// The guest's function has returned: keep its result before the guest frees it.
fn take_result(caller: &mut Caller<'_, GuestState>, ptr: u32) -> wasmtime::Result<()> {
    let (memory, state) = memory_and_state(caller)?;
    let config = &state.config;
    let (reply_limit, save_limit, describe_limit) = (config.reply_limit, config.save_limit, config.describe_limit);
    let turn = state.turn()?;
    let view = View::new(memory);
    let outcome = match turn.kind {
        TurnKind::Construct => Ok(Ok(Vec::new())),
        TurnKind::Describe => view.list_result(ptr, describe_limit).map(Ok),
        TurnKind::Value => view.result(ptr, true, reply_limit),
        TurnKind::State => view.result(ptr, true, save_limit),
        TurnKind::Empty => view.result(ptr, false, reply_limit),
    };
    turn.outcome = Some(outcome.map_err(raise)?);
    Ok(())
}
