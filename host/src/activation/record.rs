//! A guest's log records in the host's log, with grain and request.
//!
//! **Not here:** how many and how long they may be (`wasm`).

use granary_core::id::{GrainName, RequestId};

use crate::wasm::{LogLevel, LogSource};

/// Writes a guest's record into the host's log, with its grain and request.
pub(super) fn write(grain: &GrainName, request: RequestId, level: LogLevel, source: LogSource, message: &str) {
    let (kind, key) = (grain.kind.as_str(), grain.key.as_str());
    let source = match source {
        LogSource::Log => "log",
        LogSource::Stdout => "stdout",
        LogSource::Stderr => "stderr",
    };
    macro_rules! record {
        ($level:ident) => {
            tracing::$level!(target: "granary::guest", kind, key, %request, source, "{message}")
        };
    }
    match level {
        LogLevel::Trace => record!(trace),
        LogLevel::Debug => record!(debug),
        LogLevel::Info => record!(info),
        LogLevel::Warn => record!(warn),
        LogLevel::Error => record!(error),
    }
}
