//! Step 4 of a call's path: the grains that are in memory here.
//!
//! The [`Catalog`] finds or makes the one [`Driver`] of a grain. A driver holds a grain's machine (`granary_core::activation`)
//! and its instance, and does what the machine says; while there are turns to run, one task runs them. An idle grain has no task.
//!
//! **Not here:** what happens to a request (the machine), HTTP, where the bytes go.

mod agreement;
mod answer;
mod backlog;
mod budget;
mod call;
mod catalog;
mod chase;
mod departure;
mod digest;
mod driver;
mod eviction;
mod figures;
mod growth;
mod keeper;
mod kept;
mod moving;
mod outside;
mod parcel;
mod parts;
mod peers;
mod reach;
mod records;
mod release;
mod residence;
mod restore;
mod room;
mod stale;
mod stall;
mod sweep;
mod translate;
mod vacancies;
mod waiter;

pub use crate::modules::{UpgradeFailure, UpgradeStatus};
pub(crate) use backlog::{Backlog, BacklogLimits};
pub(crate) use budget::{Budget, BudgetLimits, Meter, default_budget, fix_threshold};
pub(crate) use catalog::Catalog;
pub(crate) use driver::Driver;
pub(crate) use growth::Growing;
pub(crate) use keeper::Keeper;
pub(crate) use outside::OutsideRequest;
pub(crate) use parcel::Parcel;
pub(crate) use parts::Parts;
pub(crate) use reach::refusal;
pub use records::{LogFilter, LogRecord};
pub(crate) use records::{Records, RecordsPage};
pub(crate) use release::Release;
pub(crate) use stale::StaleRead;
pub(crate) use stall::Stall;
pub(crate) use sweep::{Division, Sweeps};
pub(crate) use waiter::Waiter;
