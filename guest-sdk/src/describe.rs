//! A grain type's description: one JSON document, asked for once at upload (`docs/describe.md`).
//!
//! It's made without a clock, random numbers or any other import: `describe` runs with all of them trapping. That's
//! why no `HashMap` with its random seed may be used here.

use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde::Serialize;

use crate::{CalleeError, Durability, Grain, Placement};

/// A grain type: what there is to call and what a reply promises.
#[derive(Debug, Clone, Serialize)]
pub struct Description {
    /// The grain type's name.
    pub name: &'static str,
    /// The doc comment of the type or its `#[grain]` block.
    pub doc: &'static str,
    /// What a reply promises.
    pub durability: Durability,
    /// Where its grains are activated.
    pub placement: Placement,
    /// The state's version.
    pub version: u32,
    /// The methods in the order of the source.
    pub methods: Vec<Method>,
}

/// Whether a method may change the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It commits nothing: `#[read]`.
    Read,
    /// What it changes is committed.
    Write,
}

/// One method.
#[derive(Debug, Clone, Serialize)]
pub struct Method {
    /// The method's name.
    pub name: &'static str,
    /// Its doc comment.
    pub doc: &'static str,
    /// Whether it may change the state.
    pub kind: Kind,
    /// Its parameters by position.
    pub params: Vec<Param>,
    /// The schema of its value.
    pub result: Schema,
    /// The schema of its own error, if it has one.
    pub error: Option<Schema>,
}

/// One parameter.
#[derive(Debug, Clone, Serialize)]
pub struct Param {
    /// The parameter's name.
    pub name: &'static str,
    /// The schema of its value.
    pub schema: Schema,
    /// False for an `Option`: absent is `None`.
    pub required: bool,
}

impl Description {
    /// A description of `G` without methods. `impl_doc` is the doc comment of the `#[grain]` block and wins over
    /// `type_doc`.
    #[doc(hidden)]
    pub fn new<G: Grain>(impl_doc: &'static str, type_doc: &'static str) -> Self {
        Self {
            name: G::NAME,
            doc: if impl_doc.is_empty() { type_doc } else { impl_doc },
            durability: G::DURABILITY,
            placement: G::PLACEMENT,
            version: G::VERSION,
            methods: Vec::new(),
        }
    }

    /// The document.
    ///
    /// # Panics
    /// Never: names, texts and schemas all have a JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a description is made of texts and schemas only")
    }
}

#[doc(hidden)]
impl Method {
    pub fn new(name: &'static str, doc: &'static str, kind: Kind, result: Schema) -> Self {
        Self {
            name,
            doc,
            kind,
            params: Vec::new(),
            result,
            error: None,
        }
    }

    pub fn read(name: &'static str, doc: &'static str, result: Schema) -> Self {
        Self::new(name, doc, Kind::Read, result)
    }

    pub fn write(name: &'static str, doc: &'static str, result: Schema) -> Self {
        Self::new(name, doc, Kind::Write, result)
    }

    pub fn param(mut self, name: &'static str, schema: Schema, required: bool) -> Self {
        self.params.push(Param { name, schema, required });
        self
    }

    pub fn error<E: CalleeError>(mut self) -> Self {
        self.error = E::schema();
        self
    }
}

/// The schema of a value that a grain writes.
pub(crate) fn written<T: JsonSchema>() -> Schema {
    schema::<T>(Contract::Serialize)
}

/// A schema that stands alone: subschemas are written in place (a recursive type keeps its `$defs`), and only a type
/// with a name of its own has a title.
pub(crate) fn schema<T: JsonSchema>(contract: Contract) -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.contract = contract;
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    if T::inline_schema() {
        schema.remove("title");
    }
    schema
}
