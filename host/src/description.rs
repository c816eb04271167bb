//! What a module says of itself: methods, docs, JSON Schemas. Read once at upload, then used to check every call.
//!
//! The document's form is in `docs/describe.md`.

mod bounds;
mod form;

use std::collections::BTreeMap;
use std::sync::Arc;

use granary_core::api::Durability;
use granary_core::placement::Policy;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A grain type's description.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// The type's name as the guest gives it; a deploy may choose another.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub doc: String,
    /// `committed`, `relaxed` or `volatile`.
    pub durability: String,
    /// On which of the hosts that keep its copies a grain is activated: `primary`, `prefer-local`, `random` or `balanced`.
    #[serde(default = "usual_placement")]
    pub placement: String,
    /// The version of the state's shape, for upgrades.
    #[serde(default = "first_version")]
    pub version: u32,
    /// The methods in the guest's order.
    pub methods: Vec<Method>,
}

/// One method.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Method {
    /// Its name: the last part of a call's path.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub doc: String,
    /// Whether its turns commit.
    pub kind: MethodKind,
    /// Its parameters in order.
    #[serde(default)]
    pub params: Vec<Param>,
    /// JSON Schema of its value.
    #[serde(default)]
    pub result: Value,
    /// JSON Schema of the guest's own error, if it has one.
    #[serde(default)]
    pub error: Option<Value>,
}

/// Whether a method's turns commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MethodKind {
    /// `#[read]`: commits nothing, may be called by GET.
    Read,
    /// Commits what it changes.
    Write,
}

/// One parameter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Param {
    /// Its name: the key in a body that is an object, and in a query.
    pub name: String,
    /// JSON Schema.
    #[serde(default)]
    pub schema: Value,
    /// Whether it must be given; otherwise it is null when absent.
    #[serde(default = "yes")]
    pub required: bool,
}

fn usual_placement() -> String {
    Policy::default().as_str().to_owned()
}

fn first_version() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// A description that has been checked, with its methods by name.
#[derive(Clone, Debug)]
pub struct Contract {
    /// The document.
    pub description: Description,
    /// What the type promises.
    pub durability: Durability,
    /// Where its grains are activated.
    pub placement: Policy,
    by_name: BTreeMap<Arc<str>, usize>,
}

impl Contract {
    /// Reads and checks the document of a module that is deployed now. The error says what would have been right.
    pub fn read_new(document: &[u8]) -> Result<Contract, String> {
        let value: Value =
            serde_json::from_slice(document).map_err(|error| format!("`describe` gave no JSON: {error}"))?;
        form::check(&value)?;
        Contract::read(document)
    }

    /// Reads a guest's document, also one that was deployed when less was checked. What it says is within bounds.
    pub fn read(document: &[u8]) -> Result<Contract, String> {
        let description: Description =
            serde_json::from_slice(document).map_err(|error| format!("`describe` gave no valid document: {error}"))?;
        bounds::check(&description)?;
        Contract::of(description)
    }

    /// Of a document whose bounds were checked.
    pub(crate) fn of(description: Description) -> Result<Contract, String> {
        let durability = Durability::from_word(&description.durability).ok_or_else(|| {
            format!(
                "durability is `{}`: it is committed, relaxed or volatile",
                description.durability
            )
        })?;
        let placement = Policy::from_word(&description.placement).ok_or_else(|| {
            format!(
                "placement is `{}`: it is primary, prefer-local, random or balanced",
                description.placement
            )
        })?;
        let mut by_name = BTreeMap::new();
        for (index, method) in description.methods.iter().enumerate() {
            if by_name.insert(method.name.as_str().into(), index).is_some() {
                return Err(format!("`describe` names the method `{}` twice", method.name));
            }
        }
        Ok(Contract {
            description,
            durability,
            placement,
            by_name,
        })
    }

    /// A method by name, with its name to keep.
    pub fn method(&self, name: &str) -> Option<(&Arc<str>, &Method)> {
        self.by_name
            .get_key_value(name)
            .map(|(name, &index)| (name, &self.description.methods[index]))
    }
}
