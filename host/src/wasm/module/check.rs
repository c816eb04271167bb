//! What a module has to be so that its memory and globals are all of its state, and so that this host can call it.
//!
//! First the validator, so that everything after it may trust indices; then the rules of grains, each with an error that names
//! what breaks it. **Not here:** how many instances, turns or bytes there may be at run time.

use std::collections::BTreeSet;

use granary_core::page::PAGE_SIZE;
use wasmparser::{DataKind, ElementItems, ElementKind, FuncType, Operator, TypeRef, ValType, Validator, WasmFeatures};

use super::census::{Census, const_i32};
use super::stack::{self, ShadowStack, StackPointer};
use super::{ModuleError, command};
use crate::snapshot::BaseImage;
use crate::wasm::config::{ModuleLimits, WasmConfig};

/// What the world calls its interface of exports.
pub(super) const HANDLER: &str = "granary:grain/handler@0.1.0#";
/// The optional export of a state that loses nothing.
const EXACT: &str = "granary:grain/exact@0.1.0#save";
/// Names that begin so are the host's own.
pub(super) const RESERVED: &str = "granary:host/";
/// The imports of the world and how many i32 they take; none returns anything in the canonical ABI.
pub(super) const IMPORTS: [(&str, &str, usize); 3] = [
    ("granary:grain/calls@0.1.0", "invoke", 9),
    ("granary:grain/calls@0.1.0", "invoke-all", 3),
    ("granary:grain/log@0.1.0", "write", 3),
];
/// WASI preview 1.
const WASI: &str = "wasi_snapshot_preview1";
/// What the host answers of it. Files and sockets are among them and find none.
const WASI_FUNCTIONS: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// The functions of the world that the host calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handler {
    pub(super) describe: Function,
    pub(super) call: Function,
    pub(super) save: Function,
    pub(super) load: Function,
    pub(super) check: Function,
    /// Saves the state exactly, if the guest can.
    pub(super) exact: Option<Function>,
    pub(super) realloc: u32,
}

impl Handler {
    /// All functions that the host calls.
    fn functions(&self) -> Vec<u32> {
        let all = [self.describe, self.call, self.save, self.load, self.check];
        let all = all
            .into_iter()
            .flat_map(|function| [Some(function.index), function.post]);
        all.flatten().chain([self.realloc]).collect()
    }
}

/// An export and what frees its result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    pub(super) index: u32,
    pub(super) post: Option<u32>,
}

/// What the check found out on the way.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) handler: Handler,
    /// What has to run once before a grain's first turn, in this order.
    pub(super) constructors: Vec<u32>,
    /// The mutable globals, by index, and their types.
    pub(super) globals: Vec<(u32, ValType)>,
    pub(super) base: BaseImage,
    pub(super) memory_minimum: u64,
    pub(super) memory_maximum: Option<u64>,
    pub(super) stack: Option<ShadowStack>,
    pub(super) stack_pointer: Option<StackPointer>,
}

/// Checks everything.
pub(super) fn check(bytes: &[u8], census: &Census<'_>, config: &WasmConfig) -> Result<Findings, ModuleError> {
    // Only to word what follows better: these four are refused below.
    let refused =
        WasmFeatures::THREADS | WasmFeatures::MEMORY64 | WasmFeatures::MULTI_MEMORY | WasmFeatures::CUSTOM_PAGE_SIZES;
    let features = features() | refused;
    Validator::new_with_features(features)
        .validate_all(bytes)
        .map_err(|error| ModuleError::Invalid(error.to_string()))?;
    check_limits(census, &config.module)?;
    let (memory_minimum, memory_maximum) = check_memory(census, config)?;
    check_imports(census)?;
    let handler = check_exports(census)?;
    check_instructions(census)?;
    check_elements(census)?;
    let base = check_data(census, memory_minimum, config.module.base_bytes)?;
    let globals = check_globals(census, &config.module)?;
    let stack = stack::find(census, &globals);
    let stack_pointer = stack::find_pointer(census, &globals);
    let constructors = find_constructors(census)?;
    Ok(Findings {
        handler,
        constructors,
        globals,
        base,
        memory_minimum,
        memory_maximum,
        stack,
        stack_pointer,
    })
}

/// The wasm that grains are made of. The engine is configured with the same.
pub(crate) fn features() -> WasmFeatures {
    WasmFeatures::WASM2 | WasmFeatures::TAIL_CALL | WasmFeatures::EXTENDED_CONST | WasmFeatures::RELAXED_SIMD
}

fn check_limits(census: &Census<'_>, limits: &ModuleLimits) -> Result<(), ModuleError> {
    let limit = |what: &str, found: u64, limit: u64, remedy: Option<&str>| {
        if found <= limit {
            return Ok(());
        }
        Err(ModuleError::TooLarge {
            what: what.to_owned(),
            found,
            limit,
            remedy: remedy.map(str::to_owned),
        })
    };
    limit("functions", census.bodies.len() as u64, limits.functions as u64, None)?;
    limit("entries in tables", census.table_entries, limits.table_entries, None)?;
    let longest = census
        .bodies
        .iter()
        .enumerate()
        .max_by_key(|(_, body)| body.range().len());
    if let Some((i, body)) = longest {
        let name = census.function_name(census.imported_functions + i as u32);
        limit(
            &format!("bytes in the body of function {name}"),
            body.range().len() as u64,
            limits.body_bytes as u64,
            Some("split the function, or have the host started with a larger `--function-limit`"),
        )?;
    }
    Ok(())
}

fn check_memory(census: &Census<'_>, config: &WasmConfig) -> Result<(u64, Option<u64>), ModuleError> {
    if census
        .imports
        .iter()
        .any(|import| matches!(import.ty, TypeRef::Memory(_)))
    {
        return Err(ModuleError::ImportedMemory);
    }
    let &[memory] = census.memories.as_slice() else {
        return Err(ModuleError::Memories(census.memories.len()));
    };
    if memory.shared {
        return Err(ModuleError::SharedMemory);
    }
    if memory.memory64 {
        return Err(ModuleError::Memory64);
    }
    if memory.page_size_log2.is_some() {
        return Err(ModuleError::PageSize);
    }
    // Validated: at most 65,536 pages.
    let bytes = memory.initial << 16;
    if bytes > config.memory_limit as u64 {
        return Err(ModuleError::MemoryMinimum {
            bytes,
            limit: config.memory_limit,
        });
    }
    Ok((bytes, memory.maximum.map(|pages| pages << 16)))
}

fn check_imports(census: &Census<'_>) -> Result<(), ModuleError> {
    for import in &census.imports {
        let unknown = || ModuleError::UnknownImport {
            module: import.module.to_owned(),
            name: import.name.to_owned(),
        };
        // An import of exactly one type (custom descriptors) is no import that grains have, though validation lets it through.
        let TypeRef::Func(ty) = import.ty else {
            return Err(unknown());
        };
        if import.module == WASI && WASI_FUNCTIONS.contains(&import.name) {
            continue;
        }
        let ours = IMPORTS
            .iter()
            .find(|(module, name, _)| (*module, *name) == (import.module, import.name));
        let (_, _, params) = ours.ok_or_else(unknown)?;
        let expected = FuncType::new(vec![ValType::I32; *params], []);
        if census.types.get(ty as usize).and_then(Option::as_ref) != Some(&expected) {
            return Err(ModuleError::ImportType {
                import: format!("`{}` `{}`", import.module, import.name),
                expected: format!("the world's canonical ABI gives it {}", signature(&expected)),
            });
        }
    }
    Ok(())
}

fn check_exports(census: &Census<'_>) -> Result<Handler, ModuleError> {
    if let Some(export) = census.exports.iter().find(|export| export.name.starts_with(RESERVED)) {
        return Err(ModuleError::ReservedExport(export.name.to_owned()));
    }
    let mut missing = Vec::new();
    let mut function = |name: &str, params: usize| -> Result<Function, ModuleError> {
        let name = format!("{HANDLER}{name}");
        let index = find_export(census, &name, params, 1)?;
        let post = find_export(census, &format!("cabi_post_{name}"), 1, 0)?;
        if index.is_none() {
            missing.push(name);
        }
        Ok(Function {
            index: index.unwrap_or(0),
            post,
        })
    };
    let mut handler = Handler {
        describe: function("describe", 0)?,
        call: function("call", 8)?,
        save: function("save", 0)?,
        load: function("load", 7)?,
        check: function("check", 4)?,
        exact: None,
        realloc: 0,
    };
    if let Some(index) = find_export(census, EXACT, 0, 1)? {
        let post = find_export(census, &format!("cabi_post_{EXACT}"), 1, 0)?;
        handler.exact = Some(Function { index, post });
    }
    match find_export(census, "cabi_realloc", 4, 1)? {
        Some(index) => handler.realloc = index,
        None => missing.push("cabi_realloc".to_owned()),
    }
    if !missing.is_empty() {
        return Err(ModuleError::NoWorld { missing });
    }
    command::check(census, &handler.functions())?;
    Ok(handler)
}

/// The exported function, if it's there; it must take and return so many i32.
fn find_export(census: &Census<'_>, name: &str, params: usize, results: usize) -> Result<Option<u32>, ModuleError> {
    let Some(index) = census.exported_function(name) else {
        return Ok(None);
    };
    let expected = FuncType::new(vec![ValType::I32; params], vec![ValType::I32; results]);
    match census.function_type(index) {
        Some(found) if *found == expected => Ok(Some(index)),
        found => Err(ModuleError::ExportType {
            name: name.to_owned(),
            expected: signature(&expected),
            found: found.map_or_else(|| "no function type".to_owned(), signature),
        }),
    }
}

fn signature(ty: &FuncType) -> String {
    let list = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    format!("({}) -> ({})", list(ty.params()), list(ty.results()))
}

fn check_instructions(census: &Census<'_>) -> Result<(), ModuleError> {
    for (i, body) in census.bodies.iter().enumerate() {
        for_each_operator(body, |operator| match forbidden(operator) {
            Some(name) => Err(ModuleError::Instruction {
                name,
                function: census.function_name(census.imported_functions + i as u32),
            }),
            None => Ok(()),
        })?;
    }
    Ok(())
}

fn forbidden(operator: &Operator<'_>) -> Option<&'static str> {
    Some(match operator {
        Operator::TableSet { .. } => "table.set",
        Operator::TableGrow { .. } => "table.grow",
        Operator::TableCopy { .. } => "table.copy",
        Operator::TableInit { .. } => "table.init",
        Operator::TableFill { .. } => "table.fill",
        Operator::MemoryInit { .. } => "memory.init",
        Operator::DataDrop { .. } => "data.drop",
        Operator::ElemDrop { .. } => "elem.drop",
        _ => return None,
    })
}

fn for_each_operator(
    body: &wasmparser::FunctionBody<'_>,
    mut visit: impl FnMut(&Operator<'_>) -> Result<(), ModuleError>,
) -> Result<(), ModuleError> {
    let invalid = |error: wasmparser::Error| ModuleError::Invalid(error.to_string());
    for operator in body.get_operators_reader().map_err(invalid)? {
        visit(&operator.map_err(invalid)?)?;
    }
    Ok(())
}

/// Active segments of tables lie inside of them: otherwise the module would be accepted and no instance could start.
fn check_elements(census: &Census<'_>) -> Result<(), ModuleError> {
    let invalid = |error: wasmparser::Error| ModuleError::Invalid(error.to_string());
    let tables = census.sections.tables.clone().into_iter().flatten();
    let lengths: Vec<u64> = tables
        .map(|table| table.map(|table| table.ty.initial))
        .collect::<Result<_, _>>()
        .map_err(invalid)?;
    let elements = census.sections.elements.clone().into_iter().flatten();
    for (segment, element) in elements.enumerate() {
        let element = element.map_err(invalid)?;
        let ElementKind::Active {
            table_index,
            offset_expr,
        } = &element.kind
        else {
            continue;
        };
        let count = match &element.items {
            ElementItems::Functions(functions) => functions.count(),
            ElementItems::Expressions(_, expressions) => expressions.count(),
        };
        let end = const_i32(offset_expr).map(|offset| u64::from(offset) + u64::from(count));
        let length = lengths.get(table_index.unwrap_or(0) as usize).copied().unwrap_or(0);
        if end.is_none_or(|end| end > length) {
            return Err(ModuleError::Invalid(format!(
                "element segment {segment} has to begin at a constant and end within its table of {length} entries"
            )));
        }
    }
    Ok(())
}

fn check_data(census: &Census<'_>, memory: u64, base_bytes: usize) -> Result<BaseImage, ModuleError> {
    let mut pages = BTreeSet::new();
    let mut segments = Vec::with_capacity(census.data.len());
    for (segment, data) in census.data.iter().enumerate() {
        let DataKind::Active { offset_expr, .. } = &data.kind else {
            return Err(ModuleError::PassiveSegment(segment));
        };
        let offset = const_i32(offset_expr).ok_or(ModuleError::SegmentOffset(segment))?;
        let end = u64::from(offset) + data.data.len() as u64;
        if end > memory {
            return Err(ModuleError::SegmentBounds { segment, end, memory });
        }
        if !data.data.is_empty() {
            pages.extend(u64::from(offset) / PAGE_SIZE as u64..=(end - 1) / PAGE_SIZE as u64);
        }
        if pages.len() * PAGE_SIZE > base_bytes {
            return Err(ModuleError::TooLarge {
                what: format!("bytes in the pages that data segments 0 to {segment} lie in"),
                found: (pages.len() * PAGE_SIZE) as u64,
                limit: base_bytes as u64,
                remedy: None,
            });
        }
        segments.push((offset, data.data));
    }
    Ok(BaseImage::new(segments))
}

fn check_globals(census: &Census<'_>, limits: &ModuleLimits) -> Result<Vec<(u32, ValType)>, ModuleError> {
    let mut globals = Vec::new();
    for (index, (ty, _)) in census.globals.iter().enumerate().filter(|(_, (ty, _))| ty.mutable) {
        let index = index as u32;
        if matches!(ty.content_type, ValType::Ref(_)) {
            return Err(ModuleError::ReferenceGlobal(census.global_name(index)));
        }
        globals.push((index, ty.content_type));
    }
    if globals.len() > limits.globals {
        let (found, limit) = (globals.len() as u64, limits.globals as u64);
        return Err(ModuleError::TooLarge {
            what: "mutable globals".to_owned(),
            found,
            limit,
            remedy: None,
        });
    }
    Ok(globals)
}

/// The start function; then `_initialize`, which runs the constructors of a reactor; else the constructors themselves, unless
/// the module's own code runs them (as wit-bindgen's does before the first call): twice would be wrong. A program's `_start`, which
/// nobody calls, doesn't count.
fn find_constructors(census: &Census<'_>) -> Result<Vec<u32>, ModuleError> {
    let mut constructors: Vec<u32> = census.start.into_iter().collect();
    let nullary = |name: &str| find_export(census, name, 0, 0);
    if let Some(index) = nullary("_initialize")? {
        constructors.push(index);
    } else if let Some(index) = nullary("__wasm_call_ctors")? {
        let mut called = false;
        let start = census.exported_function("_start");
        let start = start.and_then(|start| start.checked_sub(census.imported_functions));
        let bodies = census.bodies.iter().enumerate();
        for (_, body) in bodies.filter(|(at, _)| start != Some(*at as u32)) {
            for_each_operator(body, |operator| {
                called |= matches!(operator, Operator::Call { function_index } if *function_index == index);
                Ok(())
            })?;
        }
        if !called {
            constructors.push(index);
        }
    }
    Ok(constructors)
}
