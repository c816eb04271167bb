//! Log records of a grain: `log::info!("{n} added")` of the crate `log`, by whichever of the guest's libraries. The host adds type, key
//! and request id.
//!
//! Nothing is filtered here. `println!` and `eprintln!` become records, too, a line each.

use log::{LevelFilter, Log, Metadata, Record};

#[cfg(target_arch = "wasm32")]
use crate::bindings as outside;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing as outside;

/// Sends records to the host from now on, unless the guest has a logger of its own.
pub(crate) fn start() {
    if log::set_logger(&ToHost).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
}

struct ToHost;

impl Log for ToHost {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        match record.args().as_str() {
            Some(text) => outside::write_log(record.level(), text),
            None => outside::write_log(record.level(), &record.args().to_string()),
        }
    }

    fn flush(&self) {}
}
