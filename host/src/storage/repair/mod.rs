//! What is done about damage: noticing it before anything is served, rebuilding what can be rebuilt without a loss, and, when an
//! operator says so, giving up what can't.

pub(crate) mod ballast;
pub(crate) mod copied_heads;
pub(crate) mod copy;
pub(crate) mod opening;
pub(crate) mod panics;
pub(crate) mod quarantine;
