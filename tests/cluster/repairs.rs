//! A member whose disk was damaged: what it had acknowledged and has no longer makes it another host.

use std::path::Path;
use std::process::Command;

use granary_tests::{Cluster, built, cli, wait};

fn repair(data: &Path, words: &[&str]) -> cli::Ended {
    let mut command = Command::new(built::granary());
    cli::run(command.arg("repair").arg("--data").arg(data).args(words))
}

/// Damages the last commit of a grain in a killed host's log.
fn damage(data: &Path, key: &str) {
    let folder = data.join("log");
    let segments = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for segment in segments.filter(|path| path.extension().is_some_and(|end| end == "seg")) {
        let mut bytes = std::fs::read(&segment).unwrap();
        let found = bytes.windows(key.len()).rposition(|window| window == key.as_bytes());
        if let Some(at) = found {
            bytes[at + 2] ^= 0xff;
            std::fs::write(&segment, bytes).unwrap();
        }
    }
}

#[test]
fn a_member_that_a_repair_took_something_from_votes_no_more_and_joins_as_a_new_host() {
    const KEY: &str = "kkkkkkkk";
    let mut cluster = Cluster::start(3);
    cluster.deploy("counter");
    let path = format!("counter/{KEY}");
    let add = |cluster: &Cluster, at: usize, by: &str| cluster.hosts[at].client().call(&format!("{path}/add"), by);
    add(&cluster, 0, "[100]").expect(200);
    cluster.hosts[2].kill();
    // Only two know of it, one of which will lose it.
    wait::until("two of three go on", || {
        (add(&cluster, 0, "[0]").status == 200).then_some(())
    });
    assert_eq!(add(&cluster, 0, "[1]").integer(), 101);
    for other in 0..8 {
        // Behind it, so that it's not taken for a torn end.
        let other = format!("counter/other{other}/add");
        cluster.hosts[0].client().call(&other, "[1]").expect(200);
    }
    cluster.hosts[0].kill();
    cluster.hosts[1].kill();
    damage(&cluster.hosts[1].data(), KEY);
    let said = cluster.hosts[1].try_start().expect_err("it must not serve");
    assert!(said.contains("granary repair"), "{said}");
    let done = repair(&cluster.hosts[1].data(), &["--yes"]);
    assert!(done.ok().contains("mustn't vote"), "{}", done.stdout);
    for _ in 0..2 {
        let said = cluster.hosts[1].try_start().expect_err("it must not vote");
        assert!(said.contains("gave-up") && said.contains("--join"), "{said}");
    }
    cluster.hosts[0].start_again();
    cluster.hosts[2].start_again();
    wait::until("the other two go on", || {
        let reply = cluster.hosts[2].client().fetch(&format!("/v1/grains/{path}/get"));
        (reply.status == 200).then(|| assert_eq!(reply.integer(), 101))
    });
    cluster.wipe(1);
    wait::until("the new one serves", || {
        let reply = cluster.hosts[1].client().fetch(&format!("/v1/grains/{path}/get"));
        (reply.status == 200).then(|| assert_eq!(reply.integer(), 101))
    });
}

#[test]
fn the_last_folder_of_a_cluster_becomes_a_host_of_its_own() {
    let mut cluster = Cluster::start(2);
    cluster.deploy("counter");
    let add = |cluster: &Cluster, by: &str| cluster.hosts[0].client().call("counter/a/add", by);
    assert_eq!(add(&cluster, "[7]").integer(), 7);
    let was = cluster.id(0);
    cluster.hosts[1].kill();
    cluster.hosts[0].kill();
    repair(&cluster.hosts[0].data(), &["--as-new", "--yes"]).ok();
    cluster.hosts[0].start_again();
    let reply = cluster.hosts[0].client().fetch("/v1/grains/counter/a/get");
    assert_eq!(reply.integer(), 7);
    assert_eq!(add(&cluster, "[1]").integer(), 8);
    assert_ne!(cluster.id(0), was, "it's another host");
}
