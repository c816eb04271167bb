//! What a command that serves says of itself while it runs: a record a line, by levels, to stderr.
//!
//! Lines go by an outlet of the host's, so that nobody who logs ever waits for the log's reader, or fails with it. All that this process writes
//! on stdout and stderr while it serves goes that way, panics too.

mod escape;
mod form;
mod record;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::time::{Duration, SystemTime};

use granary_host::outlet::{self, Outlet};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

pub(crate) use self::form::Form;
use self::record::{Record, Value};
use crate::Failure;

const VARIABLE: &str = "GRANARY_LOG";
/// What is logged unless the variable says otherwise. The WASI library has a span at `info` for each call of a guest's.
const DEFAULT: &str = "info,wasmtime_wasi=warn,wiggle=warn";
/// How long a process that ends waits for what it said last: its reader may be gone or asleep.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where this process' words go.
#[derive(Debug)]
pub(crate) struct Output {
    log: Outlet,
    out: Outlet,
}

/// Logs to stderr what `GRANARY_LOG` lets through: a level, or levels by modules.
pub(crate) fn start(form: Form) -> Result<Output, Failure> {
    let chosen = std::env::var(VARIABLE).unwrap_or_default();
    let filter = filter(&chosen).map_err(Failure::Usage)?;
    let form = form.coloured(io::stderr().is_terminal());
    let started = |error: io::Error| Failure::Refused(format!("the log's thread can't be started: {error}"));
    let log =
        Outlet::start("log", descriptor(&io::stderr()), move |dropped| missing(form, dropped)).map_err(started)?;
    let words = |dropped| format!("{dropped} lines were dropped");
    let out = Outlet::start("stdout", descriptor(&io::stdout()), words).map_err(started)?;
    outlet::keep_log(log.clone());
    let lines = Lines { form, log: log.clone() };
    let panics = Lines { form, log: log.clone() };
    std::panic::set_hook(Box::new(move |panic| panics.panic(panic)));
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(Output { log, out })
}

impl Output {
    /// A line on stdout.
    pub(crate) fn print(&self, line: String) {
        self.out.push(line);
    }

    /// Gives what was said so far a while to be written.
    pub(crate) fn flush(&self) {
        self.log.flush(PATIENCE);
        self.out.flush(PATIENCE);
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The descriptor itself: the library's own handle has a lock that whoever waits for a reader would hold. One that is closed takes all.
fn descriptor(of: &impl AsFd) -> Box<dyn Write + Send> {
    match of.as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(io::sink()),
    }
}

/// What stands where records are missing.
fn missing(form: Form, dropped: u64) -> String {
    let mut record = Record::new(SystemTime::now(), Level::WARN, module_path!());
    record.message = format!("{dropped} records were dropped: the log couldn't be written, or its reader was too slow");
    form.line(&record)
}

/// Makes a line of each event.
#[derive(Debug)]
struct Lines {
    form: Form,
    log: Outlet,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let about = event.metadata();
        let mut record = Record::new(SystemTime::now(), *about.level(), about.target());
        event.record(&mut record);
        self.log.push(self.form.line(&record));
    }
}

impl Lines {
    /// A panic, whatever levels were chosen.
    fn panic(&self, panic: &PanicHookInfo<'_>) {
        let mut record = Record::new(SystemTime::now(), Level::ERROR, module_path!());
        let said = panic.payload_as_str().unwrap_or("without a word");
        record.message = format!("panic: {said}");
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        record.fields.push(("thread", Value::Text(name.to_owned())));
        if let Some(place) = panic.location() {
            record.fields.push(("place", Value::Text(place.to_string())));
        }
        // As RUST_BACKTRACE says.
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            record.fields.push(("backtrace", Value::Text(trace.to_string())));
        }
        self.log.push(self.form.line(&record));
    }
}

fn filter(chosen: &str) -> Result<Targets, String> {
    let chosen = if chosen.trim().is_empty() { DEFAULT } else { chosen };
    chosen.parse().map_err(|_| {
        format!(
            "{VARIABLE}: `{chosen}` says no levels: write one of error, warn, info, debug, trace, off, or one for each module, for example \
             info,granary_host::cluster=debug"
        )
    })
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;

    #[test]
    fn levels_go_by_module() {
        let of = |chosen: &str| filter(chosen).unwrap();
        assert_eq!(of("").to_string(), of(DEFAULT).to_string());
        assert_eq!(of("warn").default_level(), Some(LevelFilter::WARN));
        let (mixed, debug) = (of("info,granary_host::cluster=debug"), LevelFilter::DEBUG.into_level());
        let shows = |module| mixed.would_enable(module, &debug.unwrap());
        assert!(shows("granary_host::cluster::office") && !shows("granary_host::http"));
    }

    #[test]
    fn what_says_no_levels_is_refused_with_an_example() {
        let error = filter("granary_host=loud").unwrap_err();
        assert!(
            error.contains("`granary_host=loud`") && error.contains("=debug"),
            "{error}"
        );
    }
}
