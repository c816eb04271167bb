//! Who can let hosts in: the voters, by the cluster's authority, which can be replaced.

use std::path::PathBuf;

use granary_tests::cli::granary;
use granary_tests::{Cluster, Host, wait};
use serde_json::Value;

fn file(host: &Host, name: &str) -> PathBuf {
    host.data().join("cluster").join(name)
}

/// Of three hosts: all of them vote.
fn until_all_have_it(cluster: &Cluster) {
    let has = |host: &Host| file(host, "authority").exists();
    wait::until("all voters have the authority", || {
        cluster.hosts.iter().all(has).then_some(())
    });
}

#[test]
fn a_host_that_does_not_vote_has_no_key_of_the_authority_and_gets_tokens_all_the_same() {
    let mut cluster = Cluster::start(2);
    assert!(file(&cluster.hosts[0], "authority").exists());
    let second = &cluster.hosts[1];
    assert!(file(second, "identity").exists() && !file(second, "authority").exists());
    let token = granary(second, &["token"]).ok().to_owned();
    cluster
        .hosts
        .push(Host::start_with(&["--cluster-listen", "127.0.0.1:0", "--join", &token]));
    cluster.settle();
    // Of three hosts all vote: none of them is the only one that can let others in.
    until_all_have_it(&cluster);
    // Also when the first host is gone, and the others start again.
    cluster.hosts[0].kill();
    cluster.hosts[1].kill();
    cluster.hosts[1].start_again();
    assert!(granary(&cluster.hosts[2], &["token"]).ok().starts_with("granary-join-"));
}

#[test]
fn a_cluster_goes_over_to_a_new_authority_without_a_failed_call() {
    let mut cluster = Cluster::start(3);
    cluster.deploy("counter");
    let add = |host: &Host| host.client().call("counter/a/add", "[1]").expect(200).integer();
    let early = cluster.token();
    for host in &cluster.hosts {
        add(host);
    }
    cluster.freeze(2, true);
    let refused = granary(&cluster.hosts[0], &["authority", "rotate"]);
    assert!(
        refused.expect(1).stderr.contains("nothing has changed"),
        "{}",
        refused.stderr
    );
    cluster.freeze(2, false);
    cluster.settle();
    // Who was frozen finds its majority again in its own time.
    wait::until("each host serves", || {
        let serves = |host: &Host| host.client().fetch("/v1/grains/counter/a/get").status == 200;
        cluster.hosts.iter().all(serves).then_some(())
    });
    until_all_have_it(&cluster);
    let before = std::fs::read(file(&cluster.hosts[1], "authority")).unwrap();
    let rotated = granary(&cluster.hosts[1], &["authority", "rotate"]);
    assert!(rotated.ok().ends_with("hosts that believe it: 3"), "{}", rotated.stdout);
    for host in &cluster.hosts {
        add(host);
    }
    assert_ne!(std::fs::read(file(&cluster.hosts[1], "authority")).unwrap(), before);
    // What an earlier one has given out lets nobody in.
    let late = Host::prepared(&["--cluster-listen", "127.0.0.1:0", "--join", &early]).try_start();
    assert!(late.unwrap_err().contains("can't be joined"));
    // All have it after a start, too.
    for host in &mut cluster.hosts {
        host.kill();
        host.start_again();
    }
    cluster.settle();
    assert_eq!(add(&cluster.hosts[2]), 7);
    cluster.join();
    cluster.settle();
}

/// One that was away while the others went over is let in again by a token, with all that it has.
#[test]
fn a_host_that_missed_a_new_authority_comes_back_by_a_token() {
    let mut cluster = Cluster::start_with(3, &["--cluster-remove-after", "5s"]);
    cluster.join();
    cluster.settle();
    let id = cluster.id(3);
    cluster.hosts[3].kill();
    wait::until("it's out of the configuration", || {
        let view = cluster.hosts[0].view();
        let members = view["members"].as_array().unwrap();
        let is_in = |member: &Value| member["host"] == id.as_str() && member["in_configuration"] == true;
        (!members.iter().any(is_in)).then_some(())
    });
    granary(&cluster.hosts[0], &["authority", "rotate"]).ok();
    let host = &mut cluster.hosts[3];
    host.start_again();
    wait::until("it's refused", || {
        cluster.hosts[0]
            .log()
            .contains("a connection was refused")
            .then_some(())
    });
    let token = cluster.token();
    let host = &mut cluster.hosts[3];
    host.kill();
    host.join_with(&token);
    host.start_again();
    host.has_logged("this host is let in again");
    cluster.settle();
}
