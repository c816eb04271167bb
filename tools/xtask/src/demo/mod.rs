//! `cargo demo`: what Granary is for, in a minute: call a grain, kill the host, lose nothing.
//!
//! **Not here:** anything a user couldn't do by hand; each step is shown as the command that does it.

mod burst;
mod http;

use std::path::Path;
use std::time::Duration;

use crate::guests;
use crate::host::{self, Host};
use crate::work::{in_words, run_quietly};
use crate::workspace::Workspace;

/// Shows the demo; with `once` it ends after the last step, otherwise it serves until Ctrl-C.
pub(crate) fn run(once: bool) -> Result<(), String> {
    let workspace = Workspace::find()?;
    println!("\nGranary: stateful functions that outlive their host");
    build(&workspace)?;

    let folder = DataFolder::create()?;
    let mut host = start_first(&workspace, folder.path(), once)?;
    deploy(&workspace, &host)?;
    let mut known = call_by_hand(&host)?;
    kill_in_a_burst(&workspace, &mut host, folder.path(), &mut known)?;
    show_that_all_is_there(&host, &known)?;
    if once {
        host.stop();
        return Ok(());
    }
    serve(&workspace, host)
}

fn build(workspace: &Workspace) -> Result<(), String> {
    headline("Build");
    if !workspace.granary().exists() {
        println!(
            "  The first build compiles the wasm runtime and its compiler, too: some minutes. Later ones take seconds."
        );
    }
    guests::build(workspace)?;
    run_quietly(
        "host",
        &mut workspace.cargo(&["build", "--release", "--locked", "--package", "granary"]),
    )
}

fn start_first(workspace: &Workspace, data: &Path, once: bool) -> Result<Host, String> {
    headline("Start a host: one binary, an embedded store, no configuration");
    // The documented port if it is free, so that the README's commands work as they stand.
    let free = !once && std::net::TcpListener::bind("127.0.0.1:7777").is_ok();
    let listen = if free { "127.0.0.1:7777" } else { "127.0.0.1:0" };
    show_start(workspace, data, listen);
    let host = Host::start(&workspace.granary(), data, listen)?;
    println!(
        "  granary ready http://{}   (after {})",
        host.address(),
        in_words(host.start_time())
    );
    Ok(host)
}

fn show_start(workspace: &Workspace, data: &Path, listen: &str) {
    let binary = workspace.shorten(&workspace.granary());
    command(&format!("{binary} up --data {} --listen {listen}", data.display()));
}

fn deploy(workspace: &Workspace, host: &Host) -> Result<(), String> {
    headline("Deploy a grain type: examples/counter, twenty lines without a word about storage");
    let module = workspace.modules().join("counter.wasm");
    let url = format!("http://{}", host.address());
    let binary = workspace.granary();
    command(&format!(
        "{} deploy {} --host {url}",
        workspace.shorten(&binary),
        workspace.shorten(&module)
    ));
    let output = std::process::Command::new(&binary)
        .arg("deploy")
        .arg(&module)
        .args(["--host", &url])
        .output()
        .map_err(|error| format!("{} can't be started: {error}", binary.display()))?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    said.lines().for_each(|line| println!("  {line}"));
    if output.status.success() {
        Ok(())
    } else {
        Err("the module could not be deployed".into())
    }
}

/// A few calls, each shown; returns what was acknowledged.
fn call_by_hand(host: &Host) -> Result<burst::Known, String> {
    headline("Call it: every key is a grain of its own, made by its first call");
    let mut known = burst::Known::default();
    for (key, n) in [("alice", 5), ("alice", 37), ("bob", 1)] {
        let value = shown_add(host, key, n)?;
        known.acknowledge(key, n);
        let (expected, _) = known.bounds(key);
        if value != expected {
            return Err(format!("{key} answered {value}, {expected} would have been right"));
        }
    }
    println!("\n  Each reply was sent after its change had reached the disk.");
    Ok(known)
}

fn shown_add(host: &Host, key: &str, n: i64) -> Result<i64, String> {
    let path = format!("/v1/grains/counter/{key}/add");
    let body = format!("{{\"n\": {n}}}");
    command(&format!("curl -X POST http://{}{path} -d '{body}'", host.address()));
    let reply = http::request(host.address(), "POST", &path, &body)?;
    println!("  {}", reply.body);
    reply.integer()
}

fn kill_in_a_burst(
    workspace: &Workspace,
    host: &mut Host,
    data: &Path,
    known: &mut burst::Known,
) -> Result<(), String> {
    headline("Kill the host without warning while 16 clients add to 100 keys");
    let report = burst::run(host, known, |pid| command(&format!("kill -9 {pid}")))?;
    println!(
        "  dead after {} acknowledged calls in {}; {} more were on their way",
        report.acknowledged,
        in_words(report.took),
        report.unanswered
    );
    headline("Start it again on the same folder");
    let listen = host.address().to_string();
    show_start(workspace, data, &listen);
    *host = Host::start(&workspace.granary(), data, &listen)?;
    println!(
        "  granary ready http://{}   (after {})",
        host.address(),
        in_words(host.start_time())
    );
    Ok(())
}

fn show_that_all_is_there(host: &Host, known: &burst::Known) -> Result<(), String> {
    headline("Every acknowledged value is there");
    let mut missing = Vec::new();
    for key in known.keys() {
        let path = format!("/v1/grains/counter/{key}/get");
        let shown = key == "alice" || key == "bob";
        if shown {
            command(&format!("curl http://{}{path}", host.address()));
        }
        let reply = http::request(host.address(), "GET", &path, "")?;
        let value = reply.integer()?;
        let (least, most) = known.bounds(key);
        let holds = (least..=most).contains(&value);
        if shown {
            println!("  {value}   {}", if holds { "✓" } else { "✗" });
        }
        if !holds {
            missing.push(format!(
                "{key} is {value}: acknowledged were {least}, at most {most} were sent"
            ));
        }
    }
    if missing.is_empty() {
        println!(
            "\n  ✓ {} keys, {} acknowledged calls, none lost",
            known.keys().count(),
            known.acknowledged()
        );
        return Ok(());
    }
    Err(format!("acknowledged values are missing:\n  {}", missing.join("\n  ")))
}

fn serve(workspace: &Workspace, mut host: Host) -> Result<(), String> {
    let url = format!("http://{}", host.address());
    let binary = workspace.shorten(&workspace.granary());
    headline(&format!("Your turn: the host goes on serving at {url}"));
    println!("  curl -X POST {url}/v1/grains/counter/alice/add -d '{{\"n\": 1}}'");
    println!("  curl {url}/v1/grains/counter");
    println!("  {binary} call counter/alice get --host {url}");
    println!("  {binary} inspect counter/alice --host {url}");
    println!("\n  Ctrl-C stops it and deletes its data.");
    let ended = host.serve_until_interrupted()?;
    match ended {
        host::Ended::Interrupted => {
            host.stop();
            println!("\n  stopped; its data is deleted");
            Ok(())
        }
        host::Ended::ByItself(status) => Err(format!("the host ended by itself: {status}")),
    }
}

/// A folder that is gone when the demo ends.
#[derive(Debug)]
struct DataFolder {
    path: std::path::PathBuf,
}

impl DataFolder {
    fn create() -> Result<DataFolder, String> {
        let path = std::env::temp_dir().join(format!("granary-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| format!("{} can't be made: {error}", path.display()))?;
        Ok(DataFolder { path })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        // A host that was told to stop a moment ago may still be writing.
        for _ in 0..20 {
            if std::fs::remove_dir_all(&self.path).is_ok() || !self.path.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("  {} could not be deleted", self.path.display());
    }
}

fn headline(text: &str) {
    println!("\n{}", bold(text));
}

fn command(text: &str) {
    println!("  $ {text}");
}

fn bold(text: &str) -> String {
    use std::io::IsTerminal;
    if std::io::stdout().is_terminal() {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
