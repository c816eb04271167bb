//! Grains that move between revisions of their type: what they keep, where they stay when a step fails, how they come back.

mod world;

use granary_core::api::{CallFailure, Code, Durability};
use granary_core::id::Revision;
use granary_core::reply_table::TableTime;
use granary_core::reply_table::absent::AbsentTables;
use granary_core::time::Time;

use self::world::*;
use crate::storage::Storage;

#[test]
fn a_grain_moves_at_its_next_call_with_its_state_in_memory_or_not() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        assert_eq!(world.add("here", 3).await, of("3", 1));
        assert_eq!(world.add("gone", 4).await, of("4", 1));
        world.catalog.evict_all();
        assert_eq!(world.add("here", 1).await, of("4", 1));
        assert_eq!(world.deploy(&Guest::second()).await, Revision(2));
        assert_eq!(world.get("here").await, of("4", 2));
        assert_eq!(world.add("gone", 1).await, of("5", 2));
        assert_eq!(world.get("fresh").await, of("0", 2));
    });
}

#[test]
fn whatever_fails_on_the_way_the_grain_stays_where_it_was_and_serves() {
    run(async {
        for (why, guest, code) in ways_to_fail() {
            let world = World::new().await;
            world.deploy(&Guest::first()).await;
            world.add("a", 3).await;
            world.deploy(&guest).await;
            assert_eq!(world.add("a", 1).await, of("4", 1));
            assert_eq!(world.get("a").await, of("4", 1));
            let (found, reason) = world.failure("a").await.expect("it's told");
            assert_eq!(found, code, "{reason}");
            assert!(reason.starts_with(why), "{reason}");
            assert_eq!(world.sweep().await, (1, 0, 1));
            assert_eq!(world.upgrade_status().await.failures.len(), 1);
            // A better revision is another chance.
            world.deploy(&Guest::second()).await;
            assert_eq!(world.get("a").await, of("4", 3));
            assert_eq!(world.failure("a").await, None);
        }
    });
}

#[test]
fn a_save_that_traps_fails_the_move_too() {
    run(async {
        let world = World::new().await;
        world
            .deploy(&Guest {
                save: TRAP,
                ..Guest::first()
            })
            .await;
        world.add("a", 3).await;
        world.deploy(&Guest::second()).await;
        assert_eq!(world.get("a").await, of("3", 1));
        assert_eq!(world.failure("a").await.unwrap().0, Code::Trap);
    });
}

#[test]
fn back_without_a_write_since_is_byte_for_byte_and_runs_no_guest() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        world.add("a", 3).await;
        let before = world.stored("a");
        // What the second one would save, the first one couldn't load.
        world
            .deploy(&Guest {
                save: TRAP,
                ..Guest::second()
            })
            .await;
        assert_eq!(world.get("a").await, of("3", 2));
        assert_ne!(world.stored("a").0, before.0);
        assert_eq!(world.modules.rollback(kind()).await.unwrap().revision, Revision(1));
        assert_eq!(world.get("a").await, of("3", 1));
        assert_eq!(world.stored("a"), before);
    });
}

#[test]
fn back_after_a_write_goes_through_save_and_load() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        world.add("a", 3).await;
        world.deploy(&Guest::second()).await;
        assert_eq!(world.add("a", 2).await, of("5", 2));
        world.modules.rollback(kind()).await.unwrap();
        assert_eq!(world.get("a").await, of("5", 1));
        let none = world.modules.rollback(kind()).await.unwrap_err();
        assert_eq!(none.code, Code::NoRevision);
        assert_eq!(world.deploy(&Guest::second()).await, Revision(3));
    });
}

#[test]
fn types_that_promise_less_move_all_that_they_hold() {
    run(async {
        for durability in ["relaxed", "volatile"] {
            let first = Guest {
                durability,
                ..Guest::first()
            };
            let second = Guest {
                durability,
                ..Guest::second()
            };
            let world = World::new().await;
            world.deploy(&first).await;
            world.add("a", 3).await;
            world.deploy(&second).await;
            assert_eq!(world.add("a", 1).await, of("4", 2));
            world.modules.rollback(kind()).await.unwrap();
            // The last write may be in memory only: it isn't lost.
            assert_eq!(world.get("a").await, of("4", 1));
            world.catalog.evict_all();
            assert_eq!(world.get("a").await, of("4", 1));
        }
    });
}

#[test]
fn a_volatile_grain_that_could_not_move_keeps_what_no_commit_holds() {
    run(async {
        let volatile = |guest: Guest| Guest {
            durability: "volatile",
            ..guest
        };
        let world = World::new().await;
        world.deploy(&volatile(Guest::first())).await;
        world.add("a", 3).await;
        world
            .deploy(&volatile(Guest {
                load: TRAP,
                ..Guest::second()
            }))
            .await;
        assert_eq!(world.add("a", 1).await, of("4", 1));
        assert_eq!(world.get("a").await, of("4", 1));
    });
}

#[test]
fn the_reply_says_what_the_revision_that_answers_promises() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        world.add("a", 3).await;
        world
            .deploy(&Guest {
                durability: "volatile",
                ..Guest::second()
            })
            .await;
        assert_eq!(world.ask("a", "add", "[1]").await.durability, Durability::Volatile);
        world.modules.rollback(kind()).await.unwrap();
        let reply = world.ask("a", "get", "[]").await;
        assert_eq!(reply.result, Ok(b"4".to_vec()));
        assert_eq!(reply.durability, Durability::Committed);
    });
}

#[test]
fn the_same_module_under_another_number_moves_nothing() {
    run(async {
        let world = World::new().await;
        world
            .deploy(&Guest {
                save: TRAP,
                ..Guest::first()
            })
            .await;
        world.add("a", 3).await;
        world.deploy(&Guest::second()).await;
        assert_eq!(
            world
                .deploy(&Guest {
                    save: TRAP,
                    ..Guest::first()
                })
                .await,
            Revision(3)
        );
        assert_eq!(world.get("a").await, of("3", 3));
        assert_eq!(world.storage.head(&grain("a")).unwrap().unwrap().head.seq.0, 1);
    });
}

#[test]
fn a_deleted_grain_begins_under_the_current_revision() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        world.add("a", 3).await;
        world
            .deploy(&Guest {
                load: TRAP,
                ..Guest::second()
            })
            .await;
        assert_eq!(world.get("a").await, of("3", 1));
        world.delete("a", None).await;
        assert_eq!(world.failure("a").await, None);
        assert_eq!(world.add("a", 1).await, of("1", 2));
    });
}

#[test]
fn a_sweep_moves_all_grains_and_leaves_those_that_can_not_move() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        for grain in 0..40 {
            world.add(&format!("{grain:02}"), 1 + grain % 2).await;
            // More than the host has room for.
            world.catalog.evict_all();
        }
        // It refuses every other state.
        let load = "
            (if (i32.eq (i32.load8_u (local.get $ptr)) (i32.const 2)) (then unreachable))
            (i32.store8 (i32.const 66000) (i32.load8_u (local.get $ptr)))
            (call $ok (i32.const 0) (i32.const 0))";
        world
            .deploy(&Guest {
                load,
                ..Guest::second()
            })
            .await;
        assert_eq!(world.sweep().await, (40, 20, 20));
        assert_eq!(world.modules.stuck(), 20);
        let status = world.upgrade_status().await;
        let keys: Vec<&str> = status.failures.iter().map(|failure| failure.key.as_str()).collect();
        assert_eq!(keys[..3], ["01", "03", "05"]);
        assert_eq!(world.get("00").await, of("1", 2));
        assert_eq!(world.get("01").await, of("2", 1));
        // Again: those that are current are only looked at.
        assert_eq!(world.sweep().await, (40, 20, 20));
        world.modules.rollback(kind()).await.unwrap();
        assert_eq!(world.modules.stuck(), 0);
        assert_eq!(world.sweep().await, (40, 40, 0));
        assert_eq!(world.get("00").await, of("1", 1));
    });
}

#[test]
fn a_module_that_offers_less_is_refused_unless_that_is_meant() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        let methods = r#"{"name":"get","kind":"read"}"#;
        let less = Guest {
            methods,
            ..Guest::second()
        };
        let refused: CallFailure = world.modules.deploy(kind(), less.wasm(), false).await.unwrap_err();
        assert_eq!(refused.code, Code::BreakingChange);
        let differences: Vec<String> = serde_json::from_slice(&refused.error.unwrap()).unwrap();
        assert_eq!(differences, ["`add` is gone"]);
        assert_eq!(world.modules.current(&kind()).unwrap().revision, Revision(1));
        assert_eq!(world.deploy(&less).await, Revision(2));
        let history = world.modules.history(&kind());
        let follows: Vec<_> = history.iter().map(|one| (one.follows.0, one.is_current)).collect();
        assert_eq!(follows, [(0, false), (1, true)]);
    });
}

#[test]
fn a_stuck_grain_is_called_as_its_own_revision_takes_it() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        world.add("a", 3).await;
        let methods = r#"{"name":"add","kind":"write","params":[{"name":"by","required":false},{"name":"n"}]},
            {"name":"get","kind":"read"},{"name":"put","kind":"write"}"#;
        let methods = Guest {
            load: TRAP,
            methods,
            ..Guest::second()
        };
        world.deploy(&methods).await;
        assert_eq!(world.call("a", "add", "[null,2]").await, of("5", 1));
        let refused = world.ask("a", "add", "[7,2]").await.result.unwrap_err();
        assert_eq!(refused.code, Code::BadArguments);
        let unknown = world.ask("a", "put", "[]").await.result.unwrap_err();
        assert_eq!(unknown.code, Code::UnknownMethod);
        assert!(unknown.detail.contains("still on revision 1"), "{}", unknown.detail);
    });
}

#[test]
fn a_read_that_would_write_in_the_older_revision_is_refused() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        world.add("a", 3).await;
        let methods = r#"{"name":"add","kind":"read","params":[{"name":"n"}]},{"name":"get","kind":"read"}"#;
        world
            .deploy(&Guest {
                load: TRAP,
                methods,
                ..Guest::second()
            })
            .await;
        let refused = world.ask("a", "add", "[1]").await.result.unwrap_err();
        assert_eq!(refused.code, Code::UpgradeFailed);
        assert_eq!(world.get("a").await, of("3", 1));
    });
}

/// How the reason begins, a second revision that can't be moved to, and the failure's code.
fn ways_to_fail() -> [(&'static str, Guest, Code); 6] {
    let second = Guest::second;
    let forever = "(loop $again (br $again)) unreachable";
    let all_memory = "(loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)))) unreachable";
    [
        (
            "`load` of revision 2 failed",
            Guest { load: TRAP, ..second() },
            Code::Trap,
        ),
        (
            "`load` of revision 2 refused: no",
            Guest {
                load: REFUSE,
                ..second()
            },
            Code::GuestError,
        ),
        (
            "`load` of revision 2 failed",
            Guest {
                load: forever,
                ..second()
            },
            Code::TurnTimeout,
        ),
        (
            "`load` of revision 2 failed",
            Guest {
                load: all_memory,
                ..second()
            },
            Code::MemoryLimit,
        ),
        (
            "`check` of revision 2 refused: no",
            Guest {
                check: REFUSE,
                ..second()
            },
            Code::GuestError,
        ),
        (
            "`check` of revision 2 failed",
            Guest {
                check: TRAP,
                ..second()
            },
            Code::Trap,
        ),
    ]
}

/// The host asks for it itself: nobody may ever call the grain again.
#[test]
fn what_a_deleted_grain_keeps_for_repeats_is_ended_when_it_is_too_old() {
    run(async {
        let world = World::new().await;
        world.deploy(&Guest::first()).await;
        world.add("a", 3).await;
        world.delete("a", Some("k")).await;
        world.catalog.evict_all();
        world.catalog.end_due_vacancies().await;
        let stored = || world.storage.load(&grain("a")).unwrap().unwrap();
        assert!(stored().is_vacant() && stored().replies.len() == 1, "a repeat may come");
        assert!(!world.router.status(&grain("a")).await.unwrap().exists);
        // As if it had left memory when the host started.
        let clock = (TableTime::default(), TableTime::default());
        let parts = &world.catalog.parts;
        let left = |absent: &mut AbsentTables| absent.leave(&grain("a"), stored().head.hash, clock, true, Time(0));
        left(&mut parts.absent.lock().unwrap());
        world.catalog.end_due_vacancies().await;
        assert!(stored().deleted && stored().replies.is_empty());
        assert_eq!(world.add("a", 1).await, of("1", 1));
    });
}
