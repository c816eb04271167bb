//! A data folder that was copied: one of both processes is taken for the host, the other one ends.

use std::path::Path;
use std::process::Command;

use granary_tests::{Cluster, Host, wait};

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_copy_beside_its_host_ends_and_an_older_one_is_refused_for_good() {
    let mut cluster = Cluster::start(3);
    cluster.deploy("counter");
    let add = |host: &Host| host.client().call("counter/a/add", "[1]").expect(200).integer();
    let mut sum = (0..3).map(|at| add(&cluster.hosts[at])).max().unwrap();
    cluster.hosts[2].stop();
    let mut second = Host::prepared(&["--cluster-listen", "127.0.0.1:0"]);
    copy(&cluster.hosts[2].data(), &second.data());
    cluster.hosts[2].start_again();
    cluster.settle();

    // Beside its host.
    if second.try_start().is_ok() {
        let ended = wait::until("the copy ends", || second.end()).to_string();
        assert!(ended.contains("exit status: 70"), "{ended}");
    }
    assert!(second.log().contains("stops"), "{}", second.log());
    for host in &mut cluster.hosts {
        assert!(!host.has_ended(), "the copy stops nobody else");
    }
    for at in 0..3 {
        sum += 1;
        assert_eq!(add(&cluster.hosts[at]), sum);
    }

    // Instead of it: what the host has acknowledged since isn't in the copy. With one host away there's no commit without it, and another
    // host hears that.
    let key = (0..).find(|key| {
        cluster.hosts[0]
            .client()
            .call(&format!("counter/k{key}/add"), "[1]")
            .expect(200);
        cluster.holder(&format!("counter/k{key}")) == 0
    });
    cluster.freeze(1, true);
    let path = format!("counter/k{}/add", key.expect("there are keys without end"));
    assert_eq!(cluster.hosts[0].client().call(&path, "[1]").expect(200).integer(), 2);
    cluster.freeze(1, false);
    cluster.hosts[2].kill();
    if second.try_start().is_ok() {
        wait::until("the old copy ends", || second.end());
    }
    let log = second.log();
    assert!(log.contains("isn't taken for its host any more"), "{log}");
    cluster.hosts[2].start_again();
    cluster.settle();
    assert_eq!(add(&cluster.hosts[2]), sum + 1);
}
