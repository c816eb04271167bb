//! What is measured, a case each, and what each has to reach.
//!
//! A rate is a ratio to the limit's (`reference`) in the same run, the two alternating, so that a machine that is slower now
//! than then changes nothing. Times are absolute and goals for a quiet machine.

mod compared;
mod crash;
mod growth;
mod presence;
mod resident;
mod state;
mod throughput;
mod turn;

use crate::Outcome;
use crate::table::Row;

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// A tenth of the time and of the grains, to see that it works.
    pub(crate) is_quick: bool,
}

impl Effort {
    fn rounds(self) -> usize {
        if self.is_quick { 1 } else { 3 }
    }

    /// Of one of a round's runs.
    fn seconds(self) -> f64 {
        if self.is_quick { 0.5 } else { 2.0 }
    }

    fn of(self, count: usize) -> usize {
        if self.is_quick { count / 10 } else { count }
    }
}

/// What a case found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) rows: Vec<Row>,
    /// What belongs to the figures and has no row, a line each.
    pub(crate) notes: Vec<String>,
}

/// A name for `--only`, and how it's measured.
pub(crate) type Case = (&'static str, fn(Effort) -> Outcome<Found>);

/// All cases, in the order in which they are measured.
pub(crate) const ALL: &[Case] = &[
    ("w1", throughput::committed),
    ("volatile", throughput::volatile),
    ("w2", throughput::hot_key),
    ("w3", throughput::first_touch),
    ("latency", throughput::one_connection),
    ("w4", resident::measure),
    ("w5", crash::measure),
    ("turn", turn::measure),
    ("state", state::measure),
    ("presence", presence::measure),
    ("growth", growth::measure),
];
