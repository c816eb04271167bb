//! Long work by a child process, told in one line: what it is, how far it is, how long it took. What the child said is shown
//! only when it failed.

use std::collections::VecDeque;
use std::io::{IsTerminal, Read, Write, stdout};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The last lines that are kept to be shown after a failure: bounds the memory of a child that never stops talking.
const LINES_KEPT: usize = 400;

/// Runs `command` to its end. Its stdout is dropped.
pub(crate) fn run_quietly(what: &str, command: &mut Command) -> Result<(), String> {
    run(what, command.stdout(Stdio::null()))
        .map(drop)
        .map_err(|failed| failed.said)
}

/// Runs `command` to its end and returns what it wrote to stdout.
pub(crate) fn run_for_output(what: &str, command: &mut Command) -> Result<String, Failed> {
    run(what, command.stdout(Stdio::piped()))
}

/// A child that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// What it was, and the end of what it wrote to stderr.
    pub(crate) said: String,
    /// What it wrote to stdout.
    pub(crate) output: String,
}

fn run(what: &str, command: &mut Command) -> Result<String, Failed> {
    let failed = |said| Failed {
        said,
        output: String::new(),
    };
    let started = Instant::now();
    let mut line = ProgressLine::new(what);
    // cargo's progress bar tells how much there is to do; it is drawn for terminals only unless told otherwise.
    command
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "100");
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("{what}: {:?} can't be started: {error}", command.get_program())))?;
    // Read beside stderr: a child whose pipe is full waits.
    let output = child
        .stdout
        .take()
        .map(|stdout| std::thread::spawn(|| read_all(stdout)));
    let mut said = VecDeque::new();
    if let Some(stderr) = child.stderr.take() {
        read_lines(stderr, |text| match progress_in(&text) {
            Some((done, all)) => line.update(done, all),
            None if text.trim().is_empty() => {}
            None => {
                if said.len() == LINES_KEPT {
                    said.pop_front();
                }
                said.push_back(text);
            }
        });
    }
    let status = child.wait().map_err(|error| failed(format!("{what}: {error}")))?;
    let output = output.and_then(|reader| reader.join().ok()).unwrap_or_default();
    if !status.success() {
        line.end("✗", started.elapsed());
        let said = format!("{what} failed\n\n{}", Vec::from(said).join("\n"));
        return Err(Failed { said, output });
    }
    line.end("✓", started.elapsed());
    Ok(output)
}

fn read_all(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    // What can't be read is missing from the output, and the child's status says more.
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Calls `take` with each line, ended by newline or carriage return.
fn read_lines(mut from: impl Read, mut take: impl FnMut(String)) {
    let mut chunk = [0; 4096];
    let mut line = Vec::new();
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        for &byte in &chunk[..n] {
            if byte == b'\n' || byte == b'\r' {
                take(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            } else {
                line.push(byte);
            }
        }
    }
    take(String::from_utf8_lossy(&line).into_owned());
}

/// Reads `Building [==>   ] 12/240: name` as 12 of 240.
fn progress_in(line: &str) -> Option<(u32, u32)> {
    let (_, after) = line.split_once("Building [")?;
    let (_, after) = after.split_once("] ")?;
    let (done, rest) = after.split_once('/')?;
    let all: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((done.trim().parse().ok()?, all.parse().ok()?))
}

struct ProgressLine<'a> {
    what: &'a str,
    is_terminal: bool,
    shown: Instant,
}

impl<'a> ProgressLine<'a> {
    fn new(what: &'a str) -> ProgressLine<'a> {
        let line = ProgressLine {
            what,
            is_terminal: stdout().is_terminal(),
            shown: Instant::now(),
        };
        if line.is_terminal {
            print!("  · {what}");
        }
        let _ = stdout().flush();
        line
    }

    fn update(&mut self, done: u32, all: u32) {
        // A terminal sees each change; a log file a line every half minute, so that it is seen to live.
        let pause = Duration::from_millis(if self.is_terminal { 100 } else { 30_000 });
        if self.shown.elapsed() < pause {
            return;
        }
        self.shown = Instant::now();
        if self.is_terminal {
            print!("\r  · {}  {done} of {all} crates\x1b[K", self.what);
        } else {
            println!("  · {}  {done} of {all} crates", self.what);
        }
        let _ = stdout().flush();
    }

    fn end(self, mark: &str, took: Duration) {
        let start = if self.is_terminal { "\r\x1b[K" } else { "" };
        println!("{start}  {mark} {}  {}", self.what, in_words(took));
    }
}

/// A time as people say it.
pub(crate) fn in_words(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_cargos_bar() {
        assert_eq!(
            progress_in("    Building [=====>      ] 12/240: wasmtime, sled"),
            Some((12, 240))
        );
        assert_eq!(progress_in("   Compiling wasmtime v48.0.8"), None);
    }

    #[test]
    fn lines_end_at_newlines_and_carriage_returns() {
        let mut lines = Vec::new();
        read_lines(&b"a\rb\nc"[..], |line| lines.push(line));
        assert_eq!(lines, ["a", "b", "c"]);
    }

    #[test]
    fn what_a_failed_child_said_is_shown() {
        let mut child = Command::new("sh");
        let error = run_quietly("a child", child.args(["-c", "echo reason >&2; exit 3"])).unwrap_err();
        assert!(error.contains("a child failed") && error.contains("reason"), "{error}");
    }

    #[test]
    fn output_is_returned_beside_what_is_said() {
        let mut child = Command::new("sh");
        let output = run_for_output("a child", child.args(["-c", "echo said >&2; echo written"]));
        assert_eq!(output.unwrap(), "written\n");
    }

    #[test]
    fn times_are_said_in_words() {
        assert_eq!(in_words(Duration::from_millis(41)), "41 ms");
        assert_eq!(in_words(Duration::from_secs(254)), "4 min 14 s");
    }
}
