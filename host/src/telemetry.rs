//! What the host counts.
//!
//! Metrics are Prometheus' (`GET /metrics`); a counter's name ends in `_total`, a unit is part of the name. What other parts
//! count themselves is read when somebody looks.
//!
//! **Not here:** requests by code and their times (`http`).

use std::sync::Mutex;

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
    /// Turns that had to wait for room in the commit log.
    log_stalls: IntCounter = "granary_log_stalls_total";
    /// Times that a grain whose turns fail again and again was made to rest before it was rebuilt, while requests waited.
    backoffs: IntCounter = "granary_backoffs_total";
    /// Grains brought into memory, also after a turn that failed.
    loads: IntCounter = "granary_loads_total";
    /// Calls that would have closed a circle of waits.
    deadlocks: IntCounter = "granary_deadlocks_total";
    /// Calls that reached their grain on this host in a cluster, by how often they were passed on.
    arrivals: Arrivals = "granary_cluster_arrivals_total";
    /// Calls that this host sent on their way again, since their grain had moved or its host was gone.
    resent: IntCounter = "granary_cluster_resent_total";
}

/// Calls by how often they were passed on until they found their grain.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    by_hops: IntCounterVec,
    each: [IntCounter; 4],
}

impl Arrivals {
    fn new(name: &str, help: &str) -> Result<Arrivals, prometheus::Error> {
        let by_hops = IntCounterVec::new(Opts::new(name, help), &["hops"])?;
        let each = ["0", "1", "2", "3"].map(|hops| by_hops.with_label_values(&[hops]));
        Ok(Arrivals { by_hops, each })
    }

    /// One that was passed on so often; three times is the most.
    pub(crate) fn count(&self, hops: u8) {
        self.each[usize::from(hops).min(self.each.len() - 1)].inc();
    }
}

impl Collector for Arrivals {
    fn desc(&self) -> Vec<&Desc> {
        self.by_hops.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.by_hops.collect()
    }
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
        let shown = figures.iter().map(|(name, help, read)| (Shown::new(name, help), *read));
        let watch = Watch {
            look: Box::new(look),
            shown: shown.collect(),
            scraping: Mutex::new(()),
        };
        self.registry
            .register(Box::new(watch))
            .expect("each part is watched once");
    }
}

/// A figure of a part's counts: its name, what it says, and where it is.
pub(crate) type Figure<T> = (&'static str, &'static str, Look<T>);

/// Where a figure's value is among a part's counts.
type Look<T> = fn(&T) -> u64;

struct Watch<T> {
    look: Box<dyn Fn() -> T + Send + Sync>,
    /// With where each value is.
    shown: Vec<(Shown, Look<T>)>,
    /// One scrape at a time, as a counter takes differences.
    scraping: Mutex<()>,
}

/// How a figure is shown.
enum Shown {
    Counter(IntCounter),
    Gauge(IntGauge),
}

impl Shown {
    fn new(name: &str, help: &str) -> Shown {
        const VALID: &str = "a metric's name is valid";
        if name.ends_with("_total") {
            Shown::Counter(IntCounter::new(name, help).expect(VALID))
        } else {
            Shown::Gauge(IntGauge::new(name, help).expect(VALID))
        }
    }

    fn collector(&self) -> &dyn Collector {
        match self {
            Shown::Counter(counter) => counter,
            Shown::Gauge(gauge) => gauge,
        }
    }

    fn set(&self, value: u64) {
        match self {
            Shown::Counter(counter) => counter.inc_by(value.saturating_sub(counter.get())),
            Shown::Gauge(gauge) => gauge.set(i64::try_from(value).unwrap_or(i64::MAX)),
        }
    }
}

const UNPOISONED: &str = "no panic while figures are shown";

impl<T> Collector for Watch<T> {
    fn desc(&self) -> Vec<&Desc> {
        self.shown
            .iter()
            .flat_map(|(shown, _)| shown.collector().desc())
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _one = self.scraping.lock().expect(UNPOISONED);
        let counts = (self.look)();
        let show = |(shown, read): &(Shown, fn(&T) -> u64)| {
            shown.set(read(&counts));
            shown.collector().collect()
        };
        self.shown.iter().flat_map(show).collect()
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_total_is_a_counter_and_the_rest_are_gauges() {
        let metrics = Metrics::new();
        let figures: [Figure<u64>; 2] = [("x_total", "X.", |count| *count), ("y", "Y.", |count| *count)];
        let looks = std::sync::atomic::AtomicU64::new(0);
        metrics.watch(&figures, move || {
            looks.fetch_add(5, std::sync::atomic::Ordering::Relaxed) + 5
        });
        for scrape in 1..=3 {
            let families = metrics.registry().gather();
            let family = |name| families.iter().find(|family| family.name() == name).unwrap();
            let counted = family("x_total").get_metric()[0].get_counter().get_value();
            let gauged = family("y").get_metric()[0].get_gauge().get_value();
            assert_eq!((counted, gauged), (f64::from(scrape * 5), f64::from(scrape * 5)));
        }
    }
}
