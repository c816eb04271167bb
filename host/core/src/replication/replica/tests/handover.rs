//! What a slot's replica promises when the slot changes hands.

use super::*;
use crate::replication::messages::GrainHead;

impl World {
    fn seal(&mut self, from: u8, n: u64, oldest: u64, expect: &[&str]) {
        let (slot, n, oldest) = (Slot::of(GRAIN), ConfigNumber(n), ConfigNumber(oldest));
        self.hand(
            from,
            Handover::Seal {
                slot,
                n,
                oldest,
                after: None,
            },
            expect,
        );
    }

    fn sealed(&mut self, from: u8, n: u64, heads: Vec<GrainHead>, expect: &[&str]) {
        let (slot, n) = (Slot::of(GRAIN), ConfigNumber(n));
        let sealed = Handover::Sealed {
            slot,
            n,
            after: None,
            floor: None,
            heads,
            more: false,
        };
        self.hand(from, sealed, expect);
    }
}

fn head(promised: u64, last: Option<(u64, u64, u8)>) -> GrainHead {
    GrainHead {
        grain: GRAIN,
        promised: Some(ballot(promised)),
        accepted: last.map(|(counter, seq, name)| accepted(counter, seq, name)),
        holder: None,
    }
}

#[test]
fn a_sealed_replica_answers_nothing_before_or_after_a_restart() {
    let mut world = World::serving();
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.seal(4, 2, 1, &["behind 2"]);
    world.prepare(ballot(2), &["1 <- nack sealed 2"]);
    world.sync(&["1 <- acked #1", "4 <- sealed 2 [1/#1a@1]"]);
    world.restart();
    world.assign(1, &[1, 2, 3], &[]);
    world.prepare(ballot(2), &["1 <- nack sealed 2"]);
    // And it still says what it has.
    world.seal(4, 2, 1, &["behind 2", "4 <- sealed 2 [1/#1a@1]"]);
}

#[test]
fn a_configuration_without_this_host_seals_it() {
    let mut world = World::serving();
    world.assign(2, &[2, 3, 4], &[(1, &[1, 2, 3])]);
    world.prepare(ballot(2), &["1 <- nack sealed 2"]);
}

#[test]
fn what_is_older_than_the_sources_is_not_listed() {
    let mut world = World::serving();
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.seal(4, 3, 2, &["behind 3"]);
    world.sync(&["1 <- acked #1", "4 <- sealed 3 []"]);
}

#[test]
fn a_new_replica_hears_enough_old_ones_pulls_the_highest_and_then_serves() {
    let mut world = World::absent();
    world.assign(2, &[1, 2, 5], &[(1, &[2, 3, 4])]);
    world.sync(&[]);
    world.sealed(3, 2, vec![head(4, Some((1, 1, 1)))], &[]);
    // The same one again is still one.
    world.sealed(3, 2, vec![head(4, Some((1, 1, 1)))], &[]);
    world.sealed(4, 2, vec![head(2, Some((2, 2, 2)))], &["4 <- pull 2"]);
    let pulled = |last| Handover::Pulled {
        slot: Slot::of(GRAIN),
        n: ConfigNumber(2),
        grain: GRAIN,
        accepted: last,
        body: Body::default(),
    };
    world.hand(3, pulled(accepted(1, 1, 1)), &[]);
    world.hand(4, pulled(accepted(2, 2, 2)), &[]);
    world.ask(1, 2, prepare(ballot(5), false), &["1 <- nack installing"]);
    world.sync(&["serving 2"]);
    assert_eq!(
        world.replica.register(GRAIN),
        (Some(ballot(4)), Some(accepted(2, 2, 2)))
    );
    world.restart();
    assert_eq!(
        world.replica.register(GRAIN),
        (Some(ballot(4)), Some(accepted(2, 2, 2)))
    );
    assert_eq!(world.replica.serves(), Some(ConfigNumber(2)));
}

#[test]
fn every_source_has_to_be_heard() {
    let mut world = World::absent();
    world.assign(3, &[1, 2, 5], &[(1, &[2, 3, 4]), (2, &[3, 6, 7])]);
    world.sync(&[]);
    for from in [2, 3] {
        world.sealed(from, 3, vec![], &[]);
        world.sync(&[]);
    }
    world.sealed(7, 3, vec![], &[]);
    world.sync(&["serving 3"]);
}

#[test]
fn a_late_replica_hears_one_that_serves() {
    let mut world = World::absent();
    world.assign(2, &[1, 2, 3], &[(2, &[1, 2, 3])]);
    world.sync(&[]);
    world.sealed(2, 2, vec![head(3, None)], &[]);
    world.sync(&["serving 2"]);
}

#[test]
fn a_replica_that_stays_counts_itself() {
    let mut world = World::serving();
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.sync(&["1 <- acked #1"]);
    world.assign(2, &[1, 3, 4], &[(1, &[1, 2, 3])]);
    world.sealed(3, 2, vec![], &[]);
    world.sync(&["serving 2"]);
    assert_eq!(world.replica.register(GRAIN).1, Some(accepted(1, 1, 1)));
}

#[test]
fn left_over_grains_do_not_come_back() {
    let mut world = World::serving();
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.sync(&["1 <- acked #1"]);
    // Meanwhile the slot was with others, and the grain was deleted and forgotten there.
    world.assign(3, &[1, 2, 3], &[(2, &[2, 3, 4])]);
    world.sealed(2, 3, vec![], &[]);
    world.sealed(3, 3, vec![], &[]);
    world.sync(&["serving 3"]);
    assert!(world.replica.is_empty());
}

#[test]
fn an_unanswered_handover_is_asked_again() {
    let mut world = World::absent();
    world.assign(2, &[1, 2], &[(1, &[2])]);
    world.now = world.replica.deadline().unwrap();
    world.handle(Input::Wake, &["2 <- seal 2 from 1"]);
    world.sealed(2, 2, vec![head(1, Some((1, 1, 1)))], &["2 <- pull 2"]);
    world.now = world.replica.deadline().unwrap();
    world.handle(Input::Wake, &["2 <- pull 2"]);
}

#[test]
fn a_listing_has_pages() {
    let mut world = World::with(Limits {
        page: 1,
        ..Limits::default()
    });
    world.assign(1, &[1], &[]);
    world.sync(&["serving 1"]);
    let mut other = GRAIN;
    other.0[0] = 9;
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.ask(
        1,
        1,
        Ask::Accept {
            grain: other,
            ballot: ballot(1),
            proposal: proposal(1, 0, 2),
        },
        &[],
    );
    world.seal(2, 2, 1, &["behind 2"]);
    world.replica.persisted(99, &mut Vec::new());
    let (slot, n, oldest) = (Slot::of(GRAIN), ConfigNumber(2), ConfigNumber(1));
    world.hand(
        2,
        Handover::Seal {
            slot,
            n,
            oldest,
            after: None,
        },
        &["behind 2", "2 <- sealed 2 [1/#1a@1] and more"],
    );
    world.hand(
        2,
        Handover::Seal {
            slot,
            n,
            oldest,
            after: Some(GRAIN),
        },
        &["behind 2", "2 <- sealed 2 [1/#1b@1]"],
    );
}

#[test]
fn a_replica_that_is_not_needed_any_more_forgets_and_lists_nothing() {
    let mut world = World::serving();
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.sync(&["1 <- acked #1"]);
    world.assign(2, &[2, 3, 4], &[(1, &[1, 2, 3])]);
    world.handle(Input::Discard(ConfigNumber(2)), &[]);
    world.sync(&[]);
    assert!(world.replica.is_empty());
    world.seal(4, 2, 1, &[]);
    world.restart();
    world.seal(4, 2, 1, &[]);
}
