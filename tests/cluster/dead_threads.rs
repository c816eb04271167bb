//! A host of which one thread has died: it ends, and doesn't go on without.

use std::collections::BTreeSet;

use granary_tests::{Cluster, Host, Request, wait};

/// The host's own threads, and the tasks that stand for one.
const THREADS: [&str; 11] = [
    "checkpointer",
    "cluster",
    "cluster-journal",
    "cluster-reads",
    "disk-room",
    "interrupt-tick",
    "log-spares",
    "log-writer",
    "members",
    "memory-budget",
    "net",
];
const TASKS: [&str; 7] = [
    "idle",
    "keys",
    "net-accept",
    "net-lane",
    "net-renewal",
    "replies",
    "revisions",
];
/// Threads of libraries, and the first one: their work is lost with a request's at most. And those that write what the process says, which may
/// stall or end without any harm to what it serves.
const OTHERS: [&str; 5] = ["granary", "log", "sabotaged", "stdout", "tokio-rt-worker"];
/// Those of the store that heads are kept in, which are watched by themselves.
const STORE: &str = "sled-io-";
/// A thread's name in /proc is cut there.
const NAME_BYTES: usize = 15;
/// As docs/cluster.md says.
const EXIT_STATUS: &str = "exit status: 70";

#[test]
fn a_host_of_which_a_thread_has_died_ends() {
    let mut cluster = Cluster::start(2);
    let host = &mut cluster.hosts[1];
    assert_eq!(unknown(host), BTreeSet::new(), "threads that this test doesn't kill");
    for name in THREADS.iter().chain(&TASKS) {
        host.kill();
        host.sabotage(Some(format!("dead-thread:{name}").leak()));
        let status = match host.try_start() {
            Ok(()) => wait::until("it ends", || host.end()).to_string(),
            // Before it served.
            Err(said) => said,
        };
        assert!(status.contains(EXIT_STATUS), "{name}: {status}");
        assert!(host.log().contains("killed on purpose"), "{name}: {}", host.log());
    }
    host.sabotage(None);
    host.start_again();
    cluster.settle();
}

/// A thread that hangs ends nothing by itself; whoever asks whether the host takes calls hears of it.
#[test]
fn a_host_whose_part_in_its_cluster_hangs_is_not_ready() {
    let mut cluster = Cluster::start(2);
    let host = &mut cluster.hosts[1];
    host.kill();
    host.sabotage(Some("stalled-thread:cluster"));
    host.start_again();
    until_unready(host, "the cluster's thread");
    host.kill();
    host.sabotage(None);
    host.start_again();
    wait::until("it's ready", || {
        (host.client().fetch("/readyz").status == 200).then_some(())
    });
}

#[test]
fn a_host_whose_log_hangs_is_not_ready() {
    let mut host = Host::start();
    host.deploy("counter");
    host.kill();
    host.sabotage(Some("stalled-thread:log-writer"));
    host.start_again();
    assert_eq!(host.client().fetch("/readyz").status, 200, "nothing is to be written");
    let add = Request::new("POST", "/v1/grains/counter/a/add").header("granary-timeout", "100ms");
    let reply = host.client().send(&add.body("[1]"));
    reply.problem(504, "deadline");
    until_unready(&host, "the commit log");
}

fn until_unready(host: &Host, told: &str) {
    let reply = wait::until("it says that it isn't ready", || {
        let reply = host.client().fetch("/readyz");
        (reply.status == 503).then_some(reply)
    });
    assert!(reply.text().contains(told), "{}", reply.text());
    assert_eq!(host.client().fetch("/healthz").status, 200);
}

fn unknown(host: &Host) -> BTreeSet<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    let is_known = |name: &str| {
        let mut known = THREADS.iter().chain(&OTHERS);
        name.starts_with(STORE) || known.any(|known| known[..known.len().min(NAME_BYTES)] == *name)
    };
    names
        .map(|name| name.trim_end().to_owned())
        .filter(|name| !is_known(name))
        .collect()
}
