//! `cargo xtask counts`: what granary-core's machines take for scripts that are the same each time, held against a committed file.
//!
//! Instructions are counted by valgrind, which knows no other processes and no clock: a count that rises means code that does
//! more. Steps and allocations need no tool. A compiler other than the file's makes other code, so its instructions aren't
//! compared: that's said aloud.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::work::{in_words, run_quietly};
use crate::workspace::Workspace;

const FILE: &str = "tools/bench/counts/counts.txt";
const RENEW: &str = "cargo xtask counts --renew";
/// Instructions may rise by so much: inlining decides otherwise when code elsewhere changes.
const MARGIN_PERCENT: u64 = 5;
/// What twice as many rounds take more is what these take, without start and end.
const ROUNDS: u64 = 500;

/// What a script takes for [`ROUNDS`] rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    /// `None` where nobody counted.
    instructions: Option<u64>,
    allocations: u64,
    steps: u64,
}

/// The scripts' counts and the compiler that they hold for.
#[derive(Debug, PartialEq, Eq)]
struct Table {
    compiler: String,
    scripts: BTreeMap<String, Counts>,
}

/// Counts and compares; writes the file anew instead when asked to.
pub(crate) fn run(renew: bool) -> Result<(), String> {
    let started = Instant::now();
    let workspace = Workspace::find()?;
    let path = workspace.root.join(FILE);
    let now = count(&workspace)?;
    if renew {
        let missing = now.scripts.values().any(|counts| counts.instructions.is_none());
        if missing {
            return Err("the file needs instruction counts: install valgrind".to_owned());
        }
        std::fs::write(&path, now.write()).map_err(|error| format!("{FILE}: {error}"))?;
        println!("  {FILE} is written");
        return Ok(());
    }
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{FILE}: {error}; `{RENEW}` writes it"))?;
    let before = Table::read(&text).ok_or_else(|| format!("{FILE} is not understood; `{RENEW}` writes it"))?;
    let compared = before.compare(&now);
    compared
        .skipped
        .iter()
        .for_each(|reason| println!("  skipped: {reason}"));
    if compared.risen.is_empty() {
        println!("  ✓ counts of core's machines  {}", in_words(started.elapsed()));
        return Ok(());
    }
    Err(format!(
        "granary-core's machines take more than {FILE} says:\n{}\nIf that is the price of something worth it, `{RENEW}` and say so in the commit",
        compared.risen.join("\n")
    ))
}

fn count(workspace: &Workspace) -> Result<Table, String> {
    let program = build(workspace)?;
    let has_valgrind = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let mut scripts = BTreeMap::new();
    for name in output(Command::new(&program).arg("list"))?.stdout.lines() {
        let (once, twice) = (steps(&program, name, ROUNDS)?, steps(&program, name, 2 * ROUNDS)?);
        let instructions = if has_valgrind {
            let once = instructions(&program, name, ROUNDS)?;
            Some(instructions(&program, name, 2 * ROUNDS)?.saturating_sub(once))
        } else {
            None
        };
        let counts = Counts {
            instructions,
            steps: twice.0 - once.0,
            allocations: twice.1 - once.1,
        };
        scripts.insert(name.to_owned(), counts);
    }
    Ok(Table {
        compiler: compiler()?,
        scripts,
    })
}

/// Builds the scripts. What decides about the code is set here, whatever a configuration outside says: the file is for this.
fn build(workspace: &Workspace) -> Result<PathBuf, String> {
    let mut args = vec!["build", "--release", "--locked", "--package", "counts"];
    for setting in [
        "profile.release.package.granary-core.opt-level=3",
        "profile.release.package.granary-core.codegen-units=16",
    ] {
        args.extend(["--config", setting]);
    }
    run_quietly(
        "scripts for core's machines",
        workspace.cargo(&args).env("CARGO_INCREMENTAL", "0"),
    )?;
    Ok(workspace.target.join("release/counts"))
}

fn compiler() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = output(Command::new(rustc).arg("--version"))?.stdout;
    Ok(format!("{} {}", said.trim(), std::env::consts::ARCH))
}

fn steps(program: &Path, script: &str, rounds: u64) -> Result<(u64, u64), String> {
    let said = output(Command::new(program).args([script, &rounds.to_string()]))?.stdout;
    let (steps, allocations) = said.trim().split_once(' ').ok_or("the scripts said nothing")?;
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no count"));
    Ok((number(steps)?, number(allocations)?))
}

fn instructions(program: &Path, script: &str, rounds: u64) -> Result<u64, String> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([script, &rounds.to_string()]);
    let said = output(&mut command)?.stderr;
    collected(&said).ok_or_else(|| format!("valgrind counted nothing:\n{said}"))
}

/// `==123== Collected : 1234567`
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[derive(Debug)]
struct Said {
    stdout: String,
    stderr: String,
}

fn output(command: &mut Command) -> Result<Said, String> {
    let program = command.get_program().to_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program:?} can't be started: {error}"))?;
    let said = Said {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    if output.status.success() {
        Ok(said)
    } else {
        Err(format!("{program:?} failed:\n{}", said.stderr))
    }
}

/// What a comparison says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Compared {
    risen: Vec<String>,
    skipped: Vec<String>,
}

impl Table {
    fn read(text: &str) -> Option<Table> {
        let compiler = text.lines().find_map(|line| line.strip_prefix("compiler: "))?;
        let mut scripts = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with('|')).skip(2) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [name, instructions, allocations, steps] = cells.as_slice() else {
                return None;
            };
            let counts = Counts {
                instructions: Some(instructions.parse().ok()?),
                allocations: allocations.parse().ok()?,
                steps: steps.parse().ok()?,
            };
            scripts.insert((*name).to_owned(), counts);
        }
        Some(Table {
            compiler: compiler.trim().to_owned(),
            scripts,
        })
    }

    fn write(&self) -> String {
        let mut text = format!(
            "What {ROUNDS} rounds of each script take. `{RENEW}` writes this file; `cargo xtask check` compares.\n\n\
             compiler: {}\n\n| script | instructions | allocations | steps |\n|---|---|---|---|\n",
            self.compiler
        );
        for (name, counts) in &self.scripts {
            text.push_str(&format!(
                "| {name} | {} | {} | {} |\n",
                counts.instructions.unwrap_or(0),
                counts.allocations,
                counts.steps
            ));
        }
        text
    }

    /// What `now` takes more than this.
    fn compare(&self, now: &Table) -> Compared {
        let mut compared = Compared::default();
        let same_compiler = self.compiler == now.compiler;
        if !same_compiler {
            compared.skipped.push(format!(
                "instruction counts, which are those of {}, and this is {}: `{RENEW}`",
                self.compiler, now.compiler
            ));
        } else if now.scripts.values().any(|counts| counts.instructions.is_none()) {
            compared
                .skipped
                .push("instruction counts, which want valgrind".to_owned());
        }
        for name in self.scripts.keys().filter(|name| !now.scripts.contains_key(*name)) {
            compared.risen.push(format!("  {name}: the script is gone"));
        }
        for (name, now) in &now.scripts {
            let Some(before) = self.scripts.get(name) else {
                compared.risen.push(format!("  {name}: the file doesn't have it"));
                continue;
            };
            let mut compare = |what: &str, before: u64, now: u64, margin: u64| {
                if now * 100 > before * (100 + margin) {
                    compared.risen.push(format!("  {name}: {now} {what}, it was {before}"));
                }
            };
            if let (true, Some(before), Some(now)) = (same_compiler, before.instructions, now.instructions) {
                compare("instructions", before, now, MARGIN_PERCENT);
            }
            compare("allocations", before.allocations, now.allocations, 0);
            compare("steps", before.steps, now.steps, 0);
        }
        compared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(compiler: &str, instructions: Option<u64>, allocations: u64) -> Table {
        let counts = Counts {
            instructions,
            allocations,
            steps: 5,
        };
        Table {
            compiler: compiler.to_owned(),
            scripts: BTreeMap::from([("turn".to_owned(), counts)]),
        }
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let written = table("rustc 1.95.0 x86_64", Some(1000), 10);
        assert_eq!(Table::read(&written.write()), Some(written));
        assert_eq!(Table::read("nothing of that"), None);
    }

    #[test]
    fn a_count_may_rise_by_its_margin() {
        let before = table("a", Some(1000), 10);
        assert_eq!(before.compare(&table("a", Some(1050), 10)), Compared::default());
        assert_eq!(before.compare(&table("a", Some(1051), 10)).risen.len(), 1);
        assert_eq!(before.compare(&table("a", Some(900), 11)).risen.len(), 1);
    }

    #[test]
    fn what_is_not_compared_is_said() {
        let before = table("a", Some(1000), 10);
        for now in [table("b", Some(2000), 10), table("a", None, 10)] {
            let compared = before.compare(&now);
            assert_eq!((compared.risen.len(), compared.skipped.len()), (0, 1), "{compared:?}");
        }
        assert_eq!(before.compare(&table("b", None, 11)).risen.len(), 1);
    }

    #[test]
    fn a_script_that_came_or_went_is_noticed() {
        let before = table("a", Some(1), 1);
        let mut now = table("a", Some(1), 1);
        let counts = now.scripts.remove("turn").unwrap();
        now.scripts.insert("other".to_owned(), counts);
        assert_eq!(before.compare(&now).risen.len(), 2);
    }

    #[test]
    fn valgrinds_count_is_found() {
        assert_eq!(
            collected("==7== Events    : Ir\n==7== Collected : 1234567\n"),
            Some(1_234_567)
        );
        assert_eq!(collected("==7== nothing"), None);
    }
}
