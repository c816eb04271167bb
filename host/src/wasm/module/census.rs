//! What a module is made of: one pass over its sections, without judging them.
//!
//! **Not here:** what is allowed ([`check`](super::check)) and how it's changed ([`rewrite`](super::rewrite)).

use std::collections::HashMap;

use wasmparser::{
    CodeSectionReader, CompositeInnerType, ConstExpr, Data, ElementSectionReader, Encoding, Export, FuncType,
    FunctionBody, GlobalSectionReader, GlobalType, Import, ImportSectionReader, KnownCustom, MemorySectionReader,
    MemoryType, Name, NameSectionReader, Operator, Parser, Payload, TableSectionReader, TypeRef, TypeSectionReader,
};

use super::ModuleError;

/// A module taken apart.
#[derive(Default)]
pub(super) struct Census<'a> {
    /// Function types; `None` for types that aren't functions.
    pub(super) types: Vec<Option<FuncType>>,
    pub(super) imports: Vec<Import<'a>>,
    /// Type indices of all functions, imported ones first.
    pub(super) functions: Vec<u32>,
    /// How many of them are imported.
    pub(super) imported_functions: u32,
    pub(super) memories: Vec<MemoryType>,
    pub(super) table_entries: u64,
    /// Globals that the module defines, and their initial values. There are no imported ones in a module that passes.
    pub(super) globals: Vec<(GlobalType, ConstExpr<'a>)>,
    pub(super) exports: Vec<Export<'a>>,
    pub(super) start: Option<u32>,
    pub(super) data: Vec<Data<'a>>,
    pub(super) bodies: Vec<FunctionBody<'a>>,
    /// The sections that the rewrite copies.
    pub(super) sections: Sections<'a>,
    function_names: HashMap<u32, &'a str>,
    global_names: HashMap<u32, &'a str>,
}

/// Readers of the sections, to be encoded again.
#[derive(Default)]
pub(super) struct Sections<'a> {
    pub(super) types: Option<TypeSectionReader<'a>>,
    pub(super) imports: Option<ImportSectionReader<'a>>,
    pub(super) functions: Option<wasmparser::FunctionSectionReader<'a>>,
    pub(super) tables: Option<TableSectionReader<'a>>,
    pub(super) memories: Option<MemorySectionReader<'a>>,
    pub(super) globals: Option<GlobalSectionReader<'a>>,
    pub(super) exports: Option<wasmparser::ExportSectionReader<'a>>,
    pub(super) elements: Option<ElementSectionReader<'a>>,
    pub(super) code: Option<CodeSectionReader<'a>>,
    pub(super) names: Option<NameSectionReader<'a>>,
}

fn invalid(error: wasmparser::Error) -> ModuleError {
    ModuleError::Invalid(error.to_string())
}

impl<'a> Census<'a> {
    /// Reads all sections of a core module.
    pub(super) fn take(bytes: &'a [u8]) -> Result<Census<'a>, ModuleError> {
        let mut census = Census::default();
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(invalid)?;
            if let Payload::Version { encoding, .. } = payload {
                if encoding == Encoding::Component {
                    return Err(ModuleError::Component);
                }
                continue;
            }
            census.add(payload, bytes).map_err(invalid)?;
        }
        Ok(census)
    }

    fn add(&mut self, payload: Payload<'a>, bytes: &'a [u8]) -> wasmparser::Result<()> {
        match payload {
            Payload::TypeSection(reader) => {
                self.sections.types = Some(reader.clone());
                self.types = function_types(reader)?;
            }
            Payload::ImportSection(reader) => {
                self.sections.imports = Some(reader.clone());
                for import in reader.into_imports() {
                    let import = import?;
                    if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = import.ty {
                        self.functions.push(ty);
                        self.imported_functions += 1;
                    }
                    self.imports.push(import);
                }
            }
            Payload::FunctionSection(reader) => {
                self.sections.functions = Some(reader.clone());
                for ty in reader {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(reader) => {
                self.sections.tables = Some(reader.clone());
                for table in reader {
                    self.table_entries = self.table_entries.saturating_add(table?.ty.initial);
                }
            }
            Payload::MemorySection(reader) => {
                self.sections.memories = Some(reader.clone());
                self.memories = reader.into_iter().collect::<wasmparser::Result<_>>()?;
            }
            Payload::GlobalSection(reader) => {
                self.sections.globals = Some(reader.clone());
                for global in reader {
                    let global = global?;
                    self.globals.push((global.ty, global.init_expr));
                }
            }
            Payload::ExportSection(reader) => {
                self.sections.exports = Some(reader.clone());
                self.exports = reader.into_iter().collect::<wasmparser::Result<_>>()?;
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(reader) => self.sections.elements = Some(reader),
            Payload::DataSection(reader) => self.data = reader.into_iter().collect::<wasmparser::Result<_>>()?,
            Payload::CodeSectionStart { range, .. } => {
                // A section that says it is longer than the file: the parser finds out when it gets there.
                if let Some(section) = bytes.get(range.clone()) {
                    let reader = wasmparser::BinaryReader::new(section, range.start);
                    self.sections.code = Some(CodeSectionReader::new(reader)?);
                }
            }
            Payload::CodeSectionEntry(body) => self.bodies.push(body),
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    self.add_names(names);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Names only serve messages: a damaged name section is ignored from where it's damaged.
    fn add_names(&mut self, names: NameSectionReader<'a>) {
        self.sections.names = Some(names.clone());
        for name in names {
            match name {
                Ok(Name::Function(map)) => self
                    .function_names
                    .extend(map.into_iter().flatten().map(|n| (n.index, n.name))),
                Ok(Name::Global(map)) => self
                    .global_names
                    .extend(map.into_iter().flatten().map(|n| (n.index, n.name))),
                Ok(_) => {}
                Err(_) => {
                    self.sections.names = None;
                    return;
                }
            }
        }
    }

    /// A function's type.
    pub(super) fn function_type(&self, index: u32) -> Option<&FuncType> {
        let ty = *self.functions.get(index as usize)?;
        self.types.get(ty as usize)?.as_ref()
    }

    /// A function as a message names it.
    pub(super) fn function_name(&self, index: u32) -> String {
        match self.function_names.get(&index) {
            Some(name) => format!("`{name}`"),
            None => match self
                .exports
                .iter()
                .find(|e| e.kind == wasmparser::ExternalKind::Func && e.index == index)
            {
                Some(export) => format!("`{}`", export.name),
                None => format!("number {index}"),
            },
        }
    }

    /// All functions' names, in no order.
    pub(super) fn function_names(&self) -> impl Iterator<Item = (u32, &'a str)> {
        self.function_names.iter().map(|(index, name)| (*index, *name))
    }

    /// The first function whose name in the name section satisfies `test`.
    pub(super) fn find_function_name(&self, test: impl Fn(&str) -> bool) -> Option<&'a str> {
        self.function_names.values().copied().filter(|name| test(name)).min()
    }

    /// A global as a message names it.
    pub(super) fn global_name(&self, index: u32) -> String {
        match self.global_names.get(&index) {
            Some(name) => format!("`{name}`"),
            None => format!("number {index}"),
        }
    }

    /// The exported function of this name.
    pub(super) fn exported_function(&self, name: &str) -> Option<u32> {
        self.exported(wasmparser::ExternalKind::Func, name)
    }

    /// The global that's exported, or called in the name section, `name`.
    pub(super) fn global(&self, name: &str) -> Option<u32> {
        self.exported(wasmparser::ExternalKind::Global, name).or_else(|| {
            self.global_names
                .iter()
                .find(|(_, known)| **known == name)
                .map(|(index, _)| *index)
        })
    }

    /// The i32 that a global begins with.
    pub(super) fn initial_i32(&self, global: u32) -> Option<u32> {
        const_i32(&self.globals.get(global as usize)?.1)
    }

    fn exported(&self, kind: wasmparser::ExternalKind, name: &str) -> Option<u32> {
        self.exports
            .iter()
            .find(|export| export.kind == kind && export.name == name)
            .map(|export| export.index)
    }
}

/// The types of a section, those that aren't functions as `None`.
fn function_types(reader: TypeSectionReader<'_>) -> wasmparser::Result<Vec<Option<FuncType>>> {
    let mut types = Vec::new();
    for group in reader {
        for ty in group?.types() {
            types.push(match &ty.composite_type.inner {
                CompositeInnerType::Func(ty) => Some(ty.clone()),
                _ => None,
            });
        }
    }
    Ok(types)
}

/// The value of an expression that is one `i32.const`.
pub(super) fn const_i32(expr: &ConstExpr<'_>) -> Option<u32> {
    let mut operators = expr.get_operators_reader();
    let Ok(Operator::I32Const { value }) = operators.read() else {
        return None;
    };
    matches!(operators.read(), Ok(Operator::End)).then_some(value as u32)
}
