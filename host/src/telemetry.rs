//! What the host counts.
//!
//! Metrics are Prometheus' (`GET /metrics`); a counter's name ends in `_total`, a unit is part of the name. What other parts
//! count themselves is read when somebody looks.
//!
//! **Not here:** requests by code and their times (`http`).

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

macro_rules! metrics {
    ($($(#[doc = $doc:literal])* $field:ident: $type:ident = $name:literal;)*) => {
        /// What the host counts.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $($(#[doc = $doc])* pub(crate) $field: $type,)*
        }

        impl Metrics {
            /// All metrics at zero, in a registry of their own.
            pub fn new() -> Metrics {
                let registry = Registry::new();
                $(
                    let $field = $type::new($name, concat!($($doc),*).trim()).expect("a metric's name is valid");
                    registry.register(Box::new($field.clone())).expect("a metric is registered once");
                )*
                Metrics { registry, $($field,)* }
            }
        }
    };
}

metrics! {
    /// Grains in memory.
    activations: IntGauge = "granary_activations";
    /// Grains that left memory because nobody called them or room was wanted.
    evictions: Evictions = "granary_evictions_total";
    /// Turns that ran, well or not.
    turns: IntCounter = "granary_turns_total";
    /// Turns that trapped or exceeded a limit.
    failed_turns: IntCounter = "granary_failed_turns_total";
    /// Grains that moved to another revision of their type.
    upgrades: IntCounter = "granary_upgrades_total";
    /// Moves to another revision that failed; the grain stays where it was.
    upgrade_failures: IntCounter = "granary_upgrade_failures_total";
    /// Restores that had to wait for room in the memory budget.
    budget_waits: IntCounter = "granary_memory_waits_total";
    /// Restores that found no room in the memory budget in time.
    budget_refusals: IntCounter = "granary_memory_refusals_total";
    /// Guests that were refused memory, or stopped, since the memory budget had no more.
    growth_refusals: IntCounter = "granary_memory_growth_refusals_total";
    /// Requests refused since too many, or too large ones, waited on this host.
    backlog_refusals: IntCounter = "granary_backlog_refusals_total";
    /// Times that a grain whose turns fail again and again was made to rest before it was rebuilt, while requests waited.
    backoffs: IntCounter = "granary_backoffs_total";
    /// Grains brought into memory, also after a turn that failed.
    loads: IntCounter = "granary_loads_total";
    /// Calls that would have closed a circle of waits.
    deadlocks: IntCounter = "granary_deadlocks_total";
}

/// Evictions by their reason.
#[derive(Clone, Debug)]
pub(crate) struct Evictions {
    by_reason: IntCounterVec,
    /// Nobody had called the grain for a while.
    pub(crate) idle: IntCounter,
    /// The memory budget was used up.
    pub(crate) budget: IntCounter,
    /// All slots for instances were taken.
    pub(crate) slots: IntCounter,
    /// The host stops.
    pub(crate) stop: IntCounter,
}

impl Evictions {
    fn new(name: &str, help: &str) -> Result<Evictions, prometheus::Error> {
        let by_reason = IntCounterVec::new(Opts::new(name, help), &["reason"])?;
        Ok(Evictions {
            idle: by_reason.with_label_values(&["idle"]),
            budget: by_reason.with_label_values(&["budget"]),
            slots: by_reason.with_label_values(&["slots"]),
            stop: by_reason.with_label_values(&["stop"]),
            by_reason,
        })
    }
}

impl Collector for Evictions {
    fn desc(&self) -> Vec<&Desc> {
        self.by_reason.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.by_reason.collect()
    }
}

impl Metrics {
    /// The registry, for others to add theirs and for `/metrics`.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Shows figures that another part counts, read whenever somebody looks.
    pub(crate) fn watch<T: 'static>(&self, figures: &[Figure<T>], look: impl Fn() -> T + Send + Sync + 'static) {
        let gauges = figures
            .iter()
            .map(|(name, help, read)| (IntGauge::new(*name, *help).expect("a metric's name is valid"), *read));
        let watch = Watch {
            look: Box::new(look),
            gauges: gauges.collect(),
        };
        self.registry
            .register(Box::new(watch))
            .expect("each part is watched once");
    }
}

/// A figure of a part's counts: its name, what it says, and where it is.
pub(crate) type Figure<T> = (&'static str, &'static str, fn(&T) -> u64);

struct Watch<T> {
    look: Box<dyn Fn() -> T + Send + Sync>,
    gauges: Vec<Gauge<T>>,
}

/// A gauge and where its value is.
type Gauge<T> = (IntGauge, fn(&T) -> u64);

impl<T> Collector for Watch<T> {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(|(gauge, _)| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counts = (self.look)();
        let show = |(gauge, read): &Gauge<T>| {
            gauge.set(i64::try_from(read(&counts)).unwrap_or(i64::MAX));
            gauge.collect()
        };
        self.gauges.iter().flat_map(show).collect()
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}
