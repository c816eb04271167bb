//! The processes that are measured: a host with deployed guests, or the reference.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::Outcome;

/// A running process that serves counters; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    command: Command,
    folder: TempDir,
}

impl Server {
    /// A host on an empty folder with these guests deployed as types of their own names; without any, the counter.
    pub(crate) fn granary(guests: &[&str]) -> Outcome<Server> {
        Server::granary_with(guests, &[])
    }

    /// The same with flags of `granary up`.
    pub(crate) fn granary_with(guests: &[&str], flags: &[&str]) -> Outcome<Server> {
        let server = Server::bare(flags)?;
        for guest in if guests.is_empty() { &["counter"] } else { guests } {
            server.deploy(guest)?;
        }
        Ok(server)
    }

    /// A host with the counter that has the first processor only. Which one the generator has is for its caller to say.
    pub(crate) fn on_first_processor() -> Outcome<Server> {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", "0"]).arg(binary()?);
        let server = Server::started_by(command, &[])?;
        server.deploy("counter")?;
        Ok(server)
    }

    /// A host that nothing is deployed on.
    pub(crate) fn bare(flags: &[&str]) -> Outcome<Server> {
        Server::started_by(Command::new(binary()?), flags)
    }

    fn started_by(mut command: Command, flags: &[&str]) -> Outcome<Server> {
        // Beside the target folder rather than in /tmp, which may be memory: syncs have to cost what they cost.
        let folder = tempfile::Builder::new()
            .prefix("granary-bench-")
            .tempdir_in(release_folder()?)?;
        command
            .args(["up", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path())
            .args(flags)
            .env("GRANARY_LOG", "error");
        Server::start(command, folder)
    }

    /// Deploys one of this repository's guests under its own name.
    pub(crate) fn deploy(&self, guest: &str) -> Outcome<()> {
        self.request("PUT", &format!("/v1/modules/{guest}"), &module(guest)?)?;
        Ok(())
    }

    /// The bare axum counter, in a process of its own, too.
    pub(crate) fn reference() -> Outcome<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("reference");
        Server::start(command, tempfile::tempdir()?)
    }

    fn start(mut command: Command, folder: TempDir) -> Outcome<Server> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let (child, address) = spawn(&mut command)?;
        Ok(Server {
            child,
            address,
            command,
            folder,
        })
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again on the same folder, after a kill.
    pub(crate) fn start_again(&mut self) -> Outcome<()> {
        (self.child, self.address) = spawn(&mut self.command)?;
        Ok(())
    }

    /// What it stores lies here.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One request; a reply that isn't 2xx is an error.
    pub(crate) fn request(&self, method: &str, path: &str, body: &[u8]) -> Outcome<String> {
        request(TcpStream::connect(self.address)?, method, path, body)
    }

    /// The same for what only the data folder's owner may do.
    pub(crate) fn request_as_owner(&self, method: &str, path: &str) -> Outcome<String> {
        let socket = self.folder().join("admin.sock");
        request(UnixStream::connect(socket)?, method, path, b"")
    }

    /// A metric with its labels, or the sum over all of them when none are named; 0 when it isn't there.
    pub(crate) fn metric(&self, name: &str) -> Outcome<f64> {
        let text = self.request("GET", "/metrics", b"")?;
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            (series == name || series.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
        });
        Ok(values.sum())
    }
}

fn request(mut stream: impl Read + Write, method: &str, path: &str, body: &[u8]) -> Outcome<String> {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").ok_or("no reply")?;
    if !head.starts_with("HTTP/1.1 2") {
        return Err(format!("{method} {path}: {reply}").into());
    }
    Ok(body.to_owned())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Binds all threads of a process to a processor.
pub(crate) fn bind(pid: u32, processor: usize) -> Outcome<()> {
    let (processor, pid) = (processor.to_string(), pid.to_string());
    let bound = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", &processor, &pid])
        .stdout(Stdio::null())
        .status();
    match bound {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("taskset can't bind a process to processor {processor}: {status}").into()),
        Err(error) => Err(format!("taskset, of util-linux, binds processes to processors: {error}").into()),
    }
}

/// Starts the process and waits until it says where it serves.
fn spawn(command: &mut Command) -> Outcome<(Child, SocketAddr)> {
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let mut lines = BufReader::new(stdout).lines();
    let address = loop {
        let line = lines.next().ok_or("it ended instead of serving")??;
        if let Some((_, address)) = line.split_once(" ready http://") {
            break address.trim().parse()?;
        }
    };
    // Reads on until it is gone: a full pipe would stop it.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Ok((child, address))
}

/// The program of a host.
fn binary() -> Outcome<PathBuf> {
    Ok(std::env::var_os("GRANARY_BIN").map_or(release_folder()?.join("granary"), PathBuf::from))
}

/// The bytes of one of this repository's guests.
pub(crate) fn module(name: &str) -> Outcome<Vec<u8>> {
    let folder =
        std::env::var_os("GRANARY_GUESTS").map_or(release_folder()?.join("../wasm32-wasip1/release"), PathBuf::from);
    let path = folder.join(format!("{}.wasm", name.replace('-', "_")));
    std::fs::read(&path).map_err(|error| format!("{}: {error}; `cargo xtask bench` builds it", path.display()).into())
}

/// The folder that this program is in.
fn release_folder() -> Outcome<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().ok_or("this program is nowhere")?.to_owned())
}
