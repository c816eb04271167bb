//! A host of xtask's own: started, killed, started again, stopped.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a start may take: recovery reads the log, so seconds at most.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a host may take to finish what it has begun before it's killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Why serving ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Ctrl-C or SIGTERM came.
    Interrupted,
    /// The host is gone.
    ByItself(ExitStatus),
}

/// A running host; killed when dropped.
#[derive(Debug)]
pub(crate) struct Host {
    child: Child,
    address: SocketAddr,
    start_time: Duration,
}

impl Host {
    /// Starts a host and waits until it serves.
    pub(crate) fn start(binary: &Path, data: &Path, listen: &str) -> Result<Host, String> {
        let started = Instant::now();
        let mut child = Command::new(binary)
            .arg("up")
            .arg("--data")
            .arg(data)
            .args(["--listen", listen])
            // The host's own log would drown what is shown here; what goes wrong still is.
            .env("GRANARY_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} can't be started: {error}", binary.display()))?;
        match ready_address(&mut child) {
            Ok(address) => Ok(Host {
                child,
                address,
                start_time: started.elapsed(),
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How long it took until it served.
    pub(crate) fn start_time(&self) -> Duration {
        self.start_time
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .map_err(|error| format!("kill: {error}"))
    }

    /// Waits for Ctrl-C, SIGTERM, or the end of the host.
    pub(crate) fn serve_until_interrupted(&mut self) -> Result<Ended, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("signals can't be waited for: {error}"))?;
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
            let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
            let mut child = signal(SignalKind::child()).map_err(|error| error.to_string())?;
            loop {
                if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                    return Ok(Ended::ByItself(status));
                }
                tokio::select! {
                    _ = interrupt.recv() => return Ok(Ended::Interrupted),
                    _ = terminate.recv() => return Ok(Ended::Interrupted),
                    _ = child.recv() => {}
                }
            }
        })
    }

    /// Lets it finish, then waits until it's gone.
    pub(crate) fn stop(&mut self) {
        let _ = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.pid())])
            .status();
        let asked = Instant::now();
        while asked.elapsed() < STOP_LIMIT {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                _ => return,
            }
        }
        let _ = self.kill();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Waits for the line `granary ready http://ADDR`.
fn ready_address(child: &mut Child) -> Result<SocketAddr, String> {
    let stdout = child.stdout.take().ok_or("the host has no stdout")?;
    let (sender, receiver) = mpsc::sync_channel(1);
    // Reads on until the host is gone: a full pipe would stop it.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("granary ready http://") {
                let _ = sender.try_send(address.trim().to_owned());
            }
        }
    });
    let address = receiver
        .recv_timeout(START_LIMIT)
        .map_err(|_| "the host did not say that it's ready".to_owned())?;
    address
        .parse()
        .map_err(|_| format!("the host's address is not understood: {address}"))
}
