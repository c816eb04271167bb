//! How even, how still and how spread assignments are, over many counts of hosts.

use super::*;

fn member(n: u16, weight: u32, zone: &str) -> Member {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&n.to_le_bytes());
    Member {
        host: HostId(id),
        weight,
        zone: zone.to_string(),
    }
}

fn members(n: u16) -> Vec<Member> {
    (0..n).map(|n| member(n, 1, "")).collect()
}

/// Slots that each host holds, and is primary of.
fn counts(members: &[Member], slots: &[Replicas]) -> Vec<(usize, usize)> {
    let counts = members.iter().map(|member| {
        let held = slots.iter().filter(|replicas| replicas.position(member.host).is_some());
        let first = slots.iter().filter(|replicas| replicas.hosts()[0] == member.host);
        (held.count(), first.count())
    });
    counts.collect()
}

/// Replicas and primaries that are others than before.
fn moved(before: &[Replicas], after: &[Replicas]) -> (usize, usize) {
    let pairs = || before.iter().zip(after);
    let new = |(before, after): (&Replicas, &Replicas)| {
        after
            .hosts()
            .iter()
            .filter(|host| before.position(**host).is_none())
            .count()
    };
    let first = pairs().filter(|(before, after)| before.hosts()[0] != after.hosts()[0]);
    (pairs().map(new).sum(), first.count())
}

fn zones_of(members: &[Member], replicas: &Replicas) -> usize {
    let zone = |host: &HostId| &members.iter().find(|member| member.host == *host).unwrap().zone;
    let mut zones: Vec<&String> = replicas.hosts().iter().map(zone).collect();
    zones.sort();
    zones.dedup();
    zones.len()
}

#[track_caller]
fn assert_even(members: &[Member], slots: &[Replicas]) {
    let n = members.len() as f64;
    let r = slots[0].hosts().len() as f64;
    for (held, first) in counts(members, slots) {
        assert!(held as f64 <= 1.15 * r * 4096.0 / n, "{held} of {n} hosts' slots");
        assert!(
            first as f64 <= (1.15 * 4096.0 / n).max(4096.0 / n + 1.0),
            "{first} primaries, {n} hosts"
        );
    }
}

#[test]
fn the_same_members_give_the_same_assignment() {
    assert_eq!(assign(&members(7), None), assign(&members(7), None));
    let once = assign(&members(7), None);
    assert_eq!(
        assign(&members(7), Some(&once)),
        once,
        "and what is even stays as it is"
    );
}

#[test]
fn slots_are_even_whatever_the_count_of_hosts() {
    for n in [1, 2, 3, 4, 5, 6, 8, 10, 16, 30, 50] {
        let members = members(n);
        let slots = assign(&members, None);
        assert!(
            slots
                .iter()
                .all(|replicas| replicas.hosts().len() == usize::from(n.min(3)))
        );
        assert_even(&members, &slots);
    }
}

#[test]
fn a_host_that_joins_moves_its_share_and_no_more() {
    let mut slots = assign(&members(1), None);
    for n in 2..=20u16 {
        let members = members(n);
        let after = assign(&members, Some(&slots));
        let (replicas, primaries) = moved(&slots, &after);
        // With up to three hosts each slot gets one more replica: that moves nothing away.
        let share = usize::from(n.min(3)) * 4096 / usize::from(n);
        assert!(
            10 * replicas <= 11 * share,
            "{n} hosts: {replicas} replicas moved, {share} would be fair"
        );
        assert!(
            10 * primaries <= 11 * 4096 / usize::from(n),
            "{n} hosts: {primaries} primaries moved"
        );
        assert_even(&members, &after);
        slots = after;
    }
}

#[test]
fn a_host_that_leaves_moves_what_it_had_and_no_more() {
    let mut rest = members(20);
    let mut slots = assign(&rest, None);
    while rest.len() > 4 {
        let n = rest.len();
        let gone = rest.remove((n * 7) % (n - 1));
        let had = slots
            .iter()
            .filter(|replicas| replicas.position(gone.host).is_some())
            .count();
        let after = assign(&rest, Some(&slots));
        let (replicas, primaries) = moved(&slots, &after);
        assert!(
            replicas <= had + had / 10,
            "{n} hosts: {replicas} replicas moved, {had} had to"
        );
        assert!(
            10 * replicas <= 12 * 3 * 4096 / n,
            "{n} hosts: {replicas} replicas moved"
        );
        assert!(
            10 * primaries <= 12 * 4096 / n,
            "{n} hosts: {primaries} primaries moved"
        );
        assert_even(&rest, &after);
        slots = after;
    }
}

#[test]
fn heavier_hosts_hold_more() {
    let members: Vec<Member> = (0..9).map(|n| member(n, 1 + u32::from(n % 3), "")).collect();
    let slots = assign(&members, None);
    for ((held, first), member) in counts(&members, &slots).into_iter().zip(&members) {
        let share = 4096.0 * f64::from(member.weight) / 18.0;
        assert!(
            (held as f64 / (3.0 * share) - 1.0).abs() < 0.1,
            "weight {}: {held}",
            member.weight
        );
        assert!(
            (first as f64 / share - 1.0).abs() < 0.1,
            "weight {}: {first} primaries",
            member.weight
        );
    }
}

#[test]
fn a_host_heavier_than_all_others_holds_every_slot_once() {
    let members: Vec<Member> = (0..5).map(|n| member(n, if n == 0 { 1000 } else { 1 }, "")).collect();
    let slots = assign(&members, None);
    let counts = counts(&members, &slots);
    assert_eq!(counts[0].0, 4096);
    assert!(
        counts[1..].iter().all(|(held, _)| *held <= 2048 * 105 / 100 + 1),
        "{counts:?}"
    );
}

#[test]
fn replicas_are_in_as_many_zones_as_there_are() {
    for zones in [&["a", "b", "c"][..], &["a", "b"][..], &["a", "b", "c", "d", "e"][..]] {
        let members: Vec<Member> = (0..15)
            .map(|n| member(n, 1, zones[usize::from(n) % zones.len()]))
            .collect();
        let slots = assign(&members, None);
        let least = slots.iter().map(|replicas| zones_of(&members, replicas)).min();
        assert_eq!(least, Some(zones.len().min(3)), "{zones:?}");
        assert_even(&members, &slots);
    }
}

/// A zone can be lost with all its hosts, also after it has lost one, and when it has only one.
#[test]
fn with_three_zones_no_slot_has_two_replicas_in_one() {
    let mut all: Vec<Member> = (0..9)
        .map(|n| member(n, 1, ["a", "b", "c"][usize::from(n) % 3]))
        .collect();
    let mut slots = assign(&all, None);
    assert_even(&all, &slots);
    // One of zone a goes, the next, one comes back; then hosts of one zone after the other.
    let back = all[3].clone();
    for gone in [0, 2, 1, 0, 1] {
        all.remove(gone);
        let after = assign(&all, Some(&slots));
        assert!(after.iter().all(|replicas| zones_of(&all, replicas) == 3), "{all:?}");
        let hosts_of_zone = |zone: &str| all.iter().filter(|member| member.zone == zone).count() as f64;
        for ((held, _), member) in counts(&all, &after).into_iter().zip(&all) {
            let fair = 4096.0 / hosts_of_zone(&member.zone);
            assert!(held as f64 <= 1.1 * fair, "{held} slots in zone {}", member.zone);
        }
        slots = after;
    }
    all.push(back);
    let after = assign(&all, Some(&slots));
    assert!(after.iter().all(|replicas| zones_of(&all, replicas) == 3));
}

/// The first hosts of a cluster can't be apart; when others come, what is together moves.
#[test]
fn a_zone_that_is_new_gets_what_two_hosts_of_one_zone_have() {
    let mut all = vec![member(0, 100, "a"), member(1, 300, "a"), member(2, 100, "b")];
    let before = assign(&all, None);
    all.push(member(3, 100, "c"));
    let after = assign(&all, Some(&before));
    let held: Vec<usize> = counts(&all, &after).into_iter().map(|(held, _)| held).collect();
    assert_eq!((held[2], held[3], held[0] + held[1]), (4096, 4096, 4096));
    assert!(held[1] > 2 * held[0], "by weight: {held:?}");
    let (replicas, _) = moved(&before, &after);
    assert_eq!(replicas, 4096, "what moves is what had to");
}

#[test]
fn random_joins_and_departures_keep_it_even() {
    let mut seed = 7u64;
    let mut draw = |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    let mut next = 6;
    let mut members = members(next);
    let mut slots = assign(&members, None);
    for _ in 0..60 {
        let n = members.len();
        if draw(2) == 0 && n > 2 {
            members.remove(draw(n as u64) as usize);
        } else if n < 24 {
            members.push(member(next, 1, ""));
            next += 1;
        }
        let after = assign(&members, Some(&slots));
        assert_even(&members, &after);
        let (replicas, _) = moved(&slots, &after);
        let fair = members.len().min(3) * 4096 / members.len().min(n).max(1);
        assert!(
            replicas <= fair * 12 / 10,
            "{n} -> {}: {replicas} moved, {fair} would be fair",
            members.len()
        );
        slots = after;
    }
}

#[test]
fn a_logarithm_of_whole_numbers() {
    assert_eq!(negative_log2((1 << 63) | 1), 1 << 32);
    assert_eq!(negative_log2(u64::MAX) >> 8, 0);
    let quarter = negative_log2(1 << 62);
    assert!((2 << 32) - quarter < 8, "{quarter}");
}
