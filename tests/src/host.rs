//! A host as its operator runs it: `granary up` on a folder of its own and a free port.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::{built, wait};

/// Recovery reads the log: seconds at most, also on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Lines of the host's log that a failed test shows.
const LOG_LINES_SHOWN: usize = 60;

/// A host; killed when dropped. When the test fails, the end of its log is shown.
#[derive(Debug)]
pub struct Host {
    folder: TempDir,
    flags: Vec<String>,
    wrapper: Vec<String>,
    sabotage: Option<&'static str>,
    variables: Vec<(&'static str, &'static str)>,
    compiles: bool,
    child: Option<Child>,
    address: SocketAddr,
}

impl Host {
    /// Starts a host on an empty folder.
    pub fn start() -> Host {
        Host::start_with(&[])
    }

    /// Starts a host on an empty folder with more flags.
    pub fn start_with(flags: &[&str]) -> Host {
        let mut host = Host::prepared(flags);
        host.start_again();
        host
    }

    /// The same under another program, for example a tracer. Before the first start.
    pub fn wrapped(mut self, words: &[&str]) -> Host {
        self.wrapper = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// The same with a fault, see tests/sabotaged. Before the first start.
    pub fn sabotaged(mut self, fault: Option<&'static str>) -> Host {
        self.sabotage = fault;
        self
    }

    /// The same without the guests' machine code, which others begin with. Before the first start.
    pub fn compiling(mut self) -> Host {
        self.compiles = true;
        self
    }

    /// A fault for the next start, or none.
    pub fn sabotage(&mut self, fault: Option<&'static str>) {
        self.sabotage = fault;
    }

    /// Sets a variable of its environment for the next start.
    pub fn set_variable(&mut self, name: &'static str, value: &'static str) {
        self.variables.push((name, value));
    }

    /// Other flags for the next start.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    }

    /// Another value of a flag for the next start.
    pub fn set_flag(&mut self, flag: &str, value: &str) {
        let at = self.flags.iter().position(|known| known == flag).expect("it has it");
        value.clone_into(&mut self.flags[at + 1]);
    }

    /// Joins with this token at the next start, and with none that it had.
    pub fn join_with(&mut self, token: &str) {
        if let Some(at) = self.flags.iter().position(|flag| flag == "--join") {
            self.flags.drain(at..at + 2);
        }
        self.flags.extend(["--join".to_owned(), token.to_owned()]);
    }

    /// A host that isn't started yet.
    pub fn prepared(flags: &[&str]) -> Host {
        Host {
            folder: tempfile::Builder::new().prefix("granary-test-").tempdir().unwrap(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            wrapper: Vec::new(),
            sabotage: None,
            variables: Vec::new(),
            compiles: false,
            child: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }

    /// Starts it on its folder, again or for the first time.
    pub fn start_again(&mut self) {
        if let Err(said) = self.try_start() {
            panic!("the host did not start: {said}");
        }
    }

    /// Starts it; when it ends instead of serving, returns what it said.
    pub fn try_start(&mut self) -> Result<(), String> {
        assert!(self.child.is_none(), "it runs already");
        let granary = if self.sabotage.is_some() {
            built::sabotaged()
        } else {
            built::granary()
        };
        if !self.compiles && !self.data().exists() {
            self.take_machine_code();
        }
        let mut words = self
            .wrapper
            .iter()
            .map(String::as_str)
            .chain([granary.to_str().unwrap()]);
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .envs(self.variables.iter().copied())
            .envs(self.sabotage.map(|fault| ("GRANARY_SABOTAGE", fault)))
            .arg("up")
            .arg("--data")
            .arg(self.data())
            .args(if self.flags.iter().any(|flag| flag == "--listen") {
                &[][..]
            } else {
                &["--listen", "127.0.0.1:0"]
            })
            .args(&self.flags)
            .args(if self.is_alone() { &["--alone"][..] } else { &[] })
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.try_clone().unwrap())
            .spawn()
            .unwrap();
        let address = ready_address(&mut child, log);
        self.child = Some(child);
        match address {
            Some(address) => {
                self.address = address;
                Ok(())
            }
            None => {
                let status = self.child.take().map(|mut child| {
                    child.kill().unwrap();
                    child.wait().unwrap().to_string()
                });
                Err(format!("{}it ended: {}", self.log(), status.unwrap_or_default()))
            }
        }
    }

    /// Has the guests compiled, as a host has that knows these modules.
    fn take_machine_code(&self) {
        let Some(made) = built::compiled() else { return };
        let own = self.data().join("compiled");
        std::fs::create_dir_all(&own).unwrap();
        for file in std::fs::read_dir(made).unwrap() {
            let file = file.unwrap();
            // With its mode: a key that others may read is none.
            std::fs::copy(file.path(), own.join(file.file_name())).unwrap();
        }
    }

    /// Unless something is said of a cluster: most tests are of one host.
    fn is_alone(&self) -> bool {
        let says_it = |flag: &String| flag.starts_with("--cluster") || flag == "--join" || flag == "--alone";
        self.sabotage.is_none() && !self.flags.iter().any(says_it)
    }

    /// SIGKILL; returns when it's gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Under a tracer the host is the tracer's child, and the tracer ends with it.
            match traced(child.id()) {
                Some(pid) if !self.wrapper.is_empty() => signal(pid, "KILL"),
                _ => child.kill().unwrap(),
            }
            child.wait().unwrap();
        }
    }

    /// SIGTERM; returns how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let pid = if self.wrapper.is_empty() {
            child.id()
        } else {
            traced(child.id()).unwrap_or(child.id())
        };
        signal(pid, "TERM");
        let deadline = Instant::now() + wait::PATIENCE;
        loop {
            match child.try_wait().unwrap() {
                Some(status) => return status,
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                None => {
                    self.child = Some(child);
                    panic!("the host ignores SIGTERM");
                }
            }
        }
    }

    /// Removes all that it has kept. Between a stop and a start.
    pub fn wipe(&mut self) {
        assert!(self.child.is_none(), "it runs");
        std::fs::remove_dir_all(self.data()).unwrap();
    }

    /// Whether it was started and not ended since.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it was started and its process is gone, by nobody's wish.
    pub fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| child.try_wait().unwrap().is_some())
    }

    /// How it ended, if its process is gone by nobody's wish.
    pub fn end(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status)
    }

    /// A sender of SIGKILL that another thread can use while clients are at work.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A new connection.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// A client that may do everything.
    pub fn owner(&self) -> Client {
        Client::of_owner(self.address(), self.data().join("admin.sock"))
    }

    /// Deploys one of this repository's guests under its own name.
    pub fn deploy(&self, guest: &str) {
        let reply = self.client().deploy(guest, &built::module_bytes(guest));
        assert!(
            [200, 201].contains(&reply.status),
            "deploy of {guest}: {}",
            reply.text()
        );
    }

    /// What it says of itself at `/v1/cluster`.
    pub fn view(&self) -> Value {
        self.client().fetch("/v1/cluster").value()
    }

    /// A figure of `/metrics`: the sum over all labels of the metric with this name.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.client().fetch("/metrics").expect(200).text();
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().unwrap())
        });
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// How often a counter with a label `code` has counted this one.
    pub fn counted(&self, name: &str, code: &str) -> u64 {
        let text = self.client().fetch("/metrics").expect(200).text();
        let series = format!("{name}{{code=\"{code}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The log's segment with the most in it. Which one a host begins with is left to its threads: others lie ready beside it.
    pub fn fullest_segment(&self) -> PathBuf {
        let files = std::fs::read_dir(self.data().join("log"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let used = |file: &PathBuf| std::fs::read(file).unwrap().iter().filter(|byte| **byte != 0).count();
        let segments = files.filter(|file| file.extension().is_some_and(|extension| extension == "seg"));
        segments.max_by_key(used).unwrap()
    }

    /// A folder for what a test needs besides.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Waits until it has logged this: the log is written behind what a host does, by a thread of its own.
    pub fn has_logged(&self, text: &str) {
        wait::until(&format!("`{text}` is in the host's log"), || {
            self.log().contains(text).then_some(())
        });
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("host.log")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            println!("--- the end of the host's log\n{}\n---", shown.join("\n"));
        }
    }
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status()
        .unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// The first child of a process.
fn traced(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Waits for the line `granary ready http://ADDR`; `None` when the host ends first.
fn ready_address(child: &mut Child, mut log: File) -> Option<SocketAddr> {
    let stdout = child.stdout.take().unwrap();
    let (sender, receiver) = mpsc::sync_channel(1);
    // Reads on until the host is gone: a full pipe would stop it.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            match line.strip_prefix("granary ready http://") {
                Some(address) => drop(sender.try_send(address.trim().parse::<SocketAddr>().unwrap())),
                None => drop(writeln!(log, "stdout: {line}")),
            }
        }
    });
    match receiver.recv_timeout(START_LIMIT) {
        Ok(address) => Some(address),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => {
            let _ = child.kill();
            panic!("the host neither served nor ended within {START_LIMIT:?}");
        }
    }
}
