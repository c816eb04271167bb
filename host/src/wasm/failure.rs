//! How a turn can end other than by the guest's own answer.

use std::fmt;

use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

use super::calls::Words;
use super::stacks::StacksFull;
use super::trace;

/// The guest's own refusal, as `fault` in the world says it: the turn ended well and the instance goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which kind.
    pub kind: FaultKind,
    /// For a person.
    pub message: String,
    /// The guest's own error value, or the callee's, as JSON. Not checked.
    pub error: Option<Vec<u8>>,
    /// The HTTP status that the guest chose.
    pub status: Option<u16>,
    /// The code of a failed call.
    pub code: Option<String>,
}

/// The kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The arguments don't fit; the method did not run.
    BadArguments,
    /// No such method.
    UnknownMethod,
    /// The method's own error.
    GuestError,
    /// A call that the method made failed, and it passed that on.
    CallFailed,
}

/// Why a turn didn't end with an answer. Unless said otherwise the instance is unusable and must be dropped; the
/// grain's state is that of its last turn that ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnFailure {
    /// The guest did something that wasm stops, for example `unreachable` after a panic.
    Trap {
        /// What and where, for a person.
        message: String,
        /// What, as one word.
        code: &'static str,
    },
    /// It computed for longer than a turn may.
    CpuLimit {
        /// The limit in milliseconds.
        limit_ms: u64,
    },
    /// It trapped after it had been refused memory.
    MemoryLimit {
        /// The limit in bytes.
        limit: usize,
        /// What it did then.
        message: String,
    },
    /// It trapped after the host had no memory for it, or was stopped for that reason.
    HostMemory {
        /// What it did then.
        message: String,
    },
    /// It recursed too deep.
    Stack {
        /// Where, for a person.
        message: String,
    },
    /// It broke the canonical ABI: a pointer, a length or a text that can't be.
    Abi(String),
    /// Its answer, or what it sends, is above a limit.
    TooLarge(String),
    /// It slept until the turn's deadline.
    Deadline,
    /// It called `proc_exit`.
    Exit {
        /// With which number.
        code: i32,
        /// What it had said before.
        words: Option<String>,
    },
    /// No stack was free. The turn did not run, and the instance is as it was.
    Overloaded,
}

/// Whether a guest was refused memory in its turn, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It wasn't.
    No,
    /// Its memory would have been longer than a memory may be.
    ByLimit,
    /// The host has no room.
    ByHost,
}

impl TurnFailure {
    /// Whether the instance is as it was before the turn.
    pub fn did_not_run(&self) -> bool {
        matches!(self, TurnFailure::Overloaded)
    }

    /// What `error`, with which a call into wasm failed, means in a turn of which `turn` is known.
    pub(super) fn of(error: &wasmtime::Error, turn: &Circumstances) -> TurnFailure {
        let place = trace::place(error);
        if let Some(raised) = error.downcast_ref::<Raised>() {
            return match (&raised.0, &turn.used_up) {
                // The host was given a pointer into what isn't there.
                (TurnFailure::Abi(_), Some(used_up)) => used_up.failure(&place),
                (failure, _) => failure.clone(),
            };
        }
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            let words = turn.words.as_ref().map(|words| words.text().to_owned());
            return TurnFailure::Exit { code: exit.0, words };
        }
        if error.is::<StacksFull>() {
            return TurnFailure::Overloaded;
        }
        let trap = error.downcast_ref::<Trap>();
        if let (None | Some(Trap::MemoryOutOfBounds), Some(used_up)) = (trap, &turn.used_up) {
            return used_up.failure(&place);
        }
        let Some(trap) = trap else {
            return TurnFailure::Trap {
                message: format!("{}{place}", error.root_cause()),
                code: "host",
            };
        };
        let message = told(*trap, &place, turn.words.as_ref());
        match (trap, turn.refused) {
            (Trap::StackOverflow, _) => TurnFailure::Stack {
                message: format!("the guest recursed too deep{place}"),
            },
            (_, Refused::ByHost) => TurnFailure::HostMemory { message },
            (_, Refused::ByLimit) => TurnFailure::MemoryLimit {
                limit: turn.memory_limit,
                message,
            },
            (_, Refused::No) => TurnFailure::Trap {
                message,
                code: code(*trap),
            },
        }
    }
}

/// What is known of a turn that failed.
pub(super) struct Circumstances {
    /// Whether memory was refused in it.
    pub(super) refused: Refused,
    /// The longest that a memory may be, in bytes.
    pub(super) memory_limit: usize,
    /// What the guest said last.
    pub(super) words: Option<Words>,
    /// Whether its stack pointer has left the stack.
    pub(super) used_up: Option<UsedUp>,
}

/// The stack in a guest's memory is used up.
pub(super) struct UsedUp {
    /// How long it is, if that's known.
    pub(super) bytes: Option<u32>,
}

impl UsedUp {
    fn failure(&self, place: &str) -> TurnFailure {
        let (length, larger) = match self.bytes {
            Some(bytes) => (format!(" of {bytes} bytes"), u64::from(bytes) * 2),
            None => (String::new(), 1 << 20),
        };
        TurnFailure::Stack {
            message: format!(
                "the guest's stack{length} is used up{place}: keep what is large in a `Box` or `Vec`, recurse less deep, or link with a \
                 larger stack (Rust: `-Clink-arg=-zstack-size={larger}`, clang: `-Wl,-z,stack-size={larger}`)"
            ),
        }
    }
}

/// A trap with what the guest said of it. A panic's own words say more than the instruction by which it ends.
fn told(trap: Trap, place: &str, words: Option<&Words>) -> String {
    match words {
        Some(Words::Panic(said)) if trap == Trap::UnreachableCodeReached => format!("{said}{place}"),
        Some(words) => format!("{trap}{place}; it had written: {}", words.text()),
        None => format!("{trap}{place}"),
    }
}

/// A failure that a host function raises through the guest's frames.
#[derive(Debug)]
pub(super) struct Raised(pub(super) TurnFailure);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Raised {}

/// Ends the turn from within a host function.
pub(super) fn raise(failure: TurnFailure) -> wasmtime::Error {
    wasmtime::Error::from(Raised(failure))
}

fn code(trap: Trap) -> &'static str {
    match trap {
        Trap::MemoryOutOfBounds => "memory_out_of_bounds",
        Trap::TableOutOfBounds => "table_out_of_bounds",
        Trap::IndirectCallToNull => "null_call",
        Trap::BadSignature => "call_type",
        Trap::IntegerOverflow => "integer_overflow",
        Trap::IntegerDivisionByZero => "division_by_zero",
        Trap::BadConversionToInteger => "bad_conversion",
        Trap::UnreachableCodeReached => "unreachable",
        _ => "trap",
    }
}

impl fmt::Display for TurnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TurnFailure::Trap { message, .. } => write!(f, "the guest trapped: {message}"),
            TurnFailure::CpuLimit { limit_ms } => write!(f, "the turn computed for more than {limit_ms} ms"),
            TurnFailure::MemoryLimit { limit, message } => {
                write!(f, "the grain's memory can't grow beyond {limit} bytes: {message}")
            }
            TurnFailure::HostMemory { message } => {
                write!(f, "the host's memory budget has no more for the grain: {message}")
            }
            TurnFailure::Stack { message } => f.write_str(message),
            TurnFailure::Abi(what) => write!(f, "the guest broke the canonical ABI: {what}"),
            TurnFailure::TooLarge(what) => f.write_str(what),
            TurnFailure::Deadline => f.write_str("the turn slept until its deadline"),
            TurnFailure::Exit { code, words } => {
                write!(f, "the guest called exit({code}): a turn ends by returning")?;
                words
                    .iter()
                    .try_for_each(|words| write!(f, "; it had written: {words}"))
            }
            TurnFailure::Overloaded => f.write_str("no stack is free for another turn"),
        }
    }
}

impl std::error::Error for TurnFailure {}

/// Why an instance could not be made. Nothing is left behind.
#[derive(Debug)]
pub enum StartError {
    /// All memories are in use. Evict idle grains or try again later.
    Overloaded {
        /// How many there are.
        slots: usize,
    },
    /// The stored state isn't one of this module's: which rule it breaks.
    State(String),
    /// The system or the engine failed.
    Host(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Overloaded { slots } => write!(f, "all {slots} memories of this host are in use"),
            StartError::State(what) => write!(f, "the stored state does not fit the module: {what}"),
            StartError::Host(what) => write!(f, "the instance can't be made: {what}"),
        }
    }
}

impl std::error::Error for StartError {}
