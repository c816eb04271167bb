//! Calls between grains on different hosts that wait for each other.

use std::time::{Duration, Instant};

use granary_tests::Cluster;

const ROUNDS: usize = 30;
const START: i64 = 1000;

/// Two transfers that cross can only end when one of them gives way: soon, long before its deadline.
#[test]
fn transfers_that_cross_between_hosts_end_at_once_and_no_money_is_lost_or_made() {
    let cluster = Cluster::start(3);
    cluster.hosts[0].deploy("bank");
    let mut client = cluster.hosts[0].client();
    let keys: Vec<String> = (0..12).map(|key| format!("a{key}")).collect();
    for key in &keys {
        client
            .call(&format!("bank/{key}/deposit"), &format!("[{START}]"))
            .expect(200);
    }
    let holder = |key: &String| cluster.holder(&format!("bank/{key}"));
    let one = &keys[0];
    let other = keys
        .iter()
        .find(|key| holder(key) != holder(one))
        .expect("grains are spread");
    let (mut circles, mut longest) = (0, Duration::ZERO);
    for round in 0..ROUNDS {
        let transfer = |from: &str, to: &str, at: usize| {
            let (path, body) = (format!("bank/{from}/transfer"), format!("[\"{to}\", 1]"));
            let mut client = cluster.hosts[at % 3].client();
            std::thread::spawn(move || {
                let began = Instant::now();
                let reply = client.call(&path, &body);
                (reply, began.elapsed())
            })
        };
        let both = [transfer(one, other, round), transfer(other, one, round + 1)];
        for (reply, took) in both.map(|thread| thread.join().unwrap()) {
            longest = longest.max(took);
            match reply.status {
                200 => {}
                _ => {
                    reply.problem(508, "deadlock");
                    circles += 1;
                }
            }
        }
    }
    println!(
        "{circles} of {} transfers were refused as part of a circle; the longest took {longest:?}",
        2 * ROUNDS
    );
    assert!(circles > 0, "none met: nothing was tested");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    let sum: i64 = [one, other]
        .map(|key| client.call(&format!("bank/{key}/balance"), "[]").integer())
        .iter()
        .sum();
    assert_eq!(sum, 2 * START);
}
