//! `cargo xtask fuzz TARGET`: a fuzz target of tests/fuzz under libFuzzer, with the ordinary compiler.
//!
//! Only this workspace's own code is instrumented: cargo runs this program around rustc for it, and everything else is
//! built as always. No sanitizer: safe Rust panics where C would read on, and a panic is what a target looks for.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::work::run_quietly;
use crate::workspace::Workspace;

/// Tells this program that cargo runs it around rustc.
const AROUND_RUSTC: &str = "GRANARY_FUZZ_AROUND_RUSTC";
/// Longer inputs find what shorter ones do, later.
const LENGTH_LIMIT: u32 = 8 << 10;
const DEFAULT_SECONDS: u64 = 60;

/// Coverage as libFuzzer wants it: counters of edges, and what comparisons compared.
const INSTRUMENTED: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Builds the fuzzer and runs a target: `TARGET [--seconds N] [--keep]`. What it finds stays in the target folder; `--keep` then
/// moves what adds coverage into the tree's corpus.
pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let Order { target, seconds, keep } = Order::read(args)?;
    let workspace = Workspace::find()?;
    let fuzzer = build(&workspace)?;
    let corpus = workspace.root.join("tests/fuzz/corpus").join(&target);
    let found = workspace.target.join("fuzz").join(&target);
    for folder in [&corpus, &found] {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let fuzz = |options: &[String], folders: [&PathBuf; 2]| {
        let mut command = Command::new(&fuzzer);
        command.env("GRANARY_FUZZ_TARGET", &target);
        command.args(["-timeout=20".to_owned(), format!("-max_len={LENGTH_LIMIT}")]);
        // Seconds are for fuzzing; a short input must not take gigabytes.
        command.args([
            "-rss_limit_mb=2048".to_owned(),
            format!("-artifact_prefix={}-", found.display()),
        ]);
        let status = command.args(options).args(folders).status();
        match status.map_err(|error| format!("the fuzzer can't be started: {error}"))? {
            status if status.success() => Ok(()),
            status => Err(format!(
                "the fuzzer ended with {status}: the input that did it is named above. Fix what it found, and keep it in {}",
                workspace.shorten(&corpus)
            )),
        }
    };
    fuzz(&[format!("-max_total_time={seconds}")], [&found, &corpus])?;
    if keep {
        fuzz(&["-merge=1".to_owned()], [&corpus, &found])?;
    }
    Ok(())
}

/// All targets: the folders of the corpus.
pub(crate) fn targets(workspace: &Workspace) -> Result<Vec<String>, String> {
    let corpus = workspace.root.join("tests/fuzz/corpus");
    let folders = std::fs::read_dir(&corpus).map_err(|error| format!("{}: {error}", corpus.display()))?;
    let mut targets: Vec<String> = folders
        .flatten()
        .map(|folder| folder.file_name().to_string_lossy().into_owned())
        .collect();
    targets.sort();
    Ok(targets)
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    target: String,
    seconds: u64,
    keep: bool,
}

impl Order {
    fn read(args: &[&str]) -> Result<Order, String> {
        let usage =
            "usage: cargo xtask fuzz TARGET [--seconds N] [--keep]; targets are the folders of tests/fuzz/corpus";
        let [target, options @ ..] = args else {
            return Err(usage.to_owned());
        };
        let mut order = Order {
            target: (*target).to_owned(),
            seconds: DEFAULT_SECONDS,
            keep: false,
        };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match *option {
                "--keep" => order.keep = true,
                "--seconds" => {
                    let seconds = options.next().and_then(|text| text.parse().ok());
                    order.seconds = seconds.ok_or_else(|| usage.to_owned())?;
                }
                _ => return Err(usage.to_owned()),
            }
        }
        Ok(order)
    }
}

/// Builds the fuzzer.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| format!("this program doesn't know where it is: {error}"))?;
    let mut cargo = workspace.cargo(&["build", "--release", "--locked", "--package", "granary-fuzz"]);
    cargo
        .args(["--features", "libfuzzer"])
        .env("RUSTC_WORKSPACE_WRAPPER", this)
        .env(AROUND_RUSTC, "1");
    run_quietly("fuzzer", &mut cargo)?;
    Ok(workspace.target.join("release/granary-fuzz"))
}

/// When cargo runs this program around rustc: does that.
pub(crate) fn around_rustc() -> Option<ExitCode> {
    std::env::var_os(AROUND_RUSTC)?;
    let mut words = std::env::args_os().skip(1);
    let status = Command::new(words.next()?).args(words).args(INSTRUMENTED).status();
    Some(match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_a_target_and_may_say_how_long() {
        let order = Order::read(&["log", "--seconds", "5", "--keep"]).unwrap();
        assert_eq!((order.target.as_str(), order.seconds, order.keep), ("log", 5, true));
        for wrong in [
            &[][..],
            &["log", "--seconds"],
            &["log", "--seconds", "x"],
            &["log", "--fast"],
        ] {
            assert!(Order::read(wrong).unwrap_err().contains("usage"), "{wrong:?}");
        }
    }
}
