//! A grain's module with its memory: runs turns, one at a time.
//!
//! A fresh start and a restore are the same act: a memory with the base image, and over it whatever is stored. Constructors run
//! in a fresh grain's own first turn, so that what they draw by chance (seeds of hash maps) is the grain's own.
//!
//! **Not here:** which turn is next (the activation), what changed in the memory (`snapshot`).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use granary_core::commit::Delta;
use granary_core::page::PAGE_SIZE;
use wasmparser::ValType;
use wasmtime::{Extern, Global, Memory, Store, TypedFunc, V128, Val, WasmParams};

use super::calls::{GuestState, Turn, TurnHost, TurnKind};
use super::engine::Engine;
use super::failure::{Circumstances, Fault, StartError, TurnFailure, UsedUp};
use super::module::{Entry, Module};
use super::stacks::Stacks;
use super::ticker::on_tick;
use crate::snapshot::Span;

/// An instance of a module. Dropping it gives memory and stack back.
pub struct Instance {
    store: Store<GuestState>,
    engine: Arc<Engine>,
    module: Arc<Module>,
    instance: wasmtime::Instance,
    memory: Memory,
    globals: Vec<Global>,
    call: TypedFunc<(u32, u32, u32, u32), ()>,
    /// Where the memory begins in the memory file.
    offset: u64,
    /// The stack that the engine keeps for this instance between turns.
    stack: Option<usize>,
    /// Whether constructors have to run first.
    fresh: bool,
    /// A turn is running, or one has failed: then nothing more can be run.
    spent: bool,
}

/// What a turn that ended well came back with: the value, or the guest's own refusal.
pub type Answer = Result<Vec<u8>, Fault>;

impl Instance {
    /// Makes an instance with the base image and `parts` applied over it in order. With no parts it's a fresh grain.
    pub fn start(engine: &Arc<Engine>, module: &Arc<Module>, parts: &[Delta]) -> Result<Instance, StartError> {
        let len = memory_len(engine, module, parts)?;
        let slot = engine
            .slab
            .take()
            .map_err(|full| StartError::Overloaded { slots: full.slots })?;
        let offset = slot.offset();
        let state = GuestState::new(&engine.config, &engine.log_rate, engine.gate.get());
        let mut store = Store::new(&engine.wasmtime, state);
        store.limiter_async(|state| state);
        store.set_hostcall_fuel(engine.config.wasi_bytes);
        let ticks = engine.ticker.ticks();
        store.epoch_deadline_callback(move |store| on_tick(store, &ticks));
        // Nothing of the guest runs while the instance is made.
        store.set_epoch_deadline(u64::MAX / 2);
        let (made, stack) = Stacks::watch(|| slot.lend(len, || at_once(module.pre.instantiate_async(&mut store))));
        let instance = made.and_then(|made| made.map_err(|error| StartError::Host(format!("{error:#}"))))?;

        let memory = match instance.get_module_export(&mut store, &module.memory) {
            Some(Extern::Memory(memory)) => memory,
            _ => return Err(missing("memory")),
        };
        store.data_mut().memory = Some(memory);
        let bytes = memory.data_mut(&mut store);
        assert_eq!(bytes.len(), len, "a memory is born with the length of its image");
        let written = module.facts.base.write_to(engine.memory_file(), offset);
        written.map_err(|error| StartError::Host(format!("the base image can't be written: {error}")))?;
        for part in parts {
            part.patches
                .apply(bytes)
                .map_err(|error| StartError::State(error.to_string()))?;
        }
        let mut globals = Vec::with_capacity(module.globals.len());
        for export in &module.globals {
            match instance.get_module_export(&mut store, export) {
                Some(Extern::Global(global)) => globals.push(global),
                _ => return Err(missing("global")),
            }
        }
        if let Some(last) = parts.last() {
            for ((global, ty), bits) in globals.iter().zip(&module.facts.globals).zip(&last.globals) {
                let value = value(*ty, *bits)?;
                global
                    .set(&mut store, value)
                    .map_err(|error| StartError::Host(format!("{error:#}")))?;
            }
        }
        let call = match instance.get_module_export(&mut store, &module.call) {
            Some(Extern::Func(call)) => call.typed(&store).map_err(|_| missing("function"))?,
            _ => return Err(missing("function")),
        };
        Ok(Instance {
            store,
            engine: Arc::clone(engine),
            module: Arc::clone(module),
            instance,
            memory,
            globals,
            call,
            offset,
            stack,
            fresh: parts.is_empty(),
            spent: false,
        })
    }

    /// Runs one method. After a [`TurnFailure`] (other than one that did not run), or when the returned future is dropped
    /// before it's done, the instance must be dropped.
    pub async fn call(
        &mut self,
        host: Arc<dyn TurnHost>,
        key: &str,
        request_id: &str,
        method: &str,
        args: &[u8],
    ) -> Result<Answer, TurnFailure> {
        self.construct(&host).await?;
        let arguments = [key.as_bytes(), request_id.as_bytes(), method.as_bytes(), args];
        let lengths = arguments.map(|bytes| bytes.len() as u32);
        let turn = Turn::new(host, TurnKind::Value, arguments.map(<[u8]>::to_vec).into());
        let call = self.call.clone();
        self.enter(turn, &call, (lengths[0], lengths[1], lengths[2], lengths[3]))
            .await
    }

    /// The whole state as bytes that `target`'s `load` understands: so that nothing is lost, if both know how.
    pub async fn save(&mut self, host: Arc<dyn TurnHost>, target: &Module) -> Result<Answer, TurnFailure> {
        self.construct(&host).await?;
        let is_exact = self.module.saves_exactly() && target.saves_exactly();
        let save = self.entry(if is_exact { Entry::SaveExactly } else { Entry::Save })?;
        self.enter(Turn::new(host, TurnKind::State, Vec::new()), &save, ())
            .await
    }

    /// Makes the state of a fresh instance from what another revision saved at state version `version`.
    pub async fn load(
        &mut self,
        host: Arc<dyn TurnHost>,
        key: &str,
        request_id: &str,
        version: u32,
        state: Vec<u8>,
    ) -> Result<Result<(), Fault>, TurnFailure> {
        self.construct(&host).await?;
        // A state may be long: the only copy that is made of it is the guest's.
        let arguments: Vec<Vec<u8>> = vec![key.into(), request_id.into(), state];
        let lengths = [0, 1, 2].map(|place: usize| arguments[place].len() as u32);
        let load = self.entry(Entry::Load)?;
        let turn = Turn::new(host, TurnKind::Empty, arguments);
        let answer = self
            .enter(turn, &load, (version, lengths[0], lengths[1], lengths[2]))
            .await?;
        Ok(answer.map(drop))
    }

    /// Whether the guest can go on with its loaded state.
    pub async fn check(
        &mut self,
        host: Arc<dyn TurnHost>,
        key: &str,
        request_id: &str,
    ) -> Result<Result<(), Fault>, TurnFailure> {
        self.construct(&host).await?;
        let arguments = [key.as_bytes(), request_id.as_bytes()];
        let lengths = arguments.map(|bytes| bytes.len() as u32);
        let check = self.entry(Entry::Check)?;
        let turn = Turn::new(host, TurnKind::Empty, arguments.map(<[u8]>::to_vec).into());
        let answer = self.enter(turn, &check, (lengths[0], lengths[1])).await?;
        Ok(answer.map(drop))
    }

    pub(super) async fn describe(&mut self, host: Arc<dyn TurnHost>) -> Result<Vec<u8>, TurnFailure> {
        self.store.data_mut().cpu_limit = self.engine.config.describe_cpu;
        self.construct(&host).await?;
        let describe = self.entry(Entry::Describe)?;
        let answer = self
            .enter(Turn::new(host, TurnKind::Describe, Vec::new()), &describe, ())
            .await?;
        answer.map_err(|_| TurnFailure::Abi("describe has no fault".to_owned()))
    }

    /// Gives the pages of the stack that is kept for this instance back to the system; the next turn takes new ones. For grains
    /// that have been idle for a while.
    pub fn rest(&mut self) {
        assert!(!self.spent, "an instance rests between turns");
        if let Some(stack) = self.stack {
            self.engine.stacks.discard(stack);
        }
    }

    /// The memory as it is between two turns, for the dirty tracker.
    pub fn span(&mut self) -> Span<'_> {
        assert!(!self.spent, "after a failed turn the memory is no grain's state");
        let dead = self.dead_stack();
        Span {
            bytes: self.memory.data(&self.store),
            file: self.engine.memory_file(),
            offset: self.offset,
            dead,
        }
    }

    /// The memory's length in bytes.
    pub fn memory_len(&self) -> u64 {
        self.memory.data_size(&self.store) as u64
    }

    /// All mutable globals in the module's order, as raw bits.
    pub fn globals(&mut self) -> Vec<u128> {
        self.globals
            .iter()
            .map(|global| bits(&global.get(&mut self.store)))
            .collect()
    }

    /// Its module.
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// The stack's part that nothing will read: below the stack pointer, if it's sure that only stack is there.
    fn dead_stack(&mut self) -> std::ops::Range<usize> {
        let Some(stack) = &self.module.facts.stack else {
            return 0..0;
        };
        let (low, high) = (stack.low as usize, stack.high as usize);
        let pointer = bits(&self.globals[stack.pointer].get(&mut self.store)) as u32 as usize;
        if pointer <= low || pointer > high {
            0..0
        } else {
            low..pointer
        }
    }

    fn entry<P: WasmParams>(&mut self, entry: Entry) -> Result<TypedFunc<P, ()>, TurnFailure> {
        self.instance
            .get_typed_func(&mut self.store, entry.name())
            .map_err(|error| TurnFailure::Trap {
                message: format!("{error:#}"),
                code: "host",
            })
    }

    async fn construct(&mut self, host: &Arc<dyn TurnHost>) -> Result<(), TurnFailure> {
        if self.fresh && self.module.facts.constructs {
            let construct = self.entry(Entry::Construct)?;
            let _ = self
                .enter(
                    Turn::new(Arc::clone(host), TurnKind::Construct, Vec::new()),
                    &construct,
                    (),
                )
                .await?;
        }
        self.fresh = false;
        Ok(())
    }

    /// Runs one entry function to its end.
    async fn enter<P: WasmParams + Sync>(
        &mut self,
        turn: Turn,
        entry: &TypedFunc<P, ()>,
        params: P,
    ) -> Result<Answer, TurnFailure> {
        assert!(!self.spent, "an instance whose turn failed must be dropped");
        self.spent = true;
        let kind = turn.kind;
        let state = self.store.data_mut();
        state.turn = Some(turn);
        state.cpu = std::time::Duration::ZERO;
        self.store.set_epoch_deadline(1);
        let ended = {
            let mut call = pin!(entry.call_async(&mut self.store, params));
            let slices = std::future::poll_fn(|cx| {
                let (poll, stack) = Stacks::watch(|| call.as_mut().poll(cx));
                self.stack = stack.or(self.stack);
                poll
            });
            self.engine.ticker.run(slices).await
        };
        let turn = self.store.data_mut().end_turn().expect("set above");
        if let Err(error) = ended {
            let failure = TurnFailure::of(&error, &self.circumstances(&turn));
            self.spent = !failure.did_not_run();
            return Err(failure);
        }
        let outcome = match (turn.outcome, kind) {
            (Some(outcome), _) => outcome,
            (None, TurnKind::Construct) => Ok(Vec::new()),
            (None, _) => return Err(TurnFailure::Abi("the turn ended without a result".to_owned())),
        };
        self.spent = false;
        Ok(outcome)
    }

    /// What an error's text needs to know of the turn that has just failed.
    fn circumstances(&mut self, turn: &Turn) -> Circumstances {
        let stack = self.module.facts.stack_pointer.as_ref();
        let used_up = stack.filter(|stack| {
            let pointer = bits(&self.globals[stack.global].get(&mut self.store)) as u32;
            stack.is_beyond(pointer)
        });
        Circumstances {
            used_up: used_up.map(|stack| UsedUp { bytes: stack.bytes() }),
            refused: turn.refused,
            memory_limit: self.engine.config.memory_limit,
            words: turn.last_words(),
        }
    }
}

fn missing(what: &str) -> StartError {
    StartError::Host(format!("the rewritten module lacks a {what}"))
}

/// The length that the memory is born with.
fn memory_len(engine: &Engine, module: &Module, parts: &[Delta]) -> Result<usize, StartError> {
    let facts = &module.facts;
    let Some(last) = parts.last() else {
        return Ok(facts.memory_minimum as usize);
    };
    let most = facts
        .memory_maximum
        .unwrap_or(u64::MAX)
        .min(engine.config.memory_limit as u64);
    if last.globals.len() != facts.globals.len() {
        let (stored, expected) = (last.globals.len(), facts.globals.len());
        return Err(StartError::State(format!(
            "it has {stored} globals, the module {expected}"
        )));
    }
    let fits = last.memory_len.is_multiple_of(PAGE_SIZE as u64 * 16) && last.memory_len >= facts.memory_minimum;
    if !fits || last.memory_len > most {
        return Err(StartError::State(format!(
            "its memory has {} bytes, the module's may have {} to {most}",
            last.memory_len, facts.memory_minimum
        )));
    }
    Ok(last.memory_len as usize)
}

/// Runs a future that has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> Result<T, StartError> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => Err(StartError::Host("making an instance had to wait".to_owned())),
    }
}

fn bits(value: &Val) -> u128 {
    match value {
        Val::I32(value) => u128::from(*value as u32),
        Val::I64(value) => u128::from(*value as u64),
        Val::F32(bits) => u128::from(*bits),
        Val::F64(bits) => u128::from(*bits),
        Val::V128(value) => value.as_u128(),
        other => unreachable!("the check lets no mutable global be {other:?}"),
    }
}

fn value(ty: ValType, bits: u128) -> Result<Val, StartError> {
    let narrow = || StartError::State("a global's value is too large for its type".to_owned());
    let i32 = || u32::try_from(bits).map_err(|_| narrow());
    let i64 = || u64::try_from(bits).map_err(|_| narrow());
    Ok(match ty {
        ValType::I32 => Val::I32(i32()? as i32),
        ValType::I64 => Val::I64(i64()? as i64),
        ValType::F32 => Val::F32(i32()?),
        ValType::F64 => Val::F64(i64()?),
        ValType::V128 => Val::V128(V128::from(bits)),
        ValType::Ref(_) => return Err(StartError::State("a global holds a reference".to_owned())),
    })
}
