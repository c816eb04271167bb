//! A module as the host runs it.
//!
//! Differences from what was uploaded:
//! - the memory and all mutable globals are exported, so that they can be saved and restored;
//! - data segments and the start function are gone: the base image and the constructors take their place, since a restored
//!   instance must not have its memory written over or its constructors run again;
//! - entry functions in wasm, one for each function of the world and one for the constructors ([`Entry`]);
//! - `invoke` and `invoke-all` are wrapped: every use of the import is a use of the wrapper.
//!
//! Entries and wrappers do in wasm what a canonical ABI's host does natively, as far as it calls the guest: allocating by
//! `cabi_realloc`, freeing by `cabi_post_*`. So a turn is one entry into wasm on one stack, and a hostile `cabi_realloc` that
//! traps, loops or recurses is a function of the guest like any other. The host's part are three imports, [`HOST_IMPORTS`]:
//!
//! ```text
//! need: () -> i64      the next buffer that the guest has to allocate: alignment << 32 | bytes; negative when there's none.
//! put: (ptr: i32)      here it is: the host checks the pointer and fills the buffer.
//! take: (ptr: i32)     the function's result: the host checks, lifts and keeps it.
//! ```

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    BlockType, CodeSection, ElementSection, EntityType, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, ImportSection, InstructionSink, MemorySection, Module, NameMap, NameSection, TableSection,
    TypeSection, ValType,
};

use super::ModuleError;
use super::census::Census;
use super::check::{self, Findings, RESERVED};

/// The module name of [`HOST_IMPORTS`]. A guest can't import from it: the check knows no such import.
pub(crate) const HOST: &str = "granary:host";
/// The imports that the rewrite adds, in their order.
pub(crate) const HOST_IMPORTS: [&str; 3] = ["need", "put", "take"];
/// The exported memory's name.
pub(crate) const MEMORY: &str = "granary:host/memory";

/// An exported entry function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Runs the constructors: `() -> ()`.
    Construct,
    /// `() -> ()`.
    Describe,
    /// `call(context, method, args)`: takes the byte lengths of key, request id, method, args.
    Call,
    /// `() -> ()`.
    Save,
    /// `() -> ()`. Traps in a module that can't.
    SaveExactly,
    /// `load(context, version, state)`: takes the version and the lengths of key, request id, state.
    Load,
    /// `check(context)`: takes the lengths of key and request id.
    Check,
}

impl Entry {
    const ALL: [Entry; 7] = [
        Entry::Construct,
        Entry::Describe,
        Entry::Call,
        Entry::Save,
        Entry::SaveExactly,
        Entry::Load,
        Entry::Check,
    ];

    /// The export's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Entry::Construct => "granary:host/construct",
            Entry::Describe => "granary:host/describe",
            Entry::Call => "granary:host/call",
            Entry::Save => "granary:host/save",
            Entry::SaveExactly => "granary:host/save-exactly",
            Entry::Load => "granary:host/load",
            Entry::Check => "granary:host/check",
        }
    }

    /// How many i32 it takes.
    fn params(self) -> usize {
        match self {
            Entry::Construct | Entry::Describe | Entry::Save | Entry::SaveExactly => 0,
            Entry::Call | Entry::Load => 4,
            Entry::Check => 2,
        }
    }
}

/// The name that the `n`-th mutable global is exported as.
pub(crate) fn global_export(n: usize) -> String {
    format!("{RESERVED}global/{n}")
}

/// Makes the module that runs from the one that was uploaded.
pub(super) fn rewrite(census: &Census<'_>, findings: &Findings) -> Result<Vec<u8>, ModuleError> {
    let plan = Plan::new(census, findings);
    plan.encode().map_err(|error| ModuleError::Invalid(error.to_string()))
}

/// Where everything is in the new module.
struct Plan<'a> {
    census: &'a Census<'a>,
    findings: &'a Findings,
    /// Imports that are wrapped: their function index and how many i32 they take.
    wrapped: Vec<(u32, usize)>,
    /// The index of the first wrapper; entries follow.
    first_new: u32,
    first_type: u32,
}

/// The added types, by their place behind the module's own.
#[derive(Clone, Copy)]
enum Ty {
    Need = 0,
    Put = 1,
    Nullary = 2,
    Two = 3,
    Four = 4,
    Three = 5,
    Nine = 6,
}

type Encoded<T> = Result<T, reencode::Error>;

impl<'a> Plan<'a> {
    fn new(census: &'a Census<'a>, findings: &'a Findings) -> Plan<'a> {
        let functions = census
            .imports
            .iter()
            .filter(|import| matches!(import.ty, wasmparser::TypeRef::Func(_)));
        let wrapped = functions
            .enumerate()
            .filter(|(_, import)| import.module == check::IMPORTS[0].0)
            .filter_map(|(index, import)| {
                let known = check::IMPORTS.iter().find(|known| known.1 == import.name)?;
                Some((index as u32, known.2))
            })
            .collect();
        Plan {
            census,
            findings,
            wrapped,
            first_new: (census.functions.len() + HOST_IMPORTS.len()) as u32,
            first_type: census.types.len() as u32,
        }
    }

    fn encode(mut self) -> Encoded<Vec<u8>> {
        let sections = &self.census.sections;
        let mut module = Module::new();

        let mut types = TypeSection::new();
        if let Some(reader) = &sections.types {
            self.parse_type_section(&mut types, reader.clone())?;
        }
        add_types(&mut types);
        module.section(&types);

        let mut imports = ImportSection::new();
        if let Some(reader) = &sections.imports {
            self.parse_import_section(&mut imports, reader.clone())?;
        }
        for (name, ty) in HOST_IMPORTS.iter().zip([Ty::Need, Ty::Put, Ty::Put]) {
            imports.import(HOST, name, EntityType::Function(self.ty(ty)));
        }
        module.section(&imports);

        let mut functions = FunctionSection::new();
        if let Some(reader) = &sections.functions {
            self.parse_function_section(&mut functions, reader.clone())?;
        }
        self.declare_functions(&mut functions);
        module.section(&functions);

        if let Some(reader) = &sections.tables {
            let mut tables = TableSection::new();
            self.parse_table_section(&mut tables, reader.clone())?;
            module.section(&tables);
        }
        if let Some(reader) = &sections.memories {
            let mut memories = MemorySection::new();
            self.parse_memory_section(&mut memories, reader.clone())?;
            module.section(&memories);
        }
        if let Some(reader) = &sections.globals {
            let mut globals = GlobalSection::new();
            self.parse_global_section(&mut globals, reader.clone())?;
            module.section(&globals);
        }

        let mut exports = ExportSection::new();
        if let Some(reader) = &sections.exports {
            // Kept, though nobody calls them: an export also declares a function for `ref.func`.
            self.parse_export_section(&mut exports, reader.clone())?;
        }
        self.add_exports(&mut exports);
        module.section(&exports);

        if let Some(reader) = &sections.elements {
            let mut elements = ElementSection::new();
            self.parse_element_section(&mut elements, reader.clone())?;
            module.section(&elements);
        }
        let mut code = CodeSection::new();
        if let Some(reader) = &sections.code {
            self.parse_code_section(&mut code, reader.clone())?;
        }
        self.add_code(&mut code);
        module.section(&code);
        module.section(&self.names());
        Ok(module.finish())
    }

    fn ty(&self, ty: Ty) -> u32 {
        self.first_type + ty as u32
    }

    /// The index of one of [`HOST_IMPORTS`].
    fn host(&self, name: &str) -> u32 {
        let place = HOST_IMPORTS
            .iter()
            .position(|import| *import == name)
            .expect("one of ours");
        self.census.imported_functions + place as u32
    }

    /// A function of the guest by its old index, never the wrapper.
    fn moved(&self, index: u32) -> u32 {
        if index < self.census.imported_functions {
            index
        } else {
            index + HOST_IMPORTS.len() as u32
        }
    }

    fn declare_functions(&self, functions: &mut FunctionSection) {
        for (_, params) in &self.wrapped {
            functions.function(self.ty(if *params == 9 { Ty::Nine } else { Ty::Three }));
        }
        for entry in Entry::ALL {
            functions.function(self.ty(match entry.params() {
                0 => Ty::Nullary,
                2 => Ty::Two,
                _ => Ty::Four,
            }));
        }
    }

    fn add_exports(&self, exports: &mut ExportSection) {
        exports.export(MEMORY, ExportKind::Memory, 0);
        for (n, (index, _)) in self.findings.globals.iter().enumerate() {
            exports.export(&global_export(n), ExportKind::Global, *index);
        }
        let first = self.first_new + self.wrapped.len() as u32;
        for (n, entry) in Entry::ALL.iter().enumerate() {
            exports.export(entry.name(), ExportKind::Func, first + n as u32);
        }
    }

    fn add_code(&self, code: &mut CodeSection) {
        for (import, params) in &self.wrapped {
            code.function(&self.wrapper(*import, *params as u32));
        }
        for entry in Entry::ALL {
            code.function(&self.entry(entry));
        }
    }

    /// The import, and then every buffer that its reply needs.
    fn wrapper(&self, import: u32, params: u32) -> Function {
        let mut function = Function::new([(1, ValType::I64)]);
        let need = params;
        let mut sink = function.instructions();
        for param in 0..params {
            sink.local_get(param);
        }
        sink.call(import);
        sink.block(BlockType::Empty).loop_(BlockType::Empty);
        sink.call(self.host("need"))
            .local_tee(need)
            .i64_const(0)
            .i64_lt_s()
            .br_if(1);
        sink.i32_const(0).i32_const(0);
        sink.local_get(need).i64_const(32).i64_shr_u().i32_wrap_i64();
        sink.local_get(need).i32_wrap_i64();
        sink.call(self.moved_realloc()).call(self.host("put"));
        sink.br(0).end().end().end();
        function
    }

    fn entry(&self, entry: Entry) -> Function {
        let handler = &self.findings.handler;
        let (target, scalars) = match entry {
            Entry::Construct => {
                let mut function = Function::new([]);
                let mut sink = function.instructions();
                for constructor in &self.findings.constructors {
                    sink.call(self.new_index(*constructor));
                }
                sink.end();
                return function;
            }
            Entry::Describe => (handler.describe, 0),
            Entry::Call => (handler.call, 0),
            Entry::Save => (handler.save, 0),
            Entry::SaveExactly => match handler.exact {
                Some(exact) => (exact, 0),
                None => {
                    let mut function = Function::new([]);
                    function.instructions().unreachable().end();
                    return function;
                }
            },
            Entry::Load => (handler.load, 1),
            Entry::Check => (handler.check, 0),
        };
        let params = entry.params() as u32;
        let mut function = Function::new([(params + 1, ValType::I32)]);
        let mut sink = function.instructions();
        // Parameters first: `scalars` numbers, then lengths; pointer `i` goes into local `params + i`.
        for length in scalars..params {
            let pointer = params + length;
            sink.i32_const(0)
                .i32_const(0)
                .i32_const(1)
                .local_get(length)
                .call(self.moved_realloc());
            sink.local_tee(pointer).call(self.host("put"));
        }
        push_arguments(&mut sink, entry, params);
        let result = 2 * params;
        sink.call(self.new_index(target.index))
            .local_tee(result)
            .call(self.host("take"));
        if let Some(post) = target.post {
            sink.local_get(result).call(self.new_index(post));
        }
        sink.end();
        function
    }

    fn moved_realloc(&self) -> u32 {
        self.new_index(self.findings.handler.realloc)
    }

    /// A function by its old index, as the guest's own code is to see it.
    fn new_index(&self, index: u32) -> u32 {
        match self.wrapped.iter().position(|(import, _)| *import == index) {
            Some(n) => self.first_new + n as u32,
            None => self.moved(index),
        }
    }

    /// Function names, for traces of traps.
    fn names(&self) -> NameSection {
        let mut functions = NameMap::new();
        let mut all: Vec<(u32, &str)> = self
            .census
            .function_names()
            .map(|(index, name)| (self.new_index(index), name))
            .collect();
        all.sort_unstable();
        for (index, name) in all {
            functions.append(index, name);
        }
        let mut names = NameSection::new();
        names.functions(&functions);
        names
    }
}

/// The arguments in the order of the world: pointer and length of each list, numbers as they are.
fn push_arguments(sink: &mut InstructionSink<'_>, entry: Entry, params: u32) {
    for length in 0..params {
        match (entry, length) {
            // The version stands between the context and the state.
            (Entry::Load, 0) => continue,
            (Entry::Load, 3) => sink.local_get(0),
            _ => sink,
        }
        .local_get(params + length)
        .local_get(length);
    }
}

fn add_types(types: &mut TypeSection) {
    let i32s = |n: usize| vec![ValType::I32; n];
    types.ty().function([], [ValType::I64]);
    for params in [1, 0, 2, 4, 3, 9] {
        types.ty().function(i32s(params), []);
    }
}

impl Reencode for Plan<'_> {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, func: u32) -> Encoded<u32> {
        Ok(self.new_index(func))
    }
}
