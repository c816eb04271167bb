//! What the membership promises, on a network in virtual time. With `--nocapture` the tests print their figures.
#![allow(clippy::print_stdout, reason = "figures are shown when somebody asks for them")]

mod net;

use self::net::{MILLI, Net, SECOND, address, host_id, percentile};
use super::{Identity, Input, Membership, Output, Refusal, Settings, Standing};

#[test]
fn hosts_find_one_another_by_one_seed() {
    for count in [2, 3, 10, 50] {
        let mut net = Net::new(count, 1);
        let took = net.run_until(10 * SECOND, Net::is_one);
        assert!(took.is_some_and(|nanos| nanos < 5 * SECOND), "{count} hosts: {took:?}");
    }
}

#[test]
fn a_host_alone_waits_for_others_and_finds_the_one_that_comes_later() {
    let mut net = Net::new(2, 1);
    net.crash(0);
    net.run(20 * SECOND);
    net.restart(0);
    assert!(net.run_until(3 * SECOND, Net::is_one).is_some());
}

#[test]
fn a_crash_is_seen_by_all_within_four_and_a_half_seconds() {
    let mut times = Vec::new();
    for seed in 0..14 {
        let mut net = Net::settled(30, seed);
        for victim in 0..15 {
            net.crash(victim);
            let took = net.run_until(30 * SECOND, |net| net.all_see(victim, Standing::Down));
            times.push(took.expect("nobody stays alive for ever in a view") / MILLI);
            net.restart(victim);
            assert!(net.run_until(10 * SECOND, Net::is_one).is_some());
            net.run(5 * SECOND);
        }
    }
    let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
    println!("a crash is seen by all 30: p50 {p50} ms, p99 {p99} ms");
    assert!(p99 <= 4_500, "p50 {p50} ms, p99 {p99} ms");
}

#[test]
fn the_first_suspicion_of_a_dead_host_comes_within_one_period_and_a_half() {
    let mut times = Vec::new();
    for seed in 0..4 {
        let mut net = Net::settled(100, seed);
        for victim in 0..50 {
            let wait = net.rng.below(SECOND);
            net.run(wait);
            net.crash(victim);
            let took = net.run_until(10 * SECOND, |net| net.one_sees(victim, Standing::Suspect));
            times.push(took.unwrap() / MILLI);
            net.restart(victim);
            net.run(2 * SECOND);
        }
    }
    let p50 = percentile(&mut times, 50);
    println!(
        "the first suspicion among 100: p50 {p50} ms, {:.2} periods",
        p50 as f64 / 500.0
    );
    assert!(p50 <= 800, "p50 {p50} ms");
}

#[test]
fn a_leave_is_seen_as_a_leave_within_half_a_second() {
    for seed in 0..20 {
        let mut net = Net::settled(30, seed);
        net.loss_permille = 50;
        net.input(3, Input::Leave);
        let took = net.run_until(SECOND, |net| net.all_see(3, Standing::Left));
        assert!(took.is_some_and(|nanos| nanos <= 500 * MILLI), "seed {seed}: {took:?}");
        net.run(SECOND);
        assert!(net.hosts[3].gone && net.hosts[3].machine.deadline().is_none());
        assert_eq!(net.deaths_but_of(&[]), 0, "nobody is called dead for it");
    }
}

#[test]
fn a_host_that_stops_is_called_down_at_once_and_comes_back_by_its_next_start() {
    for seed in 0..20 {
        let mut net = Net::settled(30, seed);
        net.loss_permille = 50;
        net.input(3, Input::Stop);
        let took = net.run_until(SECOND, |net| net.all_see(3, Standing::Down));
        assert!(took.is_some_and(|nanos| nanos <= 500 * MILLI), "seed {seed}: {took:?}");
        net.run(20 * SECOND);
        assert!(net.hosts[3].gone && net.hosts[3].machine.deadline().is_none());
        assert_eq!(net.hosts[3].renewals, 0, "it doesn't object");
        assert!(net.all_see(3, Standing::Down));
        net.restart(3);
        assert!(net.run_until(3 * SECOND, Net::is_one).is_some());
    }
}

#[test]
fn a_host_that_left_comes_back_by_its_next_start() {
    let mut net = Net::settled(5, 1);
    net.input(3, Input::Leave);
    net.run(10 * SECOND);
    assert!(net.all_see(3, Standing::Left), "nobody calls it back");
    net.restart(3);
    assert!(net.run_until(3 * SECOND, Net::is_one).is_some());
}

#[test]
fn a_fast_restart_shows_as_the_death_of_the_earlier_start() {
    let mut net = Net::settled(5, 1);
    net.crash(3);
    net.run(100 * MILLI);
    net.restart(3);
    assert!(
        net.run_until(2 * SECOND, |net| net.all_see(3, Standing::Alive))
            .is_some()
    );
    net.run(3 * SECOND);
    for viewer in [0, 1, 2, 4] {
        let deaths = net.hosts[viewer].changes.iter().filter(|(_, change)| change.is_death());
        let deaths: Vec<_> = deaths
            .map(|(_, change)| (change.now.host, change.now.incarnation))
            .collect();
        assert_eq!(deaths, [(host_id(3), 2)], "viewer {viewer}");
    }
}

#[test]
fn a_host_that_hears_of_its_own_later_start_is_over_at_once() {
    for seed in 0..20 {
        let mut net = Net::settled(5, seed);
        // Host 3's folder is copied and started elsewhere; whoever is cut off from host 3 takes the copy for it.
        net.cut(&[3]);
        net.run(5 * SECOND);
        let later = Identity::new(host_id(3), 2, address(9));
        let mut copy = Membership::new(net.now, later, b"cluster", Settings::default(), 1);
        let (host, at) = (host_id(0), address(0));
        let mut out = Vec::new();
        copy.handle(net.now, Input::Introduced { host, address: at }, &mut out);
        for output in out {
            if let Output::Send { datagram, .. } = output {
                let from = host_id(3);
                net.input(0, Input::Received { from, datagram });
            }
        }
        net.run(SECOND);
        assert_eq!(net.hosts[3].superseded, None, "it can't know");
        net.cut(&[]);
        let took = net.run_until(10 * SECOND, |net| net.hosts[3].superseded == Some(2));
        assert!(took.is_some_and(|nanos| nanos < 3 * SECOND), "seed {seed}: {took:?}");
        assert_eq!(net.hosts[3].machine.deadline(), None, "it does nothing more");
        assert!([0, 1, 2, 4].iter().all(|other| net.hosts[*other].superseded.is_none()));
    }
}

#[test]
fn two_hosts_that_were_cut_off_find_each_other_again_within_five_seconds() {
    for seed in 0..50 {
        let mut net = Net::settled(2, seed);
        // The one that is its own seed must find the other without it.
        net.cut(&[1]);
        net.run(30 * SECOND + seed * 37 * MILLI);
        assert!(net.all_see(0, Standing::Down) && net.all_see(1, Standing::Down));
        net.cut(&[]);
        let took = net.run_until(10 * SECOND, Net::is_one);
        assert!(took.is_some_and(|nanos| nanos <= 5 * SECOND), "seed {seed}: {took:?}");
    }
}

#[test]
fn a_moments_cut_leaves_no_suspicion_behind() {
    for seed in 0..100 {
        let mut net = Net::settled(3, seed);
        // Long enough to suspect and to be called dead, too short for all suspicions to end.
        net.cut(&[1]);
        net.run(SECOND + seed * 50 * MILLI);
        net.cut(&[]);
        let took = net.run_until(15 * SECOND, Net::is_one);
        assert!(took.is_some(), "seed {seed}");
    }
}

#[test]
fn halves_that_were_cut_off_for_a_minute_have_one_view_within_thirty_seconds() {
    for (count, seed) in [(5, 1), (10, 2), (30, 3), (50, 4)] {
        let mut net = Net::settled(count, seed);
        let away: Vec<_> = (0..count / 2).collect();
        net.cut(&away);
        net.run(60 * SECOND);
        assert!(!net.is_one(), "they are apart");
        net.cut(&[]);
        let took = net.run_until(30 * SECOND, Net::is_one);
        println!(
            "{count} hosts after a minute in halves: one view in {:?} ms",
            took.map(|nanos| nanos / MILLI)
        );
        assert!(took.is_some(), "{count} hosts are apart half a minute later");
        net.run(20 * SECOND);
        assert!(net.is_one(), "{count} hosts: it stays so");
    }
}

#[test]
fn a_cluster_survives_losses_without_calling_anyone_dead() {
    let mut net = Net::settled(20, 1);
    net.loss_permille = 50;
    net.run(120 * SECOND);
    assert_eq!(net.deaths_but_of(&[]), 0);
}

#[test]
fn a_stopped_host_comes_back_renewed_and_calls_nobody_dead() {
    let mut net = Net::settled(10, 1);
    net.stop(4, 20 * SECOND);
    assert!(net.all_see(4, Standing::Down));
    assert!(net.run_until(3 * SECOND, Net::is_one).is_some());
    assert!(net.hosts[4].renewals > 0, "it knows that its grains may be elsewhere");
    net.run(20 * SECOND);
    assert_eq!(net.deaths_but_of(&[4]), 0);
}

#[test]
fn what_objects_while_a_host_sleeps_is_heard_before_anyone_is_called_dead() {
    let mut deaths = 0;
    for seed in 0..10 {
        let mut net = Net::settled(10, seed);
        net.deaf.insert(4);
        net.run(1_500 * MILLI);
        net.deaf.clear();
        assert!((0..10).any(|other| {
            let view = net.hosts[4].machine.view();
            view.standing(host_id(other)) == Some(Standing::Suspect)
        }));
        // All objections come while it's stopped; its timers are what it looks at first afterwards.
        net.stop(4, 20 * SECOND);
        deaths += net.deaths_but_of(&[4]);
    }
    assert_eq!(deaths, 0);
}

#[test]
fn a_host_that_only_hears_or_only_speaks_is_down_and_harms_nobody() {
    for is_mute in [true, false] {
        let mut net = Net::settled(10, 1);
        let way = if is_mute { &mut net.mute } else { &mut net.deaf };
        way.insert(4);
        net.run(60 * SECOND);
        assert!(net.all_see(4, Standing::Down));
        let others = net.hosts.iter().enumerate().filter(|(index, _)| *index != 4);
        let deaths = others
            .flat_map(|(_, host)| &host.changes)
            .filter(|(_, change)| change.now.standing == Standing::Down && change.now.host != host_id(4));
        assert_eq!(deaths.count(), 0, "mute: {is_mute}");
        net.mute.clear();
        net.deaf.clear();
        assert!(net.run_until(5 * SECOND, Net::is_one).is_some(), "mute: {is_mute}");
    }
}

#[test]
fn what_cannot_be_true_is_refused_and_changes_nothing() {
    let mut net = Net::settled(3, 1);
    let announcement = |cluster: &[u8], now| {
        let identity = Identity::new(host_id(1), 9, address(1));
        let mut machine = Membership::new(now, identity, cluster, Settings::default(), 1);
        let (host, address) = (host_id(0), address(0));
        let mut out = Vec::new();
        machine.handle(now, Input::Introduced { host, address }, &mut out);
        out.into_iter()
            .find_map(|output| match output {
                Output::Send { datagram, .. } => Some(datagram),
                _ => None,
            })
            .unwrap()
    };
    let (foreign, ours) = (announcement(b"other", net.now), announcement(b"cluster", net.now));
    let mut refuse = |from, datagram: &[u8]| {
        let mut out = Vec::new();
        let before = net.hosts[0].machine.view().clone();
        let input = Input::Received {
            from,
            datagram: datagram.to_vec(),
        };
        net.hosts[0].machine.handle(net.now, input, &mut out);
        assert_eq!(*net.hosts[0].machine.view(), before);
        out.iter().find_map(|output| match output {
            Output::Refused { reason, .. } => Some(*reason),
            _ => None,
        })
    };
    assert_eq!(refuse(host_id(1), &foreign), Some(Refusal::Foreign));
    assert_eq!(
        refuse(host_id(2), &ours),
        Some(Refusal::Impostor),
        "host 2 speaks as host 1"
    );
    assert_eq!(
        refuse(host_id(0), &ours),
        Some(Refusal::Impostor),
        "nobody is this host but itself"
    );
    assert_eq!(refuse(host_id(1), &[]), Some(Refusal::Malformed));
    assert_eq!(refuse(host_id(1), &[1; 1_201]), Some(Refusal::Malformed));
}

#[test]
fn more_hosts_than_may_be_known_are_refused() {
    let settings = Settings {
        hosts_most: 5,
        ..Settings::default()
    };
    let mut net = Net::with(10, 1, settings);
    net.run(20 * SECOND);
    assert!(net.hosts.iter().all(|host| host.machine.view().len() <= 5));
    assert!(net.hosts.iter().any(|host| host.refused > 0));
}

/// SWIM as it was published: no doubt about oneself, no sleep noticed, no comparing and so no telling suspects that they are.
fn plain_swim() -> Settings {
    Settings {
        score_most: 0,
        late_nanos: u64::MAX,
        roll_nanos: 3_600 * SECOND,
        hurried_roll_nanos: 3_600 * SECOND,
        ..Settings::default()
    }
}

/// How often healthy hosts are called down in two minutes while 2 of 50 hosts are starved.
fn deaths_by_starved_hosts(settings: &Settings) -> usize {
    (0..3)
        .map(|seed| {
            let mut net = Net::with(50, seed, settings.clone()).settle();
            net.starve(10);
            net.starve(20);
            net.run(120 * SECOND);
            net.deaths_but_of(&[10, 20])
        })
        .sum()
}

#[test]
fn starved_hosts_cause_at_most_a_fiftieth_of_plain_swims_false_deaths() {
    let ours = deaths_by_starved_hosts(&Settings::default());
    let plain = deaths_by_starved_hosts(&plain_swim());
    assert!(plain >= 50, "plain SWIM is hurt by this: {plain}");
    println!("healthy hosts called dead by starved ones: {ours}, by plain SWIM {plain}");
    assert!(ours * 50 <= plain, "{ours} of {plain}");
}

#[test]
fn the_health_score_alone_spares_most_of_those_deaths() {
    let scored = deaths_by_starved_hosts(&Settings {
        score_most: 8,
        ..plain_swim()
    });
    let plain = deaths_by_starved_hosts(&plain_swim());
    assert!(scored * 3 <= plain, "{scored} of {plain}");
}

#[test]
fn gossip_costs_a_host_the_same_in_large_clusters() {
    let cost = |(count, seconds): (usize, u64)| (count, Net::settled(count, 1).bytes_a_second(seconds * SECOND));
    let costs: Vec<(usize, f64)> = [(3, 60), (10, 60), (30, 60), (100, 60), (300, 20)].map(cost).to_vec();
    println!("bytes a second that a host sends, by hosts: {costs:.0?}");
    assert!(costs.iter().all(|(_, cost)| *cost < 1_000.0), "{costs:?}");
    assert!(costs[4].1 <= costs[1].1 * 1.25, "{costs:?}");
}

#[test]
fn whoever_is_in_the_configuration_is_called_until_he_is_there() {
    let mut net = Net::with(3, 1, Settings::default());
    // Host 2 can't reach the seed and knows nobody; host 1 has its address and learns that it belongs here.
    net.crash(2);
    net.run(10 * SECOND);
    net.input(
        1,
        Input::Introduced {
            host: host_id(2),
            address: address(2),
        },
    );
    net.input(1, Input::Configured(vec![host_id(0), host_id(1), host_id(2)]));
    net.crash(0);
    net.run(10 * SECOND);
    net.restart(2);
    assert!(net.run_until(3 * SECOND, Net::is_one).is_some());
}
