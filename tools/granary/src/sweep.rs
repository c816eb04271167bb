//! Moves a type's grains to its current revision and shows how far that is.
//!
//! The host does it, and goes on when nobody looks: this starts it, asks again and again, and draws a bar.

use std::io::{IsTerminal, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use ureq::http::Method;

use crate::Failure;
use crate::address::segment;
use crate::client::Client;
use crate::output::{note, out, out_part};

/// How often a bar is drawn anew.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// How often there is a line where there is no bar.
const LINE_INTERVAL: Duration = Duration::from_secs(2);
/// How long hosts may take to agree on who is there, when one has died or come: longer than it takes them to notice.
const PATIENCE: Duration = Duration::from_secs(30);
/// Failures that are shown; the host keeps some more.
const FAILURES_SHOWN: usize = 10;
/// Characters between a bar's ends.
const BAR_WIDTH: u64 = 30;
/// What a shell gives a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Moves all grains of a type and waits until each has moved or failed to. Returns the host's last word on it.
pub(crate) fn run(client: &Client, kind: &str, quiet: bool) -> Result<Value, Failure> {
    let path = format!("/v1/modules/{}/upgrade", segment(kind));
    let started = leave_on_interrupt(kind.to_owned());
    let mut status = patiently(|| client.send(Method::POST, &path, Vec::new())?.value())?;
    started.store(true, Ordering::Relaxed);
    let mut shown = Shown::new(quiet);
    while status["running"] == true {
        shown.show(&status);
        std::thread::sleep(BAR_INTERVAL);
        status = patiently(|| client.value(&path))?;
    }
    shown.end(&status);
    Ok(status)
}

/// Asks again while the hosts can't say: none of this has an effect twice.
fn patiently(mut ask: impl FnMut() -> Result<Value, Failure>) -> Result<Value, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(Failure::NotNow(_)) if Instant::now() < deadline => std::thread::sleep(BAR_INTERVAL),
            answer => return answer,
        }
    }
}

/// Says what a finished sweep could not move: exit code 1 if there is such.
pub(crate) fn verdict(status: &Value) -> Result<(), Failure> {
    let count = |name: &str| status[name].as_u64().unwrap_or(0);
    let kind = status["type"].as_str().unwrap_or_default();
    let (failed, left) = (count("failed"), count("left"));
    if failed > 0 {
        let verb = if failed == 1 {
            "grain stays on its"
        } else {
            "grains stay on their"
        };
        return Err(Failure::Refused(format!(
            "{failed} {verb} older revision and serve as before; `granary inspect {kind}/KEY` says why"
        )));
    }
    if left > 0 {
        return Err(Failure::Refused(format!(
            "the sweep has ended with {left} grains to go, which move at their next call: the host's log says why"
        )));
    }
    Ok(())
}

/// A sweep's figures in one line.
pub(crate) fn line(status: &Value) -> String {
    format!(
        "moved {}, failed {}, left {}",
        status["moved"], status["failed"], status["left"]
    )
}

/// The failures, a line each, with a last line for those that aren't shown.
pub(crate) fn failures(status: &Value) -> Vec<String> {
    let word = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let all = status["failures"].as_array().map_or(&[][..], Vec::as_slice);
    let shown = all.iter().take(FAILURES_SHOWN).map(|failure| {
        let (key, code, reason) = (word(&failure["key"]), word(&failure["code"]), word(&failure["reason"]));
        let revision = &failure["revision"];
        format!(
            "  {}/{key} stays on revision {revision}: {code}: {reason}",
            word(&status["type"])
        )
    });
    let mut lines: Vec<String> = shown.collect();
    let more = status["failed"]
        .as_u64()
        .unwrap_or(0)
        .saturating_sub(lines.len() as u64);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines
}

/// What is on the terminal, or in the file that stands for it.
struct Shown {
    quiet: bool,
    is_terminal: bool,
    last: Option<Instant>,
}

impl Shown {
    fn new(quiet: bool) -> Shown {
        Shown {
            quiet,
            is_terminal: stdout().is_terminal(),
            last: None,
        }
    }

    fn show(&mut self, status: &Value) {
        if self.quiet {
            return;
        }
        if self.is_terminal {
            out_part!("\r{}", bar(status));
        } else if self.last.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
            out!("{}", line(status));
            self.last = Some(Instant::now());
        }
    }

    fn end(&self, status: &Value) {
        if self.quiet {
            return;
        }
        if self.is_terminal {
            out!("\r{}", bar(status));
        } else {
            out!("{}", line(status));
        }
        failures(status).iter().for_each(|line| out!("{line}"));
    }
}

fn bar(status: &Value) -> String {
    let count = |name: &str| status[name].as_u64().unwrap_or(0);
    let total = count("total").max(1);
    let done = (count("moved") + count("failed")).min(total);
    let full = (BAR_WIDTH * done / total) as usize;
    // Figures that get shorter must not leave a digit behind.
    format!("[{:.<30}] {:<50}", "#".repeat(full), line(status))
}

/// Ctrl-C ends this program, not the sweep, and says so once the flag says that there is one.
fn leave_on_interrupt(kind: String) -> Arc<AtomicBool> {
    let started = Arc::new(AtomicBool::new(false));
    let flag = started.clone();
    // Without any of this Ctrl-C ends the program all the same, silently.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return started;
    };
    let entered = runtime.enter();
    let heard = signal(SignalKind::interrupt());
    drop(entered);
    let Ok(mut heard) = heard else {
        return started;
    };
    let wait = move || {
        runtime.block_on(heard.recv());
        if flag.load(Ordering::Relaxed) {
            note!("\ngranary: the host goes on moving grains of `{kind}`; `granary status` shows how far it is");
        }
        std::process::exit(INTERRUPTED);
    };
    if let Err(error) = std::thread::Builder::new().name("interrupt".to_owned()).spawn(wait) {
        note!("granary: Ctrl-C won't work: {error}");
    }
    started
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(moved: u64, failed: u64, left: u64) -> Value {
        let failures: Vec<Value> = (0..failed.min(100))
            .map(|n| json!({ "key": format!("k{n}"), "revision": 1, "code": "trap", "reason": "it trapped" }))
            .collect();
        json!({
            "type": "counter", "revision": 2, "total": moved + failed + left, "moved": moved, "failed": failed,
            "left": left, "running": left > 0, "failures": failures,
        })
    }

    #[test]
    fn a_bar_shows_what_is_done_and_what_is_left() {
        assert_eq!(
            bar(&status(50, 25, 25)).trim_end(),
            "[######################........] moved 50, failed 25, left 25"
        );
        assert!(bar(&status(0, 0, 0)).starts_with("[....."));
        assert!(bar(&status(3, 0, 0)).starts_with(&format!("[{}]", "#".repeat(30))));
    }

    #[test]
    fn the_first_failures_are_listed_and_the_others_counted() {
        assert_eq!(failures(&status(5, 0, 0)), [""; 0]);
        let lines = failures(&status(5, 2, 0));
        assert_eq!(lines[1], "  counter/k1 stays on revision 1: trap: it trapped");
        let lines = failures(&status(5, 112, 0));
        assert_eq!((lines.len(), lines[10].as_str()), (11, "  and 102 more"));
    }

    #[test]
    fn any_failure_is_exit_code_1() {
        assert!(verdict(&status(5, 0, 0)).is_ok());
        for (failed, left) in [(1, 0), (2, 0), (0, 3)] {
            assert_eq!(
                verdict(&status(5, failed, left)).map_err(|failure| failure.code()),
                Err(1)
            );
        }
    }
}
