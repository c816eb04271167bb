//! One test: its process, its time limit, and what came of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use super::program::Program;

/// Between looks at whether a test has ended.
const PAUSE: Duration = Duration::from_millis(2);
/// Lines of each file `*.log` that a test which was stopped shows.
const LOG_LINES: usize = 40;
/// A test that prints without end must not fill the disk's or this process's memory: of more only the end is shown.
const OUTPUT_BYTES: usize = 1 << 20;

/// What a test's process gets.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    /// For its temporary files; it doesn't exist before or afterwards.
    pub(super) folder: &'a Path,
    /// Of its environment, besides this process's own.
    pub(super) variables: &'a [(&'static str, OsString)],
    /// Later than this it's killed.
    pub(super) limit: Duration,
}

/// One test of a program.
#[derive(Debug)]
pub(super) struct Case {
    program: Arc<Program>,
    test: String,
}

/// What came of a test.
#[derive(Debug)]
pub(super) struct Outcome {
    /// How it ended.
    pub(super) end: End,
    /// How long it took.
    pub(super) took: Duration,
    /// What it printed, and the ends of its hosts' logs when it was stopped.
    pub(super) output: String,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Passed,
    Failed,
    /// It wants a tool that isn't there, or is marked as ignored.
    Skipped,
    /// It didn't end within its limit and was killed.
    TimedOut,
}

impl End {
    pub(super) fn is_failure(self) -> bool {
        matches!(self, End::Failed | End::TimedOut)
    }
}

impl Case {
    pub(super) fn new(program: Arc<Program>, test: &str) -> Case {
        Case {
            program,
            test: test.to_owned(),
        }
    }

    /// Its program's name.
    pub(super) fn program(&self) -> &str {
        &self.program.name
    }

    /// Program and test: `cluster deaths::hosts_are_killed_in_turn`.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.program.name, self.test)
    }

    /// The command that runs this test alone.
    pub(super) fn again(&self) -> String {
        format!("cargo xtask test '{}'", self.name())
    }

    /// Runs it to its end or its limit.
    pub(super) fn run(&self, surroundings: &Surroundings<'_>) -> Outcome {
        let started = Instant::now();
        let ended = self.run_in(surroundings);
        let took = started.elapsed();
        let (end, mut output) = match ended {
            Ok((Some(status), output)) => (end_of(status, &output), output + &killed_by(status)),
            Ok((None, output)) => (End::TimedOut, output),
            Err(error) => (End::Failed, format!("the test's process: {error}")),
        };
        if end == End::TimedOut {
            output += &format!(
                "\n{} did not end within {:?} and was killed\n",
                self.name(),
                surroundings.limit
            );
            output += &ends_of_logs(surroundings.folder);
        }
        let _ = fs::remove_dir_all(surroundings.folder);
        Outcome { end, took, output }
    }

    /// Without a status when it took too long.
    fn run_in(&self, surroundings: &Surroundings<'_>) -> std::io::Result<(Option<ExitStatus>, String)> {
        fs::create_dir_all(surroundings.folder)?;
        let printed = surroundings.folder.join("output");
        let file = File::create(&printed)?;
        let mut child = Command::new(&self.program.path)
            .args([&self.test, "--exact", "--nocapture", "--test-threads", "1"])
            .current_dir(&self.program.folder)
            .envs(surroundings.variables.iter().map(|(name, value)| (name, value)))
            .envs(libraries())
            .env("TMPDIR", surroundings.folder)
            .stdin(Stdio::null())
            .stderr(file.try_clone()?)
            .stdout(file)
            // A group of its own: a test that is stopped takes the hosts that it started along.
            .process_group(0)
            .spawn()?;
        let status = wait(&mut child, surroundings.limit)?;
        kill_group(child.id());
        if status.is_none() {
            child.wait()?;
        }
        Ok((status, end_of_file(&printed, OUTPUT_BYTES)?))
    }
}

/// Nothing when it took too long.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(None)
}

/// Ends what is left of a test: also a host that a test which crashed left behind.
fn kill_group(leader: u32) {
    // The shell's own: a machine may have no program of that name.
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -s KILL -- -{leader}")])
        .stderr(Stdio::null())
        .status();
}

fn end_of(status: ExitStatus, output: &str) -> End {
    if !status.success() {
        return End::Failed;
    }
    let is_skipped = output.lines().any(|line| line.starts_with("skipped: ")) || output.contains("... ignored");
    if is_skipped { End::Skipped } else { End::Passed }
}

/// The last bytes of a file as text.
fn end_of_file(path: &Path, bytes: usize) -> std::io::Result<String> {
    use std::io::{Seek, SeekFrom};
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes as u64)))?;
    let mut end = Vec::new();
    file.take(bytes as u64).read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

/// A test that is killed can't show its hosts' logs: they are shown for it.
fn ends_of_logs(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let log = entry.path().join("host.log");
        if let Ok(content) = end_of_file(&log, OUTPUT_BYTES) {
            let lines: Vec<&str> = content.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
            text += &format!("--- the end of {}\n{}\n", log.display(), shown.join("\n"));
        }
    }
    text
}

/// Where a test program finds rustc's own libraries: that of a macro crate is linked to one.
pub(super) fn libraries() -> Option<(&'static str, PathBuf)> {
    static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc).args(["--print", "target-libdir"]).output().ok()?;
        let folder = String::from_utf8(output.stdout).ok()?;
        Some(PathBuf::from(folder.trim()))
    });
    FOLDER.clone().map(|folder| ("LD_LIBRARY_PATH", folder))
}

/// What ended a test that died without a word of its own.
fn killed_by(status: ExitStatus) -> String {
    let signal = status.signal();
    signal.map_or(String::new(), |signal| {
        format!("\nthe test's process was killed by signal {signal}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell script as if it were a test program.
    fn outcome(script: &str, limit: Duration) -> Outcome {
        let programs = tempfile::tempdir().unwrap();
        fs::write(programs.path().join("test"), script).unwrap();
        let program = Program {
            name: "program".into(),
            path: "/bin/sh".into(),
            folder: programs.path().to_owned(),
        };
        let folder = programs.path().join("temporary");
        let outcome = Case::new(Arc::new(program), "test").run(&Surroundings {
            folder: &folder,
            variables: &[("GRANARY_WORD", "a word".into())],
            limit,
        });
        assert!(!folder.exists(), "temporary files are left");
        outcome
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_test_passes_fails_or_is_skipped() {
        assert_eq!(outcome("exit 0", LONG).end, End::Passed);
        assert_eq!(outcome("echo 'skipped: test wants a tool'", LONG).end, End::Skipped);
        let failed = outcome("echo $GRANARY_WORD; echo reason >&2; exit 101", LONG);
        assert_eq!((failed.end, failed.output.as_str()), (End::Failed, "a word\nreason\n"));
    }

    #[test]
    fn a_test_that_is_killed_has_failed_and_says_so() {
        let killed = outcome("kill -ABRT $$", LONG);
        assert_eq!(killed.end, End::Failed);
        assert!(killed.output.contains("signal 6"), "{}", killed.output);
    }

    #[test]
    fn a_test_that_does_not_end_is_named_and_shows_its_hosts_logs_and_takes_its_children_along() {
        let pids = tempfile::tempdir().unwrap();
        let pid = pids.path().join("pid");
        let script = format!(
            "mkdir $TMPDIR/host; sleep 1000 & echo $! > {}; echo last words > $TMPDIR/host/host.log; echo begun; wait",
            pid.display()
        );
        let outcome = outcome(&script, Duration::from_secs(1));
        assert_eq!(outcome.end, End::TimedOut);
        for part in ["begun", "program test did not end within 1s", "last words"] {
            assert!(outcome.output.contains(part), "{part}: {}", outcome.output);
        }
        await_end(&pid);
    }

    #[test]
    fn what_a_test_leaves_behind_is_ended() {
        let programs = tempfile::tempdir().unwrap();
        let pid = programs.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; exit 0", pid.display());
        assert_eq!(outcome(&script, LONG).end, End::Passed);
        await_end(&pid);
    }

    /// Waits until the process whose number is in this file is gone; the test's limit ends this one if it stays.
    fn await_end(pid: &Path) {
        let pid = fs::read_to_string(pid).unwrap();
        let state = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        // Nobody may have taken note of its end yet.
        while !state().is_empty() && !state().contains(") Z ") {
            std::thread::sleep(PAUSE);
        }
    }
}
