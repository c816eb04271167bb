//! Why a module can't be deployed.

use std::fmt;
use std::time::Duration;

/// What is wrong with a module and what would be right. Nothing is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleError {
    /// The bytes don't begin like wasm.
    NotWasm,
    /// A component, not a core module.
    Component,
    /// Not valid wasm, or of a proposal that isn't supported; holds the validator's words.
    Invalid(String),
    /// Exports of the world are missing.
    NoWorld {
        /// Which.
        missing: Vec<String>,
    },
    /// An export of the world has another type.
    ExportType {
        /// Its name.
        name: String,
        /// The type that the world's canonical ABI gives it.
        expected: String,
        /// The type that it has.
        found: String,
    },
    /// An import that no host has.
    UnknownImport {
        /// The import's module name.
        module: String,
        /// The import's name.
        name: String,
    },
    /// An import of ours or of WASI with another type.
    ImportType {
        /// The import, as `module` `name`.
        import: String,
        /// The type that it should have, or what the linker says of it.
        expected: String,
    },
    /// Not exactly one memory.
    Memories(usize),
    /// The memory is imported.
    ImportedMemory,
    /// The memory is shared between threads.
    SharedMemory,
    /// The memory has 64-bit addresses.
    Memory64,
    /// The memory has pages of another size than 64 KiB.
    PageSize,
    /// The memory begins longer than a grain's memory may become.
    MemoryMinimum {
        /// Bytes that the module asks for.
        bytes: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// An instruction that changes what a saved memory doesn't hold: a table or a segment.
    Instruction {
        /// Its name, as `table.set`.
        name: &'static str,
        /// The function that contains it.
        function: String,
    },
    /// A passive data segment.
    PassiveSegment(usize),
    /// A mutable global that holds a reference.
    ReferenceGlobal(String),
    /// A data segment whose place isn't a constant number.
    SegmentOffset(usize),
    /// A data segment that reaches behind the end of the initial memory.
    SegmentBounds {
        /// Which segment.
        segment: usize,
        /// Where it ends.
        end: u64,
        /// The initial memory's length.
        memory: u64,
    },
    /// Above a limit.
    TooLarge {
        /// What.
        what: String,
        /// How much it is.
        found: u64,
        /// How much it may be.
        limit: u64,
        /// What can be done about it, if there is more to do than to have less of it.
        remedy: Option<String>,
    },
    /// An export under a name that the host needs for itself.
    ReservedExport(String),
    /// Every export runs the constructors anew, as the linker makes it for a module that doesn't mention them.
    CommandExports(String),
    /// Constructors run in `_start`, which is no function of the world.
    CommandStart,
    /// The compiler refused it.
    Compile(String),
    /// Compiling took longer than it may.
    CompileTime(Duration),
    /// Compiling took more memory than these bytes.
    CompileMemory(u64),
    /// The compiler's process failed: how it ended.
    CompileCrash(String),
    /// `describe` failed, or returned what is no description.
    Describe(String),
    /// Too many modules wait to be compiled. Nothing is wrong with this one: ask again.
    Busy,
    /// The system failed; it's not the module's fault.
    Host(String),
}

/// What mends a module that was linked as a command.
const REACTOR: &str =
    "link as a reactor, by `-mexec-model=reactor` with clang, by `-Clink-arg=--export=__wasm_call_ctors` in Rust";

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModuleError::NotWasm => f.write_str("this is not WebAssembly: a module begins with the bytes `\\0asm`"),
            ModuleError::Component => f.write_str(
                "this is a component; a grain is a core module: build it for wasm32-wasip1 (not wasip2) and don't run `wasm-tools component new` on it",
            ),
            ModuleError::Invalid(why) => write!(f, "the module is not valid WebAssembly, or uses a proposal that grains don't have: {why}"),
            ModuleError::NoWorld { missing } => write!(
                f,
                "the module does not implement the world `granary:grain@0.1.0`: it does not export {}. A Rust guest does by `granary_sdk::export!(Type)`",
                list(missing)
            ),
            ModuleError::ExportType { name, expected, found } => {
                write!(f, "the export `{name}` has the type {found}, the world's canonical ABI gives it {expected}")
            }
            ModuleError::UnknownImport { module, name } => write!(
                f,
                "the module imports `{module}` `{name}`, which no host has: a grain may import `granary:grain/calls@0.1.0`, `granary:grain/log@0.1.0` and the functions of `wasi_snapshot_preview1`"
            ),
            ModuleError::ImportType { import, expected } => write!(f, "the import {import} has a wrong type: {expected}"),
            ModuleError::Memories(0) => f.write_str("the module has no memory: a grain's state is its one linear memory"),
            ModuleError::Memories(n) => write!(f, "the module has {n} memories: a grain's state is its one linear memory"),
            ModuleError::ImportedMemory => f.write_str("the module imports its memory: it has to define it (link without --import-memory)"),
            ModuleError::SharedMemory => f.write_str("the memory is shared: grains have one thread (link without --shared-memory)"),
            ModuleError::Memory64 => f.write_str("the memory has 64-bit addresses: build for wasm32"),
            ModuleError::PageSize => f.write_str("the memory has a custom page size: grains have pages of 64 KiB"),
            ModuleError::MemoryMinimum { bytes, limit } => write!(
                f,
                "the memory begins with {bytes} bytes, a grain's memory may have {limit}: look at large statics and at -zstack-size"
            ),
            ModuleError::Instruction { name, function } => write!(
                f,
                "the function {function} uses `{name}`: tables and segments can't change at run time, as they aren't in the memory that is saved"
            ),
            ModuleError::PassiveSegment(i) => {
                write!(f, "data segment {i} is passive: segments have to be active, as what is left of one isn't in the memory that is saved")
            }
            ModuleError::ReferenceGlobal(name) => {
                write!(f, "the mutable global {name} holds a reference, which can't be saved: mutable globals are numbers")
            }
            ModuleError::SegmentOffset(i) => write!(f, "the offset of data segment {i} is not an i32.const"),
            ModuleError::SegmentBounds { segment, end, memory } => {
                write!(f, "data segment {segment} ends at byte {end}, behind the end of the initial memory at {memory}")
            }
            ModuleError::TooLarge { what, found, limit, remedy } => {
                write!(f, "{what}: {found}, at most {limit} are allowed")?;
                remedy.iter().try_for_each(|remedy| write!(f, ": {remedy}"))
            }
            ModuleError::ReservedExport(name) => write!(f, "the export `{name}` has a name that is reserved: those with `granary:host/`"),
            ModuleError::CommandExports(name) => write!(
                f,
                "the linker wrapped the exports ({name}), so that constructors and destructors would run with every call and the state begin anew \
                 each time: {REACTOR}"
            ),
            ModuleError::CommandStart => write!(
                f,
                "the module is a command: its constructors run in `_start`, which nobody calls in a grain: {REACTOR}"
            ),
            ModuleError::Describe(why) => f.write_str(why),
            ModuleError::Busy => f.write_str("too many modules wait to be compiled: deploy again in a moment"),
            ModuleError::Host(why) => write!(f, "the module can't be compiled now: {why}"),
            ModuleError::Compile(_)
            | ModuleError::CompileTime(_)
            | ModuleError::CompileMemory(_)
            | ModuleError::CompileCrash(_) => self.fmt_compiling(f),
        }
    }
}

impl ModuleError {
    fn fmt_compiling(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModuleError::Compile(why) => write!(f, "the module does not compile: {why}"),
            ModuleError::CompileTime(limit) => write!(
                f,
                "compiling the module takes longer than {limit:?}: split large functions, or have the host's limit raised"
            ),
            ModuleError::CompileMemory(limit) => write!(
                f,
                "compiling the module takes more memory than {} MiB: split large functions, or have the host's limit raised",
                limit >> 20
            ),
            ModuleError::CompileCrash(how) => write!(
                f,
                "the compiler's process failed on this module ({how}); the host is unharmed, and its log says more"
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ModuleError {}

fn list(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
