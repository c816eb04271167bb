//! Modules: checked, rewritten, compiled.

mod cache;
mod census;
mod check;
mod command;
mod debug;
mod error;
mod rewrite;
mod stack;

use std::sync::Arc;

use granary_core::id::ModuleHash;
use wasmparser::ValType;
use wasmtime::{InstancePre, ModuleExport};

pub(super) use self::cache::{Cache, Kept, loaded, machine_code};
use self::census::Census;
pub use self::debug::{debug_bytes, debug_remedy};
pub use self::error::ModuleError;
pub(super) use self::rewrite::{Entry, HOST, HOST_IMPORTS, MEMORY, global_export};
use self::stack::{ShadowStack, StackPointer};
use super::calls::GuestState;
use super::config::WasmConfig;
use crate::snapshot::BaseImage;

/// A module that passed the check, rewritten, not yet compiled.
#[derive(Debug)]
pub struct CheckedModule {
    /// The wasm that runs.
    pub(super) wasm: Vec<u8>,
    pub(super) facts: Facts,
}

/// What is known of a module apart from its code.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) base: Arc<BaseImage>,
    pub(super) memory_minimum: u64,
    /// The maximum that the module itself declares.
    pub(super) memory_maximum: Option<u64>,
    /// Types of the mutable globals.
    pub(super) globals: Vec<ValType>,
    pub(super) stack: Option<ShadowStack>,
    pub(super) stack_pointer: Option<StackPointer>,
    /// Whether something has to run before a grain's first turn.
    pub(super) constructs: bool,
    /// Whether it can save a state exactly, and so load one that was.
    pub(super) saves_exactly: bool,
}

impl CheckedModule {
    /// Checks and rewrites a module as it was uploaded.
    pub(super) fn new(bytes: &[u8], config: &WasmConfig) -> Result<CheckedModule, ModuleError> {
        if !bytes.starts_with(b"\0asm") {
            return Err(ModuleError::NotWasm);
        }
        let limit = config.module.bytes;
        if bytes.len() > limit {
            let (found, limit) = (bytes.len() as u64, limit as u64);
            return Err(ModuleError::TooLarge {
                what: "bytes in the module".to_owned(),
                found,
                limit,
                remedy: debug_remedy(bytes).or(Some(
                    "have the host started with a larger `--http-module-limit`".to_owned(),
                )),
            });
        }
        let census = Census::take(bytes)?;
        let findings = check::check(bytes, &census, config)?;
        let wasm = rewrite::rewrite(&census, &findings)?;
        Ok(CheckedModule {
            wasm,
            facts: Facts {
                base: Arc::new(findings.base),
                memory_minimum: findings.memory_minimum,
                memory_maximum: findings.memory_maximum,
                globals: findings.globals.iter().map(|(_, ty)| *ty).collect(),
                stack: findings.stack,
                stack_pointer: findings.stack_pointer,
                constructs: !findings.constructors.is_empty(),
                saves_exactly: findings.handler.exact.is_some(),
            },
        })
    }
}

/// A compiled module: all its instances share the code and the base image.
pub struct Module {
    hash: ModuleHash,
    pub(super) facts: Facts,
    pub(super) pre: InstancePre<GuestState>,
    pub(super) memory: ModuleExport,
    pub(super) globals: Vec<ModuleExport>,
    pub(super) call: ModuleExport,
}

impl Module {
    pub(super) fn new(
        hash: ModuleHash,
        facts: Facts,
        module: &wasmtime::Module,
        linker: &wasmtime::Linker<GuestState>,
    ) -> Result<Module, ModuleError> {
        let pre = linker
            .instantiate_pre(module)
            .map_err(|error| ModuleError::ImportType {
                import: "of `wasi_snapshot_preview1`".to_owned(),
                expected: format!("{error:#}"),
            })?;
        let export = |name: &str| {
            let export = module.get_export_index(name);
            export.ok_or_else(|| ModuleError::Host(format!("the rewrite left out the export {name}")))
        };
        let globals = (0..facts.globals.len())
            .map(|n| export(&global_export(n)))
            .collect::<Result<_, _>>()?;
        Ok(Module {
            hash,
            pre,
            memory: export(MEMORY)?,
            globals,
            call: export(Entry::Call.name())?,
            facts,
        })
    }

    /// The hash of the bytes as uploaded.
    pub fn hash(&self) -> ModuleHash {
        self.hash
    }

    /// What its memories begin with.
    pub fn base(&self) -> &Arc<BaseImage> {
        &self.facts.base
    }

    /// Whether its `save` and `load` know the form that loses nothing.
    pub fn saves_exactly(&self) -> bool {
        self.facts.saves_exactly
    }

    /// The length in bytes that its memories begin with.
    pub fn memory_minimum(&self) -> u64 {
        self.facts.memory_minimum
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Module({})", self.hash)
    }
}
