//! A host that breaks a promise on purpose: what the tests of durability say of it proves that they could fail.
//!
//! `sabotaged up --data DIR --listen ADDR [--dirty-tracking HOW] [--cluster-listen ADDR] [--cluster-advertise ADDR] [--join TOKEN]` serves as `granary up` does, with the fault that
//! `GRANARY_SABOTAGE` names. A program of its own, so that the product has no such switch.
#![allow(clippy::print_stdout, reason = "whoever started it waits for the line on stdout")]

use std::net::SocketAddr;
use std::process::ExitCode;

use granary_host::clock;
use granary_host::config::{ClusterConfig, HostConfig};
use granary_host::host::Host;
use granary_host::snapshot::Choice;
use granary_host::threads::{self, Doom};

/// Before the name of a thread or task of the host that is to die,
const DEAD: &str = "dead-thread:";
/// and of one that is to do nothing.
const STALLED: &str = "stalled-thread:";
/// Before the path of a file: syncs of the log wait as long as it's there.
const HELD_SYNC: &str = "held-sync:";
/// Before the name of a file that says by how many seconds the clock on the wall is wrong.
const CLOCK: &str = "clock:";

fn main() -> ExitCode {
    let result = settings().and_then(|config| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(serve(config))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn settings() -> Result<HostConfig, String> {
    let mut config = HostConfig::new("");
    let mut words = std::env::args().skip(2);
    while let (Some(flag), Some(value)) = (words.next(), words.next()) {
        match flag.as_str() {
            "--data" => config.data = value.into(),
            "--listen" => config.listen = address(&value)?,
            "--cluster-listen" => config.cluster = Some(ClusterConfig::new(address(&value)?)),
            "--cluster-advertise" => match &mut config.cluster {
                Some(cluster) => cluster.advertise = Some(address(&value)?),
                None => return Err("--cluster-listen comes first".to_owned()),
            },
            "--join" => match &mut config.cluster {
                Some(cluster) => cluster.join = Some(value),
                None => return Err("--cluster-listen comes first".to_owned()),
            },
            "--cluster-join-after" => {}
            "--dirty-tracking" if value == "compare" => config.snapshot.choice = Choice::Compare,
            "--dirty-tracking" => config.snapshot.choice = Choice::Userfaultfd,
            _ => return Err(format!("unknown: {flag}")),
        }
    }
    match std::env::var("GRANARY_SABOTAGE").unwrap_or_default().as_str() {
        "no-replay" => config.storage.sabotage.no_replay = true,
        "report-before-sync" => config.storage.sabotage.report_before_sync = true,
        "no-sync" => config.storage.sabotage.no_sync = true,
        // No fault, but what a test can't make on a disk that it shares: less free space than has to stay free.
        "disk-full" => config.storage.reserve_bytes = u64::MAX / 2,
        other if other.starts_with(DEAD) => threads::doom(&other[DEAD.len()..], Doom::Death),
        other if other.starts_with(CLOCK) => clock::bend(other[CLOCK.len()..].into()),
        other if other.starts_with(STALLED) => threads::doom(&other[STALLED.len()..], Doom::Stall),
        other if other.starts_with(HELD_SYNC) => {
            config.storage.sabotage.held_sync = Some(other[HELD_SYNC.len()..].to_owned().leak());
        }
        other => return Err(format!("GRANARY_SABOTAGE={other} is no fault that there is")),
    }
    Ok(config)
}

fn address(value: &str) -> Result<SocketAddr, String> {
    value.parse().map_err(|_| format!("`{value}` is no address"))
}

async fn serve(config: HostConfig) -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let host = Host::start(config).await.map_err(|error| error.to_string())?;
    println!("granary ready {}", host.url());
    let stop = async move {
        terminate.recv().await;
    };
    host.run_until(Box::pin(stop)).await.map_err(|error| error.to_string())
}
