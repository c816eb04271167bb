//! The host's side of a child: starts it, feeds it, reads its answer, ends it.

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::frame::{Request, answer_limit, read_answer};
use crate::wasm::module::ModuleError;

/// How often the wait for a child looks whether the host stops.
const LOOK: Duration = Duration::from_millis(50);
/// What is read of a child's last words, in bytes.
const WORDS_LIMIT: u64 = 8 << 10;

/// Runs one task in a child. Blocks until it's done, over its limits, or the host stops; the child is gone then.
pub(super) fn run(
    program: &Path,
    args: &[String],
    request: &Request<'_>,
    limit: usize,
    stopping: &AtomicBool,
) -> Result<Vec<u8>, ModuleError> {
    let host = |error: io::Error| ModuleError::Host(format!("the compiler's process can't be run: {error}"));
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(host)?;
    let mut child = Killed(child);
    let mut stdin = child.0.stdin.take().expect("asked for");
    let stdout = child.0.stdout.take().expect("asked for");
    let stderr = child.0.stderr.take().expect("asked for");
    let deadline = Instant::now() + request.config.compiler.deadline;
    thread::scope(|scope| {
        // A child that doesn't read gets no more; what it said counts, not that it was fed.
        scope.spawn(move || drop(request.write(&mut stdin)));
        let words = scope.spawn(move || read(stderr, WORDS_LIMIT));
        let (sender, receiver) = mpsc::sync_channel(1);
        let most = answer_limit(limit) as u64;
        scope.spawn(move || drop(sender.send(read(stdout, most))));
        let answer = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left.min(LOOK)) {
                Ok(bytes) => break Some(bytes),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline && !stopping.load(Ordering::Relaxed) => {}
                Err(_) => break None,
            }
        };
        let Some(answer) = answer else {
            // Its pipes close with it, and so the other threads end.
            child.kill();
            return Err(match stopping.load(Ordering::Relaxed) {
                true => ModuleError::Host("the host stops".to_owned()),
                false => ModuleError::CompileTime(request.config.compiler.deadline),
            });
        };
        let status = child.end();
        let words = words.join().unwrap_or_default();
        read_answer(&answer, limit).unwrap_or_else(|| Err(failure(status, &words, request)))
    })
}

/// What went wrong in a child that gave no whole answer.
fn failure(status: io::Result<ExitStatus>, words: &[u8], request: &Request<'_>) -> ModuleError {
    let words = String::from_utf8_lossy(words);
    let memory = request.config.compiler.memory;
    if words.contains("memory allocation of") || words.contains("Cannot allocate memory") {
        return ModuleError::CompileMemory(memory);
    }
    let how = match status.as_ref().map(|status| (status.signal(), status.code())) {
        // The limit on its processor time.
        Ok((Some(24), _)) => return ModuleError::CompileTime(request.config.compiler.deadline),
        Ok((Some(signal), _)) => format!("it ended by signal {signal}"),
        Ok((None, code)) => format!("it gave no whole answer and ended with {}", code.unwrap_or_default()),
        Err(error) => error.to_string(),
    };
    tracing::error!(%how, %words, "the compiler's process failed");
    ModuleError::CompileCrash(how)
}

/// Reads to the end, of which it keeps the first `limit` bytes.
fn read(mut from: impl Read, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A pipe that breaks has said what it had to say. What comes beyond the limit is read, too: a child that can't write hangs.
    let _ = from.by_ref().take(limit).read_to_end(&mut bytes);
    let _ = io::copy(&mut from, &mut io::sink());
    bytes
}

/// A child that doesn't outlive its use.
struct Killed(Child);

impl Killed {
    /// Waits for one that has answered and so is about to end, and takes its status.
    fn end(&mut self) -> io::Result<ExitStatus> {
        let patience = Instant::now() + Duration::from_secs(1);
        while Instant::now() < patience {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.kill();
        self.0.wait()
    }

    /// Ends it now and takes its status, so that it's no zombie. Of one that is gone already this does nothing.
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::compiler::{CompilerConfig, Task};
    use crate::wasm::config::WasmConfig;

    /// What comes of a child that runs this script instead of compiling.
    fn outcome(script: &str, deadline: Duration, stopping: bool) -> Result<Vec<u8>, ModuleError> {
        let config = WasmConfig {
            compiler: CompilerConfig {
                deadline,
                ..CompilerConfig::default()
            },
            ..WasmConfig::default()
        };
        let request = Request {
            task: Task::Compile,
            config: &config,
            wasm: &[0; 1 << 20],
            code: &[],
        };
        let args = ["-c".to_owned(), script.to_owned()];
        run(
            Path::new("/bin/sh"),
            &args,
            &request,
            1 << 10,
            &AtomicBool::new(stopping),
        )
    }

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(100);

    #[test]
    fn a_child_that_takes_too_long_is_killed() {
        for script in [
            "exec sleep 1000",
            "while :; do :; done",
            "trap '' TERM; exec sleep 1000",
        ] {
            let begin = Instant::now();
            assert_eq!(
                outcome(script, SHORT, false),
                Err(ModuleError::CompileTime(SHORT)),
                "{script}"
            );
            assert!(begin.elapsed() < LONG, "{script}");
        }
    }

    #[test]
    fn a_child_ends_when_the_host_stops() {
        let stopped = outcome("exec sleep 1000", LONG, true);
        assert!(matches!(stopped, Err(ModuleError::Host(why)) if why.contains("stops")));
    }

    #[test]
    fn garbage_silence_floods_and_deaths_are_no_answers() {
        for script in [
            "exit 0",
            "exit 7",
            "echo hello",
            "kill -9 $$",
            "head -c 30000000 /dev/zero",
            "head -c 30000000 /dev/zero >&2",
            "printf 'granary\\002\\000'",
            "exec cat",
        ] {
            let crash = outcome(script, LONG, false);
            assert!(
                matches!(crash, Err(ModuleError::CompileCrash(_))),
                "{script}: {crash:?}"
            );
        }
    }

    #[test]
    fn a_child_without_memory_says_so() {
        let memory = outcome(
            "echo 'memory allocation of 99 bytes failed' >&2; kill -6 $$",
            LONG,
            false,
        );
        assert!(matches!(memory, Err(ModuleError::CompileMemory(_))), "{memory:?}");
    }

    #[test]
    fn a_program_that_is_not_there_is_the_hosts_fault() {
        let config = WasmConfig::default();
        let request = Request {
            task: Task::Compile,
            config: &config,
            wasm: &[],
            code: &[],
        };
        let failed = run(Path::new("/nowhere/at-all"), &[], &request, 1, &AtomicBool::new(false));
        assert!(matches!(failed, Err(ModuleError::Host(_))));
    }
}
