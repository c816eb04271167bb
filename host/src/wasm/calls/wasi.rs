//! WASI preview 1: clocks, randomness, standard output and error as log records; no files, no sockets, and no environment but a word
//! against colours.
//!
//! The state of WASI lives for one turn, and only if the guest asks for it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use super::log::LogGate;
use super::{GuestState, LogLevel, LogSource, poll};
use crate::clock::since_1970;

pub(super) const MODULE: &str = "wasi_snapshot_preview1";

/// What WASI's functions return.
pub(super) const SUCCESS: u32 = 0;
pub(super) const BADF: u32 = 8;
pub(super) const FAULT: u32 = 21;
pub(super) const INVAL: u32 = 28;
const PERM: u32 = 63;

/// The most random bytes of one request: they are made by the host, between two of the guest's ticks. More is a trap.
const RANDOM_LIMIT: u64 = 1 << 20;
/// Standard input, output and error: a guest has no other descriptors.
const STANDARD: std::ops::Range<u32> = 0..3;

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, |state| state.wasi())?;
    linker.allow_shadowing(true);
    poll::add_to_linker(linker)?;
    // Standard streams stay what they are: a guest that lost its output would lose the reason of its next panic.
    linker.func_wrap(MODULE, "fd_close", |_: Caller<'_, GuestState>, fd: u32| refusal([fd]))?;
    linker.func_wrap(
        MODULE,
        "fd_renumber",
        |_: Caller<'_, GuestState>, from: u32, to: u32| refusal([from, to]),
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The errno for what would close or replace descriptors.
fn refusal<const N: usize>(descriptors: [u32; N]) -> u32 {
    if descriptors.iter().all(|fd| STANDARD.contains(fd)) {
        PERM
    } else {
        BADF
    }
}

impl GuestState {
    fn wasi(&mut self) -> &mut WasiP1Ctx {
        if self.wasi.is_none() {
            let gate = self.gate().expect("guests run in turns only");
            let output = |level, source| Output {
                gate: Arc::clone(&gate),
                level,
                source,
            };
            let wasi = WasiCtxBuilder::new()
                .stdout(output(LogLevel::Info, LogSource::Stdout))
                .stderr(output(LogLevel::Warn, LogSource::Stderr))
                // Libraries that colour what goes to a terminal ask for this.
                .env("NO_COLOR", "1")
                .wall_clock(WallClock)
                .monotonic_clock(SteadyClock)
                .max_random_size(RANDOM_LIMIT)
                .allow_tcp(false)
                .allow_udp(false)
                .build_p1();
            self.wasi = Some(Box::new(wasi));
        }
        self.wasi.as_mut().expect("made above")
    }
}

/// A clock that never goes back in a process and starts at the time of day: an instant that a grain keeps in its memory
/// still makes sense when the host has been restarted.
pub(super) struct SteadyClock;

impl HostMonotonicClock for SteadyClock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        static START: OnceLock<(Instant, u64)> = OnceLock::new();
        let (start, time_of_day) = START.get_or_init(|| (Instant::now(), since_1970().as_nanos() as u64));
        time_of_day + start.elapsed().as_nanos() as u64
    }
}

/// The time of day, as the host has it.
struct WallClock;

impl HostWallClock for WallClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        since_1970()
    }
}

/// Standard output or error.
struct Output {
    gate: Arc<LogGate>,
    level: LogLevel,
    source: LogSource,
}

impl IsTerminal for Output {
    /// It says so for C's library: that writes line by line to a terminal only. What it holds back else stays in the grain's memory
    /// and becomes a record of another turn, or none.
    fn is_terminal(&self) -> bool {
        true
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Preview 1 takes the other one.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Lines {
            gate: Arc::clone(&self.gate),
            level: self.level,
            source: self.source,
            line: Vec::new(),
        })
    }
}

/// Cuts a stream of bytes into lines; each becomes a record. What is left when the turn ends is one, too.
struct Lines {
    gate: Arc<LogGate>,
    level: LogLevel,
    source: LogSource,
    line: Vec<u8>,
}

impl Lines {
    fn end_line(&mut self) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        self.gate.write(self.level, self.source, &String::from_utf8_lossy(line));
        self.line.clear();
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            // Bytes of a line beyond the limit are dropped here already.
            let room = self.gate.limit().saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.end_line();
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
    }
}
