//! `granary:grain/log`: records of the grain, and the limit on how many a turn may write.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::{Caller, Linker};

use super::last_words::{LastWords, Words};
use super::log_rate::LogRate;
use super::{GuestCall, GuestCallError, GuestState, LogLevel, LogSource, Replies, TurnHost, memory_and_state};
use crate::wasm::abi::View;
use crate::wasm::config::WasmConfig;
use crate::wasm::failure::{TurnFailure, raise};

/// Lets a turn's first records through, cut to their limit.
pub(super) struct LogGate {
    host: Arc<dyn TurnHost>,
    rate: Arc<LogRate>,
    written: AtomicU32,
    records: u32,
    limit: usize,
    last: Mutex<LastWords>,
}

impl LogGate {
    pub(super) fn new(host: Arc<dyn TurnHost>, rate: Arc<LogRate>, config: &WasmConfig) -> Arc<LogGate> {
        Arc::new(LogGate {
            host,
            rate,
            written: AtomicU32::new(0),
            records: config.log_records,
            limit: config.log_record_limit,
            last: Mutex::default(),
        })
    }

    /// The longest record in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// What the guest said last, if it trapped now.
    pub(super) fn last_words(&self) -> Option<Words> {
        self.last().words()
    }

    fn last(&self) -> MutexGuard<'_, LastWords> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a record on.
    pub(super) fn write(&self, level: LogLevel, source: LogSource, message: &str) {
        let message = &message[..message.floor_char_boundary(self.limit)];
        self.last().hear(level, source, message);
        // Counts up to one above the limit, and so never overflows.
        let before = self.written.load(Ordering::Relaxed);
        if before > self.records {
            return;
        }
        self.written.store(before + 1, Ordering::Relaxed);
        if !self.rate.admits(Instant::now()) {
            return;
        }
        if before == self.records {
            let notice = format!(
                "the turn wrote more than {} log records: the rest is dropped",
                self.records
            );
            return self.host.log(LogLevel::Warn, LogSource::Log, &notice);
        }
        self.host.log(level, source, message);
    }
}

/// Hears what a guest writes while it describes itself, for the error that a failure becomes.
#[derive(Default)]
pub(in crate::wasm) struct Listener {
    lines: Mutex<VecDeque<String>>,
}

impl Listener {
    const LINES: usize = 5;

    /// The last lines.
    pub(in crate::wasm) fn take(&self) -> Vec<String> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.drain(..).collect()
    }
}

impl TurnHost for Listener {
    fn invoke(&self, calls: Vec<GuestCall>) -> Replies {
        let refusal = GuestCallError {
            code: "not_implemented".to_owned(),
            message: "no calls before a grain's first turn".to_owned(),
            error: None,
        };
        Box::pin(std::future::ready(vec![Err(refusal); calls.len()]))
    }

    fn time_left(&self) -> Duration {
        // Nothing that a module can say of itself is worth waiting for.
        Duration::ZERO
    }

    fn log(&self, _level: LogLevel, _source: LogSource, message: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(message.to_owned());
        if lines.len() > Listener::LINES {
            lines.pop_front();
        }
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "granary:grain/log@0.1.0",
        "write",
        |mut caller: Caller<'_, GuestState>, level: u32, ptr: u32, len: u32| {
            let level = match level {
                0 => LogLevel::Trace,
                1 => LogLevel::Debug,
                2 => LogLevel::Info,
                3 => LogLevel::Warn,
                4 => LogLevel::Error,
                tag => return Err(raise(TurnFailure::Abi(format!("a log record of level {tag}")))),
            };
            let (memory, state) = memory_and_state(&mut caller)?;
            state.free_turn()?;
            let gate = state.gate()?;
            // The whole memory is the limit: a long message is cut, not an error.
            let message = View::new(memory)
                .text(ptr, len, memory.len(), "a log message")
                .map_err(raise)?;
            gate.write(level, LogSource::Log, message);
            Ok(())
        },
    )?;
    Ok(())
}
