//! The grains and tables of a run.

use granary_core::id::{GrainId, GrainKey, GrainName, GrainType};
use granary_core::placement::Policy;

/// Grains with a state.
const STORED: u64 = 12;
/// Grains whose states are never stored.
const VOLATILE: u64 = 3;
const TABLES: u64 = 2;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Stored,
    Volatile,
    Table,
}

/// One of them.
pub(super) fn name(number: u64) -> GrainName {
    let kind = match kind_of(number) {
        Kind::Stored => "stored",
        Kind::Volatile => "volatile",
        Kind::Table => "table",
    };
    let key = GrainKey::new(&number.to_string()).expect("a number is a key");
    GrainName::new(GrainType::new(kind).expect("a name"), key)
}

fn kind_of(number: u64) -> Kind {
    match number {
        0..STORED => Kind::Stored,
        STORED.. if number < STORED + VOLATILE => Kind::Volatile,
        _ => Kind::Table,
    }
}

/// All of a run, with their names.
pub(super) struct Grains(Vec<(GrainId, GrainName, Kind)>);

impl Grains {
    pub(super) fn new() -> Grains {
        let numbers = 0..STORED + VOLATILE + TABLES;
        let grains = numbers.map(|number| (name(number).id(), name(number), kind_of(number)));
        Grains(grains.collect())
    }

    /// Those that are called by routing: all but the tables.
    pub(super) fn called(&self) -> Vec<GrainId> {
        let called = self.0.iter().filter(|(_, _, kind)| *kind != Kind::Table);
        called.map(|(grain, ..)| *grain).collect()
    }

    pub(super) fn tables(&self) -> Vec<GrainId> {
        let tables = self.0.iter().filter(|(_, _, kind)| *kind == Kind::Table);
        tables.map(|(grain, ..)| *grain).collect()
    }

    pub(super) fn name(&self, grain: GrainId) -> &GrainName {
        &self.find(grain).1
    }

    pub(super) fn kind(&self, grain: GrainId) -> Kind {
        self.find(grain).2
    }

    fn find(&self, grain: GrainId) -> &(GrainId, GrainName, Kind) {
        let found = self.0.iter().find(|(id, ..)| *id == grain);
        found.expect("a grain of this run")
    }
}

/// How a grain's type wants it placed.
pub(super) fn policy(grain: GrainId) -> Policy {
    let all = [Policy::Primary, Policy::Local, Policy::Random, Policy::Balanced];
    all[usize::from(grain.0[15]) % all.len()]
}
