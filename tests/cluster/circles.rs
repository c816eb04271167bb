//! Calls between grains on different hosts that wait for each other: one of each circle is told so, long before its deadline.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use granary_tests::occupied::{Occupied, occupy, queued};
use granary_tests::{Cluster, Host, Reply, Request, soak, wait};
use serde_json::{Value, json};

/// Within this time a circle is told, by the median of several: a single one may meet a machine that is busy with something else.
/// Measured in soak; in an ordinary run the code tells, since a circle that isn't found ends with the deadline and its code.
const TOLD: Duration = Duration::from_millis(300);
/// So many transfers that met are enough to have a median,
const CIRCLES: usize = 15;
/// and in so many rounds there are as many on any machine.
const ROUNDS: usize = 200;
const START: i64 = 1000;

/// Two transfers that cross can only end when one of them gives way: soon, long before its deadline.
#[test]
fn transfers_that_cross_between_hosts_end_at_once_and_no_money_is_lost_or_made() {
    let cluster = Cluster::start(3);
    cluster.deploy("bank");
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
    let (mut told, mut rounds) = (Vec::new(), 0);
    while told.len() < CIRCLES && rounds < ROUNDS {
        let transfer = |from: &str, to: &str, at: usize| {
            let (path, body) = (format!("bank/{from}/transfer"), json!([to, 1]));
            call_in_background(&cluster.hosts[at % 3], path, &body)
        };
        let both = [transfer(one, other, rounds), transfer(other, one, rounds + 1)];
        rounds += 1;
        for (reply, began, ended) in both.map(|thread| thread.join().unwrap()) {
            if reply.status != 200 {
                reply.problem(508, "deadlock");
                told.push(ended - began);
            }
        }
    }
    assert!(told.len() >= CIRCLES, "{} met in {rounds} rounds", told.len());
    assert_told_at_once(told);
    let sum: i64 = [one, other]
        .map(|key| client.call(&format!("bank/{key}/balance"), "[]").integer())
        .iter()
        .sum();
    assert_eq!(sum, 2 * START);
}

#[test]
fn a_circle_over_two_hosts_is_found_once_and_told_at_once() {
    close_circles(2);
}

#[test]
fn a_circle_over_three_hosts_is_found_once_and_told_at_once() {
    close_circles(3);
}

/// On each host a grain calls one beside it, which calls the first one of the next host. The latter ones are busy until all others wait,
/// so the circle closes every time: then one of the calls in it has to fail, and only one.
fn close_circles(hosts: usize) {
    let cluster = Cluster::start(3);
    cluster.deploy("probe");
    let mut places = Places::new(&cluster);
    let mut told = Vec::new();
    // Which of a circle's calls is the one that fails depends on its grains: other ones each time.
    for round in 0..12 {
        let [firsts, seconds] = [0, 1].map(|_| (0..hosts).map(|host| places.take(host)).collect::<Vec<String>>());
        let busy: Vec<Occupied> = seconds.iter().map(|key| occupy(&cluster.hosts[0], key)).collect();
        let call = |host: usize| {
            let next = json!(["probe", firsts[(host + 1) % hosts], "add", [1]]);
            let path = format!("probe/{}/call", firsts[host]);
            call_in_background(
                &cluster.hosts[round % 3],
                path,
                &json!(["probe", seconds[host], "call", next]),
            )
        };
        let calls: Vec<_> = (0..hosts).map(call).collect();
        let closed = close(&cluster, &seconds, busy);
        let mut codes = Vec::new();
        for call in calls {
            let (reply, _, ended) = call.join().unwrap();
            let outcome = reply.value()["value"].take();
            codes.push(outcome["code"].as_str().unwrap().to_owned());
            if outcome["code"] == "deadlock" {
                told.push(ended.saturating_duration_since(closed));
            }
        }
        codes.sort();
        let mut expected = vec!["deadlock"];
        expected.resize(hosts, "ok");
        assert_eq!(codes, expected, "round {round}: {told:?}");
        for (host, key) in firsts.iter().chain(&seconds).enumerate() {
            assert_eq!(cluster.holder(&format!("probe/{key}")), host % hosts);
        }
    }
    assert_told_at_once(told);
}

/// A grain that has moved is called by way of the host that had it, which knows where it went: a call that waits there is found, too.
#[test]
fn a_circle_with_a_call_that_was_passed_on_is_told_at_once() {
    let cluster = Cluster::start(3);
    cluster.deploy("probe");
    let mut places = Places::new(&cluster);
    let ids: Vec<String> = (0..3).map(|at| cluster.id(at)).collect();
    let mut told = Vec::new();
    for round in 0..10 {
        let [one, other] = [0, 1].map(|host| places.take(host));
        let [busy_one, busy_other] = [0, 2].map(|host| places.take(host));
        let mut client = cluster.hosts[0].client();
        let call = |from: &str, through: &str, to: &str| {
            let call = json!(["probe", through, "call", ["probe", to, "add", [1]]]);
            call_in_background(&cluster.hosts[round % 3], format!("probe/{from}/call"), &call)
        };
        // The first host remembers where the other grain is, and isn't told that it moves.
        client
            .call(
                &format!("probe/{one}/call"),
                &json!(["probe", other, "get", []]).to_string(),
            )
            .expect(200);
        let to = json!({ "type": "probe", "key": other, "host": ids[2] }).to_string();
        let moved = Request::new("POST", "/v1/cluster/move").body(to);
        cluster.hosts[1].owner().send(&moved).expect(200);
        let busy = [&busy_one, &busy_other].map(|key| occupy(&cluster.hosts[0], key));
        let calls = [call(&one, &busy_one, &other), call(&other, &busy_other, &one)];
        let closed = close(&cluster, &[busy_one, busy_other], busy.into());
        for (reply, _, ended) in calls.map(|call| call.join().unwrap()) {
            if reply.value()["value"]["code"] == "deadlock" {
                told.push(ended.saturating_duration_since(closed));
            }
        }
        assert_eq!(told.len(), round + 1, "{told:?}");
    }
    assert_told_at_once(told);
}

/// Lets the busy grains at these keys go on once each is called, and says when the last of them has: then the circle is closed.
fn close(cluster: &Cluster, keys: &[String], busy: Vec<Occupied>) -> Instant {
    let mut client = cluster.hosts[0].client();
    for key in keys {
        wait::until_equal("the busy grain is called", 1, || queued(&mut client, key));
    }
    busy.into_iter().for_each(Occupied::release);
    Instant::now()
}

/// By how long it took until each of some circles was told.
pub(crate) fn assert_told_at_once(mut told: Vec<Duration>) {
    told.sort();
    let (median, longest) = (told[told.len() / 2], *told.last().unwrap());
    let figure = format!(
        "{} circles were told, the median after {median:?}, the last after {longest:?}",
        told.len()
    );
    soak::measured(&figure, median <= TOLD);
}

/// Calls, and says when it began and ended.
fn call_in_background(host: &Host, path: String, body: &Value) -> JoinHandle<(Reply, Instant, Instant)> {
    let (mut client, body) = (host.client(), body.to_string());
    std::thread::spawn(move || {
        let began = Instant::now();
        let reply = client.call(&path, &body);
        (reply, began, Instant::now())
    })
}

/// Probes that nobody has called yet, by the host that they will be on.
pub(crate) struct Places<'a> {
    cluster: &'a Cluster,
    ids: Vec<String>,
    free: Vec<Vec<String>>,
    named: usize,
}

impl<'a> Places<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Places<'a> {
        let hosts = cluster.hosts.len();
        Places {
            cluster,
            ids: (0..hosts).map(|at| cluster.id(at)).collect(),
            free: vec![Vec::new(); hosts],
            named: 0,
        }
    }

    /// The key of another one on this host.
    pub(crate) fn take(&mut self, host: usize) -> String {
        let mut client = self.cluster.hosts[0].client();
        loop {
            if let Some(key) = self.free[host].pop() {
                return key;
            }
            let key = format!("p{}", self.named);
            self.named += 1;
            let status = client.fetch(&format!("/v1/grains/probe/{key}")).value();
            let at = self.ids.iter().position(|id| status["host"] == id.as_str());
            self.free[at.unwrap()].push(key);
        }
    }
}
