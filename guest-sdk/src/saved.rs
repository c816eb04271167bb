//! A state that another revision saved, on its way into this one: `#[grain(version = N, migrate = ...)]`.
//!
//! Saved states describe themselves, be they in the SDK's own form or JSON: fields go by name, and what a type doesn't know it
//! passes over.
//! Nothing here decides when a grain moves or what becomes of one that can't: that's the host's.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::{Fault, FaultKind, Grain, MethodError, form};

/// A state as another revision saved it.
///
/// A migration takes one where it wants to choose by the version itself, or to know the grain's key:
///
/// ```
/// use granary_sdk::prelude::*;
///
/// #[derive(Serialize, Deserialize, Default)]
/// pub struct Counter {
///     total: i64,
///     adds: u64,
/// }
///
/// /// The counter as it was up to version 2.
/// #[derive(Deserialize)]
/// struct OldCounter {
///     value: i64,
/// }
///
/// #[grain(version = 3, migrate = Self::migrate)]
/// impl Counter {
///     fn migrate(saved: SavedState) -> Result<Self, StateError> {
///         match saved.version() {
///             1 | 2 => Ok(Self { total: saved.decode::<OldCounter>()?.value, adds: 0 }),
///             _ => Err(saved.unknown()),
///         }
///     }
///
///     #[read]
///     pub fn get(&self) -> i64 {
///         self.total
///     }
/// }
/// # fn main() {
/// let counter: Counter = granary_sdk::testing::load(2, r#"{"value": 5}"#).unwrap();
/// assert_eq!(counter.get(), 5);
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedState {
    version: u32,
    key: String,
    bytes: Vec<u8>,
}

impl SavedState {
    pub(crate) fn new(version: u32, key: &str, bytes: Vec<u8>) -> Self {
        Self {
            version,
            key: key.to_owned(),
            bytes,
        }
    }

    /// The version of the type that saved it.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The grain's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The state as it was saved: UTF-8 JSON, or the SDK's own form (docs/states.md), which begins with the byte 255.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The state read as the type that it had. Fields that `T` doesn't know are passed over.
    ///
    /// # Errors
    /// When it's no `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, StateError> {
        self.read().map_err(|reason| StateError {
            version: self.version,
            reason: Some(reason),
        })
    }

    /// As [`SavedState::decode`], with no more than the reason.
    fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        if form::is_form(&self.bytes) {
            form::read(&self.bytes).map_err(|error| error.to_string())
        } else {
            serde_json::from_slice(&self.bytes).map_err(|error| error.to_string())
        }
    }

    /// What a migration returns for a version that it doesn't know.
    pub fn unknown(&self) -> StateError {
        StateError {
            version: self.version,
            reason: None,
        }
    }
}

impl Drop for SavedState {
    /// Memory that is free again is still the grain's, and would be stored with its new state. Zeros take no room there.
    fn drop(&mut self) {
        self.bytes.fill(0);
        std::hint::black_box(&self.bytes);
    }
}

/// A saved state that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateError {
    version: u32,
    /// None: nobody knows the version.
    reason: Option<String>,
}

impl fmt::Display for StateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version;
        match &self.reason {
            None => write!(formatter, "nothing here reads a state of version {version}"),
            Some(reason) => write!(formatter, "the state of version {version} can't be read: {reason}"),
        }
    }
}

impl std::error::Error for StateError {}

impl From<StateError> for String {
    fn from(error: StateError) -> Self {
        error.to_string()
    }
}

impl MethodError for StateError {
    type Callee = String;

    fn fault(&self) -> Fault {
        Fault::state(self.to_string())
    }
}

/// What a migration may take: the type that an older version had, or a [`SavedState`].
///
/// ```compile_fail,E0277
/// use granary_sdk::prelude::*;
/// #[derive(Default, Serialize, Deserialize)]
/// pub struct Counter { total: i64 }
/// pub struct NotSaved { value: i64 }
/// #[grain(version = 2, migrate = from_v1)]
/// impl Counter { #[read] pub fn get(&self) -> i64 { self.total } }
/// fn from_v1(old: NotSaved) -> Counter { Counter { total: old.value } }
/// ```
#[diagnostic::on_unimplemented(
    message = "a migration can't take a `{Self}`",
    label = "a migration takes the type that the older version had, with `Deserialize`, or a `SavedState`"
)]
#[doc(hidden)]
pub trait FromSaved: Sized {
    /// Whether a migration that takes this one has to be told which version it is for.
    const IS_ONE_VERSION: bool;

    fn from_saved(saved: SavedState) -> Result<Self, StateError>;
}

impl<T: DeserializeOwned> FromSaved for T {
    const IS_ONE_VERSION: bool = true;

    fn from_saved(saved: SavedState) -> Result<Self, StateError> {
        saved.decode()
    }
}

impl FromSaved for SavedState {
    const IS_ONE_VERSION: bool = false;

    fn from_saved(saved: SavedState) -> Result<Self, StateError> {
        Ok(saved)
    }
}

/// What a migration may return: the grain's new state, or a `Result` with it.
///
/// ```compile_fail,E0277
/// use granary_sdk::prelude::*;
/// #[derive(Default, Serialize, Deserialize)]
/// pub struct Counter { total: i64 }
/// #[grain(version = 2, migrate = from_v1)]
/// impl Counter { #[read] pub fn get(&self) -> i64 { self.total } }
/// fn from_v1(old: i64) -> Option<Counter> { Some(Counter { total: old }) }
/// ```
#[diagnostic::on_unimplemented(
    message = "a migration of `{G}` can't return a `{Self}`",
    label = "a migration returns `{G}`, or `Result<{G}, E>` with an `E: GrainError`, a `StateError`, a `String`"
)]
#[doc(hidden)]
pub trait Migrated<G> {
    fn migrated(self) -> Result<G, Fault>;
}

impl<G: Grain> Migrated<G> for G {
    fn migrated(self) -> Result<G, Fault> {
        Ok(self)
    }
}

impl<G: Grain, E: MethodError> Migrated<G> for Result<G, E> {
    fn migrated(self) -> Result<G, Fault> {
        self.map_err(|error| error.fault())
    }
}

/// `migrate(1 => path)`: a migration from one version.
#[doc(hidden)]
pub fn migrate_one<G: Grain, A: FromSaved, R: Migrated<G>>(
    migration: impl FnOnce(A) -> R,
    saved: SavedState,
) -> Result<G, Fault> {
    let old = A::from_saved(saved).map_err(|error| error.fault())?;
    migration(old).migrated()
}

/// `migrate = path`: a migration from every older version if it takes a [`SavedState`], else from the version before.
#[doc(hidden)]
pub fn migrate_older<G: Grain, A: FromSaved, R: Migrated<G>>(
    migration: impl FnOnce(A) -> R,
    saved: SavedState,
) -> Result<G, Fault> {
    if saved.version > G::VERSION {
        return read_as_it_is(&saved);
    }
    if A::IS_ONE_VERSION && saved.version + 1 != G::VERSION {
        return Err(no_migration::<G>(&saved, &[G::VERSION.saturating_sub(1)]));
    }
    migrate_one(migration, saved)
}

/// No migration is named for this version. A newer one is read as far as this type understands it; an older one that
/// others are named for would be read by chance.
#[doc(hidden)]
pub fn migrate_other<G: Grain>(saved: &SavedState, known: &[u32]) -> Result<G, Fault> {
    if saved.version > G::VERSION {
        read_as_it_is(saved)
    } else {
        Err(no_migration::<G>(saved, known))
    }
}

/// Reads a state by its fields' names, whatever its version is.
pub(crate) fn read_as_it_is<G: Grain>(saved: &SavedState) -> Result<G, Fault> {
    saved.read().map_err(|error| {
        let (name, own, version) = (G::NAME, G::VERSION, saved.version);
        let advice = match own.cmp(&version) {
            std::cmp::Ordering::Less => {
                "this revision is older than the one that saved it. Deploy one that knows how to go back: \
                 `#[serde(alias = \"...\")]` for a renamed field, or `migrate(...)` with that version"
            }
            std::cmp::Ordering::Equal => {
                "the shape of the type has changed: `#[serde(default)]` on new fields lets older states pass; \
                 `#[grain(version = ..., migrate = ...)]` is for other changes"
            }
            std::cmp::Ordering::Greater => {
                "`#[serde(default)]` on new fields lets older states pass; `migrate = ...` is for other changes"
            }
        };
        Fault::state(format!(
            "a state of version {version} is none that `{name}` (state version {own}) can read: {error}; {advice}"
        ))
    })
}

fn no_migration<G: Grain>(saved: &SavedState, known: &[u32]) -> Fault {
    let known: Vec<String> = known.iter().map(u32::to_string).collect();
    Fault::state(format!(
        "`{}` (state version {}) has no migration from version {}, only from {}: add it to \
         `#[grain(version = {}, migrate({} => ...))]`",
        G::NAME,
        G::VERSION,
        saved.version,
        known.join(", "),
        G::VERSION,
        saved.version,
    ))
}

impl Fault {
    /// A state that can't be taken over.
    pub(crate) fn state(message: String) -> Self {
        Self {
            kind: FaultKind::GuestError,
            message,
            error: None,
            status: None,
            code: None,
        }
    }
}
