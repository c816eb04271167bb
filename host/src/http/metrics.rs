//! What the HTTP side counts.

use std::time::Duration;

use granary_core::api::Code;
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// The HTTP side's metrics, and the registry that `/metrics` shows.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) registry: Registry,
    ok: IntCounter,
    by_code: Vec<IntCounter>,
    seconds: Histogram,
    pub(super) in_flight: IntGauge,
    pub(super) connections: IntGauge,
    pub(super) connections_refused: IntCounter,
    pub(super) accept_errors: IntCounter,
    pub(super) slow_readers: IntCounter,
    pub(super) calls_refused: IntCounter,
    pub(super) surplus_refused: IntCounter,
    pub(super) memory_bytes: IntGauge,
    pub(super) memory_refused: IntCounter,
}

/// 50 us to 60 s.
const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
    60.0,
];

impl Metrics {
    /// Registers them. Fails when the registry has metrics of these names already.
    pub(super) fn new(registry: Registry) -> Result<Metrics, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new(
                "granary_http_requests_total",
                "Requests answered, by code of the problem or `ok`",
            ),
            &["code"],
        )?;
        let seconds = Histogram::with_opts(
            HistogramOpts::new(
                "granary_http_request_seconds",
                "Time from a request's headers to its reply",
            )
            .buckets(SECONDS.to_vec()),
        )?;
        let gauge = |name: &str, help: &str| IntGauge::new(name, help).and_then(|gauge| registered(&registry, gauge));
        let counter =
            |name: &str, help: &str| IntCounter::new(name, help).and_then(|count| registered(&registry, count));
        let in_flight = gauge("granary_http_requests_in_flight", "Requests being worked on")?;
        let connections = gauge("granary_http_connections", "Open connections")?;
        let connections_refused = counter(
            "granary_http_connections_refused_total",
            "Connections refused at the limit of open ones, of all or of one address",
        )?;
        let accept_errors = counter(
            "granary_http_accept_errors_total",
            "Connections that the system had no room for",
        )?;
        let slow_readers = counter(
            "granary_http_slow_readers_total",
            "Connections closed since replies were not read",
        )?;
        let calls_refused = counter(
            "granary_http_calls_refused_total",
            "Calls refused at the limit of waiting ones",
        )?;
        let surplus_refused = counter(
            "granary_http_surplus_refused_total",
            "Calls refused since more came in than the host could do",
        )?;
        let memory_bytes = gauge("granary_http_memory_bytes", "Bytes of large bodies and replies")?;
        let memory_refused = counter(
            "granary_http_memory_refused_total",
            "Bodies and replies that found no room in memory",
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Metrics {
            ok: requests.with_label_values(&["ok"]),
            by_code: Code::ALL
                .iter()
                .map(|code| requests.with_label_values(&[code.as_str()]))
                .collect(),
            registry,
            seconds,
            in_flight,
            connections,
            connections_refused,
            accept_errors,
            slow_readers,
            calls_refused,
            surplus_refused,
            memory_bytes,
            memory_refused,
        })
    }

    /// Counts a request that was refused before it was one.
    pub(super) fn refused(&self, code: Code) {
        self.by_code[code as usize].inc();
    }

    /// Counts a request that was answered.
    pub(super) fn answered(&self, code: Option<Code>, took: Duration) {
        // `Code::ALL` is in the order of declaration.
        code.map_or(&self.ok, |code| &self.by_code[code as usize]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// The text form.
    pub(super) fn text(&self) -> Result<String, prometheus::Error> {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn registered<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> Result<M, prometheus::Error> {
    registry.register(Box::new(metric.clone())).map(|()| metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_counter() {
        let metrics = Metrics::new(Registry::new()).unwrap();
        for &code in Code::ALL {
            metrics.answered(Some(code), Duration::from_millis(1));
        }
        metrics.answered(None, Duration::from_millis(1));
        let text = metrics.text().unwrap();
        for word in Code::ALL.iter().map(|code| code.as_str()).chain(["ok"]) {
            assert!(
                text.contains(&format!("granary_http_requests_total{{code=\"{word}\"}} 1\n")),
                "{word}"
            );
        }
        assert!(text.contains(&format!("granary_http_request_seconds_count {}\n", Code::ALL.len() + 1)));
        assert!(Metrics::new(metrics.registry.clone()).is_err());
    }
}
