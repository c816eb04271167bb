//! Deleted grains: they stay deleted, and their keys can be used again, whatever crashes in between.

use granary_tests::{Client, Cluster, Host, Request, wait};

/// The value of a counter once somebody answers for it.
fn value(client: &mut Client, key: &str) -> i64 {
    let get = Request::new("GET", format!("/v1/grains/counter/{key}/get"));
    wait::until("the grain answers", || {
        let reply = client.send(&get);
        (reply.status == 200).then(|| reply.integer())
    })
}

/// Adds, and leaves no reply for a repeat that would be kept beyond a deletion.
fn add_unrepeatably(client: &mut Client, key: &str, n: i64) -> i64 {
    client.call(&format!("counter/{key}/add"), &format!("[{n}]")).integer()
}

/// Adds once, however often that has to be asked.
fn add(client: &mut Client, key: &str, n: i64, once: &str) -> i64 {
    let add = Request::new("POST", format!("/v1/grains/counter/{key}/add"))
        .header("idempotency-key", once)
        .body(format!("[{n}]"));
    wait::until("the commit is acknowledged", || {
        let reply = client.send(&add);
        (reply.status == 200).then(|| reply.integer())
    })
}

fn delete(client: &mut Client, key: &str) {
    send_deletion(client, &Request::new("DELETE", format!("/v1/grains/counter/{key}")));
}

/// Deletes once, however often that has to be asked.
fn delete_once(client: &mut Client, key: &str, once: &str) {
    let delete = Request::new("DELETE", format!("/v1/grains/counter/{key}"));
    send_deletion(client, &delete.header("idempotency-key", once));
}

fn send_deletion(client: &mut Client, delete: &Request<'_>) {
    wait::until("the deletion is acknowledged", || {
        (client.send(delete).status == 204).then_some(())
    });
}

/// A host that is told nothing is a cluster of one; one that is alone may become that later.
#[test]
fn a_key_that_was_deleted_is_used_again_after_a_crash() {
    let one = ["--cluster-listen", "127.0.0.1:0"];
    let starts: [(&[&str], &[&str]); 3] = [(&one, &one), (&["--alone"], &one), (&["--alone"], &["--alone"])];
    for (first, later) in starts {
        let mut host = Host::start_with(first);
        host.deploy("counter");
        assert_eq!(add_unrepeatably(&mut host.client(), "alice", 30), 30);
        assert_eq!(add(&mut host.client(), "bob", 1, "b"), 1);
        delete(&mut host.client(), "alice");
        host.kill();
        host.set_flags(later);
        host.start_again();
        assert_eq!(value(&mut host.client(), "alice"), 0, "{first:?}, {later:?}");
        assert_eq!(add(&mut host.client(), "alice", 1, "c"), 1);
        assert_eq!(value(&mut host.client(), "bob"), 1);
        // Twice, so that both the log and what a close in good order makes of it are read.
        for ends_well in [false, true, false] {
            if ends_well {
                assert!(host.stop().success());
            } else {
                host.kill();
            }
            host.start_again();
            assert_eq!(value(&mut host.client(), "alice"), 1, "{first:?}, {later:?}");
        }
    }
}

/// All hosts of a cluster crash at once between the deletion and the key's next use.
#[test]
fn what_three_hosts_have_deleted_stays_deleted_when_all_of_them_crash() {
    let mut cluster = Cluster::start(3);
    cluster.deploy("counter");
    for number in 0..6 {
        let (key, client) = (format!("k{number}"), &mut cluster.hosts[number % 3].client());
        // Of some, replies are kept for repeats.
        if number % 2 == 0 {
            add(client, &key, 5, &key);
        } else {
            add_unrepeatably(client, &key, 5);
        }
        delete(client, &key);
    }
    for round in 0..2 {
        cluster.hosts.iter_mut().for_each(Host::kill);
        cluster.hosts.iter_mut().for_each(Host::start_again);
        for number in 0..6 {
            let (key, client) = (format!("k{number}"), &mut cluster.hosts[(number + round) % 3].client());
            // The second half is used again from the first round on.
            let expected = if number < 3 { 0 } else { round as i64 };
            assert_eq!(value(client, &key), expected, "{key} in round {round}");
            if number >= 3 {
                add(client, &key, 1, &format!("{key}-{round}"));
            }
        }
    }
}

/// By any of the hosts, and after the one that carried it out has failed.
#[test]
fn a_repeated_deletion_deletes_nothing_that_came_after_the_first_in_a_cluster() {
    let mut cluster = Cluster::start(3);
    cluster.deploy("counter");
    let keys: Vec<String> = (0..6).map(|number| format!("k{number}")).collect();
    for (number, key) in keys.iter().enumerate() {
        let client = &mut cluster.hosts[number % 3].client();
        add(client, key, 5, "before");
        delete_once(client, key, "k");
        assert_eq!(add(client, key, 7, "after"), 7);
    }
    for failing in 0..3 {
        cluster.hosts[failing].kill();
        for key in &keys {
            let client = &mut cluster.hosts[(failing + 1) % 3].client();
            delete_once(client, key, "k");
            assert_eq!(add(client, key, 5, "before"), 5, "the reply of then");
            assert_eq!(value(client, key), 7, "{key}, without host {failing}");
        }
        cluster.hosts[failing].start_again();
        cluster.settle();
    }
}

/// What commits nothing and still says something of a grain's state needs a majority, too: the grain may be somebody else's by now.
#[test]
fn a_host_without_a_majority_says_nothing_of_a_state() {
    let cluster = Cluster::start(3);
    cluster.deploy("counter");
    let client = &mut cluster.hosts[0].client();
    // Both are active on the host that will be cut off.
    for key in ["gone", "there"] {
        add(client, key, 5, key);
        let order = format!(r#"{{"type":"counter","key":"{key}","host":"{}"}}"#, cluster.id(0));
        let moved = cluster.hosts[0]
            .owner()
            .send(&Request::new("POST", "/v1/cluster/move").body(order));
        moved.expect(200);
    }
    delete(client, "gone");
    assert_eq!(value(client, "gone"), 0);
    cluster.freeze(1, true);
    cluster.freeze(2, true);
    let hurried = |method, path: &str| Request::new(method, path).header("granary-timeout", "1s");
    let deletion = hurried("DELETE", "/v1/grains/counter/gone");
    let repeat = hurried("POST", "/v1/grains/counter/there/add")
        .header("idempotency-key", "there")
        .body("[5]");
    for request in [deletion, repeat] {
        let reply = client.send(&request);
        assert!([503, 504].contains(&reply.status), "{} {}", reply.status, reply.text());
    }
    cluster.freeze(1, false);
    cluster.freeze(2, false);
    cluster.settle();
    assert_eq!(add(client, "there", 5, "there"), 5, "the stored reply");
    delete(client, "gone");
}
