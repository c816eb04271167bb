//! Who gets in, and who doesn't.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use granary_tests::seed::{self, Random};
use granary_tests::{Client, Cluster, Host, Request, built, wait};

use crate::writers::{self, Writers};

#[test]
fn calls_wait_while_the_first_other_host_joins_and_none_fails() {
    let mut random = Random::new(seed::of_this_run());
    let mut cluster = Cluster::start(1);
    let host = &cluster.hosts[0];
    host.deploy("counter");
    host.deploy("probe-volatile");
    assert_eq!(host.client().call("probe-volatile/v/add", "[5]").integer(), 5);
    assert_eq!(
        host.view()["cluster"]["configuration"],
        0,
        "nobody has joined: there is nothing to agree on"
    );
    let writers = Writers::start(&cluster, 4, 4, &mut random);
    writers.until_acknowledged(200);
    writers.take_longest();
    cluster.join();
    cluster.settle();
    println!("the longest call while a host joined: {:?}", writers.take_longest());
    writers.retarget(&cluster);
    writers.until_acknowledged(200);
    assert_eq!(writers.failures(), [""; 0], "joining fails no call");
    let value = cluster.hosts[1].client().fetch("/v1/grains/probe-volatile/v/get");
    assert_eq!(value.integer(), 5, "what was in memory only is there");
    writers::check(&cluster, writers.stop());
}

#[test]
fn a_token_is_good_for_one_host_and_a_folder_with_state_joins_nothing() {
    let mut cluster = Cluster::start(1);
    let token = cluster.token();
    let joining = ["--cluster-listen", "127.0.0.1:0", "--join", &token];
    cluster.hosts.push(Host::start_with(&joining));
    let said = Host::prepared(&joining).try_start().unwrap_err();
    assert!(said.contains("used by another host"), "{said}");
    cluster.hosts[0].has_logged("a connection was refused");

    let said = Host::prepared(&["--cluster-listen", "127.0.0.1:0", "--join", &token[..80]]).try_start();
    assert!(said.unwrap_err().contains("copy all of it"));

    let mut alone = Host::start();
    alone.deploy("counter");
    alone.stop();
    alone.set_flags(&["--cluster-listen", "127.0.0.1:0", "--join", &cluster.token()]);
    let said = alone.try_start().unwrap_err();
    assert!(said.contains("join with an empty folder"), "{said}");
}

/// What has joined never takes itself for a founder, whatever else a crash has left: two configurations of one number would meet.
#[test]
fn a_host_that_crashes_while_it_joins_founds_nothing_and_stops_nobody() {
    let mut cluster = Cluster::start(1);
    cluster.deploy("counter");
    let joining = ["--cluster-listen", "127.0.0.1:0", "--join", &cluster.token()];
    let mut host = Host::prepared(&joining).sabotaged(Some("dead-thread:cluster"));
    let ended = match host.try_start() {
        Ok(()) => wait::until("it ends", || host.end()).to_string(),
        Err(said) => said,
    };
    assert!(ended.contains("exit status: 70"), "{ended}");
    // It wasn't synced.
    std::fs::remove_file(host.data().join("cluster/hosts")).unwrap();
    host.sabotage(None);
    host.start_again();
    cluster.hosts.push(host);
    cluster.settle();
    assert!(!cluster.hosts[0].has_ended() && !cluster.hosts[1].has_ended());
    assert_eq!(cluster.hosts[1].client().call("counter/a/add", "[1]").integer(), 1);
}

/// Who starts a host without a token by mistake may start it again with one, as long as there's nothing on it.
#[test]
fn a_host_that_nobody_has_joined_and_that_has_nothing_joins_another_cluster() {
    let mut cluster = Cluster::start(1);
    let mut host = Host::start_with(&["--cluster-listen", "127.0.0.1:0"]);
    host.stop();
    host.join_with(&cluster.token());
    host.start_again();
    cluster.hosts.push(host);
    cluster.settle();
}

#[test]
fn a_host_that_was_alone_becomes_a_cluster_with_what_it_has_and_never_alone_again() {
    let mut cluster = Cluster::of(|| {
        let mut host = Host::start();
        host.deploy("counter");
        for _ in 0..5 {
            host.client().call("counter/a/add", "[1]").expect(200);
        }
        host.stop();
        host.set_flags(&["--cluster-listen", "127.0.0.1:0"]);
        host.start_again();
        host
    });
    assert_eq!(cluster.hosts[0].client().call("counter/a/add", "[1]").integer(), 6);
    cluster.join();
    cluster.settle();
    assert_eq!(cluster.hosts[1].client().call("counter/a/add", "[1]").integer(), 7);
    let mut first = cluster.hosts.remove(0);
    first.stop();
    first.set_flags(&["--alone"]);
    let said = first.try_start().unwrap_err();
    assert!(said.contains("is of a host in a cluster"), "{said}");
}

#[test]
fn what_needs_a_cluster_is_refused_by_a_host_alone() {
    let host = Host::start();
    for path in ["/v1/cluster/token", "/v1/cluster/drain"] {
        let problem = host
            .owner()
            .send(&Request::new("POST", path))
            .problem(400, "bad_arguments");
        assert!(
            problem["detail"].as_str().unwrap().contains("without --alone"),
            "{problem}"
        );
    }
}

#[test]
fn a_host_that_is_told_nothing_is_a_cluster_of_one_and_prints_how_to_join_it_when_asked() {
    let mut granary = Command::new(built::granary());
    let folder = tempfile::tempdir().unwrap();
    granary
        .args(["up", "--print-token", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path());
    let mut child = granary.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.next().unwrap();
    let token = said.strip_prefix("join with: granary up --join ").unwrap();
    let url = lines.next().unwrap();
    let first = Client::new(url.strip_prefix("granary ready http://").unwrap().parse().unwrap());
    let second = Host::start_with(&["--join", token]);
    let of_two = |mut client: Client| client.fetch("/v1/cluster").value()["members"].as_array().unwrap().len() == 2;
    assert!(of_two(first) && of_two(second.client()));
    child.kill().unwrap();
    child.wait().unwrap();
}
