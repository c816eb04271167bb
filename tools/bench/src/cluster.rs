//! What a cluster costs: a committed call on a host alone, on one that nobody has joined, and in a cluster of three on this machine, where two of three
//! calls are passed on to another host and each commit goes to all three.
//!
//! All hosts and the load generator share the processors, so rates say little; processor time and bytes for each call say what a cluster adds.

use std::time::Duration;

use serde_json::Value;

use crate::Outcome;
use crate::host::Server;
use crate::load::{self, Call, Load, Until};

const KEYS: usize = 200;
/// How long a cluster may take to come together.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long hosts are watched while nobody calls.
const IDLE: Duration = Duration::from_secs(5);

/// Prints a row for each kind of host and number of connections.
pub(crate) fn measure(is_quick: bool) -> Outcome<()> {
    let time = Duration::from_secs(if is_quick { 1 } else { 6 });
    println!("| hosts | connections | calls/s | p50 ms | p99 ms | processor us a call | bytes between hosts a call |");
    println!("|---|---|---|---|---|---|---|");
    let alone = vec![Server::granary_with(&[], &["--alone"])?];
    row("1, alone", &alone, time)?;
    drop(alone);
    let one = cluster(1)?;
    row("1, that nobody has joined", &one, time)?;
    drop(one);
    let three = cluster(3)?;
    row("3, a cluster", &three, time)?;
    let before = total(&three, "granary_cluster_sent_bytes_total")?;
    std::thread::sleep(IDLE);
    let sent = total(&three, "granary_cluster_sent_bytes_total")? - before;
    println!(
        "\nthree hosts with {KEYS} grains in memory and no calls: {:.0} bytes/s sent by each\n",
        sent / 3.0 / IDLE.as_secs_f64()
    );
    Ok(())
}

/// Prints how often calls to three hosts in steady state were passed on.
pub(crate) fn measure_hops(is_quick: bool) -> Outcome<()> {
    let calls = if is_quick { 20_000.0 } else { 1_000_000.0 };
    let three = cluster(3)?;
    let call = Call::add("counter", "key-");
    load::touch(three[0].address(), &call, KEYS)?;
    let load = Load {
        to: three[0].address(),
        call,
        connections: 32,
        keys: KEYS,
        until: Until::Passed {
            warm_up: Duration::ZERO,
            time: Duration::from_secs(2),
        },
    };
    let before = arrivals(&three)?;
    let mut hops = vec![0.0; before.len()];
    while hops.iter().sum::<f64>() < calls {
        load::run(&load)?;
        let after = arrivals(&three)?;
        hops = after
            .iter()
            .zip(&before)
            .map(|(after, before)| after - before)
            .collect();
    }
    println!(
        "of {:.0} calls to one of three hosts {:.0} were passed on never, {:.0} once, {:.0} twice, {:.0} three times; {:.0} were sent again\n",
        hops.iter().sum::<f64>(),
        hops[0],
        hops[1],
        hops[2],
        hops[3],
        total(&three, "granary_cluster_resent_total")?
    );
    Ok(())
}

/// Requests that have reached their grain's host, by how often they were passed on.
fn arrivals(hosts: &[Server]) -> Outcome<Vec<f64>> {
    let hops = ["0", "1", "2", "3"];
    hops.iter()
        .map(|hops| total(hosts, &format!("granary_cluster_arrivals_total{{hops=\"{hops}\"}}")))
        .collect()
}

fn row(name: &str, hosts: &[Server], time: Duration) -> Outcome<()> {
    let call = Call::add("counter", "key-");
    load::touch(hosts[0].address(), &call, KEYS)?;
    for connections in [1, 32] {
        let load = Load {
            to: hosts[0].address(),
            call: call.clone(),
            connections,
            keys: KEYS,
            until: Until::Passed {
                warm_up: Duration::from_millis(500),
                time,
            },
        };
        let (cpu, sent) = (processor_us(hosts)?, total(hosts, "granary_cluster_sent_bytes_total")?);
        let measured = load::run(&load)?;
        let cpu = processor_us(hosts)? - cpu;
        let sent = total(hosts, "granary_cluster_sent_bytes_total")? - sent;
        // The warm-up's calls cost, too: the same rate is presumed for them.
        let calls = measured.rate() * (time + Duration::from_millis(500)).as_secs_f64();
        println!(
            "| {name} | {connections} | {:.0} | {:.2} | {:.2} | {:.0} | {:.0} |",
            measured.rate(),
            measured.quantile_ms(0.5),
            measured.quantile_ms(0.99),
            cpu / calls,
            sent / calls,
        );
    }
    Ok(())
}

/// So many hosts, all in the configuration.
fn cluster(count: usize) -> Outcome<Vec<Server>> {
    const LISTEN: [&str; 2] = ["--cluster-listen", "127.0.0.1:0"];
    let mut hosts = vec![Server::bare(&LISTEN)?];
    for _ in 1..count {
        let token: Value = serde_json::from_str(&hosts[0].request_as_owner("POST", "/v1/cluster/token")?)?;
        let token = token["token"].as_str().ok_or("no token")?.to_owned();
        hosts.push(Server::bare(&[&LISTEN[..], &["--join", &token]].concat())?);
    }
    let limit = std::time::Instant::now() + PATIENCE;
    while !hosts.iter().all(|host| is_settled(host, count).unwrap_or(false)) {
        if std::time::Instant::now() > limit {
            return Err("the hosts don't come together".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    hosts[0].deploy("counter")?;
    Ok(hosts)
}

fn is_settled(host: &Server, count: usize) -> Outcome<bool> {
    let view: Value = serde_json::from_str(&host.request("GET", "/v1/cluster", b"")?)?;
    let members = view["members"].as_array().ok_or("no members")?;
    let are_in = members
        .iter()
        .filter(|member| member["in_configuration"] == true)
        .count();
    Ok(are_in == count && view["cluster"]["slots_arriving"] == 0)
}

fn total(hosts: &[Server], metric: &str) -> Outcome<f64> {
    hosts.iter().map(|host| host.metric(metric)).sum()
}

/// Processor time of all hosts.
fn processor_us(hosts: &[Server]) -> Outcome<f64> {
    let mut ticks = 0.0;
    for host in hosts {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", host.pid()))?;
        // Behind the name, which may hold anything: user and system time are the 12th and 13th field.
        let (_, fields) = stat.rsplit_once(") ").ok_or("no fields")?;
        ticks += fields
            .split(' ')
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum::<f64>();
    }
    // The kernel counts in hundredths of a second.
    Ok(ticks * 10_000.0)
}
