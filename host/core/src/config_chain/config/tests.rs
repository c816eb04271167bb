//! What a configuration promises about quorums, sources and successors, and what is refused as one.

use super::*;

fn host(n: u8) -> HostId {
    HostId([n; 16])
}

fn first() -> Config {
    let member = Member {
        host: host(1),
        weight: 1,
        zone: String::new(),
    };
    Config::first(ClusterId([9; 16]), member)
}

#[test]
fn quorums_of_one_two_and_three_replicas_meet() {
    for len in 1..=3 {
        let hosts: Vec<HostId> = (0..len).map(host).collect();
        let replicas = Replicas::new(&hosts).unwrap();
        assert!(2 * replicas.quorum() > hosts.len());
        assert_eq!(replicas.quorum() + replicas.read_quorum(), hosts.len() + 1);
    }
    assert_eq!(Replicas::new(&[]), None);
    assert_eq!(Replicas::new(&[host(1), host(1)]), None);
    assert_eq!(Replicas::new(&[host(1), host(2), host(3), host(4)]), None);
}

#[test]
fn a_cluster_of_one_serves_at_once() {
    let config = first();
    config.check().unwrap();
    assert_eq!((config.quorum(), config.voter_quorum()), (1, 1));
    assert!(Slot::all().all(|slot| config.slot(slot).sources.is_empty() && config.replicas(slot) == [host(1)]));
}

#[test]
fn any_change_changes_the_hash() {
    let config = first();
    let mut other = config.clone();
    assert_eq!(config.hash(), other.hash());
    let mut slots = other.slots.to_vec();
    slots[4095].since = ConfigNumber(2);
    other.slots = slots.into();
    assert_ne!(config.hash(), other.hash());
}

#[test]
fn what_the_chain_cannot_have_made_is_refused() {
    let broken = |change: fn(&mut Config)| {
        let mut config = first();
        change(&mut config);
        config.check().unwrap_err()
    };
    assert_eq!(broken(|config| config.members.clear()), ConfigError::Members);
    assert_eq!(
        broken(|config| config.members.push(config.members[0].clone())),
        ConfigError::Members
    );
    assert_eq!(
        broken(|config| config.members[0].weight = 0),
        ConfigError::Member(host(1))
    );
    assert_eq!(broken(|config| config.voters.clear()), ConfigError::Voters);
    assert_eq!(broken(|config| config.r = 2), ConfigError::Replicas);
    assert_eq!(
        broken(|config| config.slots = config.slots[1..].into()),
        ConfigError::Replicas
    );
    assert_eq!(
        broken(|config| config.n = ConfigNumber(0)),
        ConfigError::Slot(Slot::default())
    );
    let stranger = |config: &mut Config| {
        let mut slots = config.slots.to_vec();
        slots[7].replicas = Replicas::new(&[host(2)]).unwrap();
        config.slots = slots.into();
    };
    assert_eq!(broken(stranger), ConfigError::Slot(Slot::new(7).unwrap()));
}

#[test]
fn hosts_cover_a_slot_when_no_commit_can_have_passed_them_all_by() {
    let hosts = |of: &[u8]| of.iter().map(|n| host(*n)).collect::<Vec<_>>();
    let set = |of: &[u8]| Replicas::new(&hosts(of)).unwrap();
    let slot = first()
        .slot(Slot::default())
        .then(ConfigNumber(2), set(&[1, 2, 3]), true);
    let settled = slot.then(ConfigNumber(3), set(&[1, 2, 3]), true);
    let covers = |slot: &SlotReplicas, of: &[u8]| slot.is_covered_by(&hosts(of).into_iter().collect());
    // A commit may be with any two of three: a third one alone may not know of it.
    assert!(
        covers(&settled, &[1, 2]) && covers(&settled, &[2, 3]) && !covers(&settled, &[3]) && !covers(&settled, &[])
    );
    // Not all is taken over yet: the one that had everything has to be asked, too.
    assert!(covers(&slot, &[1, 2]) && !covers(&slot, &[2, 3]));
    // Of two, both have everything.
    let pair = first().slot(Slot::default()).then(ConfigNumber(2), set(&[1, 2]), true);
    let pair = pair.then(ConfigNumber(3), set(&[1, 2]), true);
    assert!(covers(&pair, &[1]) && covers(&pair, &[2]) && !covers(&pair, &[3]));
    assert!(first().is_covered_by(&hosts(&[1]).into_iter().collect()) && !first().is_covered_by(&BTreeSet::new()));
}

#[test]
fn sources_grow_while_nobody_is_known_to_serve_and_shrink_when_a_quorum_is() {
    let (set, n) = (
        |hosts: &[u8]| Replicas::new(&hosts.iter().map(|n| host(*n)).collect::<Vec<_>>()).unwrap(),
        ConfigNumber,
    );
    let source = |number, hosts: &[u8]| Source {
        n: n(number),
        replicas: set(hosts),
    };
    let one = first().slot(Slot::default()).clone();
    let two = one.then(n(2), set(&[1, 2]), false);
    assert_eq!((two.since, &two.sources[..]), (n(2), &[source(1, &[1])][..]));
    // Given up before it was known to be served: both have to be asked, whichever served last.
    let three = two.then(n(3), set(&[1, 3]), false);
    assert_eq!(
        (three.since, &three.sources[..]),
        (n(3), &[source(1, &[1]), source(2, &[1, 2])][..])
    );
    // Another order of the same hosts changes nothing.
    let four = three.then(n(4), set(&[3, 1]), false);
    assert_eq!(
        (four.since, &four.sources, four.is_settled()),
        (n(3), &three.sources, false)
    );
    let five = four.then(n(5), set(&[3, 1]), true);
    assert_eq!(
        (five.since, &five.sources[..], five.is_settled()),
        (n(3), &[source(3, &[3, 1])][..], true)
    );
    // What was agreed stays true, whatever the next proposer has heard.
    let six = five.then(n(6), set(&[3, 4]), false);
    assert_eq!((six.since, &six.sources[..]), (n(6), &[source(3, &[3, 1])][..]));
    assert!(six.concerns(host(1)) && !six.concerns(host(2)));
}

#[test]
fn a_successor_that_drops_a_source_is_refused() {
    let before = first();
    let next = |change: fn(&mut SlotReplicas)| {
        let mut slots: Vec<_> = before
            .slots
            .iter()
            .map(|slot| slot.then(ConfigNumber(2), slot.replicas, false))
            .collect();
        change(&mut slots[3]);
        let slots = slots.into();
        Config {
            n: ConfigNumber(2),
            prev_hash: before.hash(),
            slots,
            ..before.clone()
        }
    };
    assert_eq!(next(|_| ()).check_follows(&before), Ok(()));
    assert_eq!(
        next(|slot| slot.sources.push(slot.as_source())).check_follows(&before),
        Ok(())
    );
    let refused = Err(ConfigError::Slot(Slot::new(3).unwrap()));
    assert_eq!(
        next(|slot| slot.since = ConfigNumber(2)).check_follows(&before),
        refused
    );
    let unlinked = Config {
        prev_hash: ConfigHash([1; 32]),
        ..next(|_| ())
    };
    assert_eq!(unlinked.check_follows(&before), Err(ConfigError::Successor));
}
