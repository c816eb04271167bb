//! What the budget promises: no more than it has is handed out, who waits is served in time or told, the unused leave first.

use std::os::fd::AsFd;

use rustix::fs::{MemfdFlags, memfd_create};

use super::*;

const MIB: u64 = 1 << 20;

/// A budget with `room` bytes above what this process takes now, and 64 MiB for what other tests do meanwhile.
fn budget(room: u64, waiters: usize) -> Arc<Budget> {
    let slab = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    let meter = Meter::new(slab.as_fd()).unwrap();
    let limits = BudgetLimits {
        bytes: meter.taken().bytes() + room,
        wait: Duration::from_secs(5),
        waiters,
        large: 16 * MIB,
    };
    Budget::new(limits, meter, Arc::new(Metrics::new()))
}

#[test]
fn charges_add_up_to_the_limit_and_not_beyond() {
    let budget = budget(1000 * MIB, 1);
    let first = budget.take(600 * MIB).expect("there is room");
    assert!(budget.take(600 * MIB).is_none());
    let mut second = budget.take(100 * MIB).expect("there is room");
    assert!(!second.raise(700 * MIB));
    assert_eq!(second.wanted(), Some(700 * MIB));
    assert_eq!(budget.charged(), 700 * MIB);
    drop(first);
    // What was given back may be memory by now: only a measurement tells.
    assert_eq!(budget.charged(), 700 * MIB);
    assert!(budget.take(600 * MIB).is_none());
    budget.measure();
    assert_eq!(budget.charged(), 100 * MIB);
    assert!(budget.take(600 * MIB).is_some());
}

#[tokio::test]
async fn who_waits_gets_room_when_it_is_there() {
    let budget = budget(1000 * MIB, 1);
    let held = budget.take(800 * MIB).expect("there is room");
    let until = Instant::now() + budget.patience();
    let waiting = tokio::spawn({
        let budget = budget.clone();
        async move { budget.room(500 * MIB, until).await }
    });
    while budget.view().waiting == 0 {
        tokio::task::yield_now().await;
    }
    drop(held);
    budget.measure();
    budget.ring();
    assert!(waiting.await.unwrap().is_some());
    assert_eq!(budget.view().waiting, 0);
}

#[tokio::test]
async fn too_many_who_wait_and_too_long_waits_are_refused() {
    let budget = budget(1000 * MIB, 1);
    let _held = budget.take(900 * MIB).expect("there is room");
    assert!(budget.room(500 * MIB, Instant::now()).await.is_none());
    let first = tokio::spawn({
        let (budget, until) = (budget.clone(), Instant::now() + Duration::from_secs(60));
        async move { budget.room(500 * MIB, until).await }
    });
    while budget.view().waiting == 0 {
        tokio::task::yield_now().await;
    }
    let late = Instant::now() + Duration::from_secs(60);
    assert!(budget.room(500 * MIB, late).await.is_none());
    first.abort();
    assert_eq!(budget.overloaded(1).code, Code::Overloaded);
}

#[tokio::test]
async fn who_waits_for_more_than_there_would_be_lowers_the_marks() {
    let budget = budget(1000 * MIB, 1);
    let _held = budget.take(900 * MIB).expect("there is room");
    let marks = budget.marks();
    assert_eq!(marks, (budget.high(), budget.low()));
    assert!(budget.room(600 * MIB, Instant::now()).await.is_none());
    let target = budget.limit() - 600 * MIB;
    assert_eq!(budget.marks(), (target, target));
    assert_eq!(budget.marks(), marks);
}

#[test]
fn only_large_memories_are_stopped_and_only_when_all_else_failed() {
    let budget = budget(1000 * MIB, 1);
    assert!(!budget.must_stop(64 * MIB));
    budget.set_exhausted(true);
    assert!(budget.must_stop(64 * MIB));
    assert!(!budget.must_stop(2 * MIB));
}
