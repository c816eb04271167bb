//! What `/metrics` shows of the grains in memory and of what they take: looked up when somebody asks.

use std::sync::Arc;

use super::Catalog;
use super::budget::BudgetView;
use crate::snapshot::Tracking;
use crate::telemetry::Figure;

const MEMORY: [Figure<BudgetView>; 6] = [
    ("granary_memory_budget_bytes", "Bytes that the host may take.", |view| {
        view.limit
    }),
    (
        "granary_memory_private_bytes",
        "Bytes of heap, stacks and kept copies.",
        |view| view.taken.private,
    ),
    ("granary_memory_grain_bytes", "Bytes of grains' memories.", |view| {
        view.taken.memories
    }),
    ("granary_memory_table_bytes", "Bytes of page tables.", |view| {
        view.taken.tables
    }),
    (
        "granary_memory_charged_bytes",
        "Bytes handed out that no measurement has seen yet.",
        |view| view.charged,
    ),
    (
        "granary_memory_waiting",
        "Grains and guests that wait for room in the memory budget.",
        |view| view.waiting as u64,
    ),
];

/// Requests and bytes.
const BACKLOG: [Figure<(u64, u64)>; 2] = [
    (
        "granary_backlog_requests",
        "Requests that wait or are worked on, over all grains.",
        |waiting| waiting.0,
    ),
    ("granary_backlog_bytes", "Bytes of those requests.", |waiting| waiting.1),
];

/// What activations share.
struct Shared {
    slots_taken: usize,
    slots: usize,
    kept_pages: usize,
    wait_edges: usize,
    unreleased: usize,
    dropped_records: u64,
    kept_records: (usize, usize),
}

const SHARED: [Figure<Shared>; 8] = [
    ("granary_slots_taken", "Slots for memories that are taken.", |shared| {
        shared.slots_taken as u64
    }),
    ("granary_slots", "Slots for memories.", |shared| shared.slots as u64),
    (
        "granary_kept_pages",
        "Pages kept as copies to find what turns change.",
        |shared| shared.kept_pages as u64,
    ),
    ("granary_wait_edges", "Calls that turns wait for.", |shared| {
        shared.wait_edges as u64
    }),
    (
        "granary_unreleased_grains",
        "Grains whose replies wait for the disk.",
        |shared| shared.unreleased as u64,
    ),
    (
        "granary_guest_log_records_dropped_total",
        "Guests' log records dropped, since all guests together wrote too many.",
        |shared| shared.dropped_records,
    ),
    (
        "granary_guest_log_records",
        "Guests' log records kept in memory.",
        |shared| shared.kept_records.0 as u64,
    ),
    ("granary_guest_log_bytes", "Bytes of those records.", |shared| {
        shared.kept_records.1 as u64
    }),
];

impl Catalog {
    /// Has the metrics show what grains take.
    pub(crate) fn show_figures(self: &Arc<Self>) {
        let parts = &self.parts;
        let (budget, backlog) = (parts.budget.clone(), parts.backlog.clone());
        parts.metrics.watch(&MEMORY, move || budget.view());
        parts.metrics.watch(&BACKLOG, move || backlog.waiting());
        let (engine, slab, tracking) = (
            parts.engine.clone(),
            parts.engine.slab().clone(),
            parts.tracking.clone(),
        );
        let (waits, release) = (parts.waits.clone(), parts.release.clone());
        let records = parts.records.clone();
        parts.metrics.watch(&SHARED, move || Shared {
            slots_taken: slab.taken(),
            slots: slab.slots(),
            kept_pages: Tracking::kept_pages(&tracking),
            wait_edges: waits.lock().expect("no panic under this lock").len(),
            unreleased: release.waiting(),
            dropped_records: engine.dropped_log_records(),
            kept_records: records.kept(),
        });
    }
}
