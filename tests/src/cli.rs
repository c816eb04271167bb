//! The command line as a user runs it.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Host, built};

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// `granary WORDS` against a host.
pub fn granary(host: &Host, words: &[&str]) -> Ended {
    run(Command::new(built::granary())
        .args(words)
        .env("GRANARY_HOST", host.url()))
}

/// `granary WORDS` in a folder, against a host, with more in the environment.
pub fn granary_in(folder: &Path, host: &Host, words: &[&str], environment: &[(&str, &Path)]) -> Ended {
    let mut command = Command::new(built::granary());
    run(command
        .args(words)
        .current_dir(folder)
        .env("GRANARY_HOST", host.url())
        .envs(environment.iter().copied()))
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ended {
    /// It has to have ended well; returns stdout without the last newline.
    #[track_caller]
    pub fn ok(&self) -> &str {
        self.expect(0);
        self.stdout.trim_end()
    }

    /// It has to have ended with this code.
    #[track_caller]
    pub fn expect(&self, code: i32) -> &Ended {
        assert_eq!(
            self.code, code,
            "exit code {}\nstdout: {}\nstderr: {}",
            self.code, self.stdout, self.stderr
        );
        self
    }
}
