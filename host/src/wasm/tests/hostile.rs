//! Guests that mean no good: each hurts its own turn only.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::guest::*;
use crate::wasm::{Engine, Instance, StartError, TurnFailure, WasmConfig};

/// Runs one turn of a hostile guest next to a counter that must not notice.
fn failure(guest: Guest) -> TurnFailure {
    let engine = Engine::new(&WasmConfig {
        turn_cpu: Duration::from_millis(50),
        ..config()
    })
    .unwrap();
    let mut neighbour = Guest::default().start(&engine);
    assert_eq!(add(&mut neighbour, 1), 1);
    let mut hostile = guest.start(&engine);
    let failure = call(&mut hostile, b"args").unwrap_err();
    assert!(!failure.did_not_run());
    assert_eq!(add(&mut neighbour, 1), 2);
    drop(hostile);
    assert_eq!(add(&mut neighbour, 1), 3);
    assert_eq!(engine.slab().taken(), 1);
    failure
}

fn realloc(realloc: &'static str) -> TurnFailure {
    failure(Guest {
        realloc,
        ..Guest::default()
    })
}

fn is_abi(failure: &TurnFailure) -> bool {
    matches!(failure, TurnFailure::Abi(_))
}

#[test]
fn a_realloc_that_traps() {
    assert!(matches!(
        realloc("unreachable"),
        TurnFailure::Trap {
            code: "unreachable",
            ..
        }
    ));
}

#[test]
fn a_realloc_that_loops() {
    assert_eq!(
        realloc("(loop $l (br $l)) unreachable"),
        TurnFailure::CpuLimit { limit_ms: 50 }
    );
}

#[test]
fn a_realloc_that_recurses() {
    let deep = "(call $realloc (local.get $old) (local.get $size) (local.get $align) (local.get $new))
        (call $realloc (local.get $old) (local.get $size) (local.get $align)) unreachable";
    let deep: &'static str = deep.split("\n").next().unwrap();
    let recursing = format!("(i32.add {deep} (i32.const 1))");
    let failure = realloc(Box::leak(recursing.into_boxed_str()));
    assert!(matches!(failure, TurnFailure::Stack { .. }), "{failure:?}");
}

#[test]
fn a_realloc_that_returns_a_bad_pointer() {
    for pointer in ["(i32.const -1)", "(i32.const 131072)", "(i32.const 131070)"] {
        let failure = realloc(pointer);
        assert!(is_abi(&failure), "{failure:?}");
    }
    // For the reply of a call, too: a list has to be aligned.
    let body = "(call $invoke_all (i32.const 67000) (i32.const 1) (i32.const 66400)) unreachable";
    let imports = "(import \"granary:grain/calls@0.1.0\" \"invoke-all\" (func $invoke_all (param i32 i32 i32)))";
    let odd = "(i32.const 90001)";
    let failure = failure(Guest {
        imports,
        realloc: odd,
        ..Guest::calling(body)
    });
    assert!(
        matches!(&failure, TurnFailure::Abi(what) if what.contains("aligned")),
        "{failure:?}"
    );
}

#[test]
fn a_realloc_that_calls_an_import() {
    let imports = r#"(import "granary:grain/calls@0.1.0" "invoke" (func $invoke (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
        (import "granary:grain/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
    let invoke = "(call $invoke (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 66304)) (i32.const 90000)";
    assert!(is_abi(&failure(Guest {
        imports,
        realloc: invoke,
        ..Guest::default()
    })));
    let log = "(call $log (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 90000)";
    assert!(is_abi(&failure(Guest {
        imports,
        realloc: log,
        ..Guest::default()
    })));
    // While a call's reply is being placed: a realloc that turns bad after the arguments' four buffers.
    let extra = "(global $count (mut i32) (i32.const 0)) (data (i32.const 66100) \"{}\")";
    let late = "(global.set $count (i32.add (global.get $count) (i32.const 1)))
        (if (i32.gt_u (global.get $count) (i32.const 4)) (then (call $log (i32.const 0) (i32.const 0) (i32.const 0))))
        (i32.const 90000)";
    let body = "(call $invoke (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 66304)) unreachable";
    assert!(is_abi(&failure(Guest {
        imports,
        extra,
        realloc: late,
        ..Guest::calling(body)
    })));
}

#[test]
fn a_post_that_traps_or_calls_an_import() {
    let imports = "(import \"granary:grain/log@0.1.0\" \"write\" (func $log (param i32 i32 i32)))";
    let post = |post| {
        failure(Guest {
            imports,
            post,
            ..Guest::default()
        })
    };
    assert!(matches!(post("unreachable"), TurnFailure::Trap { .. }));
    assert!(is_abi(&post("(call $log (i32.const 0) (i32.const 0) (i32.const 0))")));
}

#[test]
fn results_that_cannot_be() {
    for (body, what) in [
        ("(i32.const 131064)", "leaves the memory"),
        ("(i32.const -4)", "leaves the memory"),
        ("(i32.const 65537)", "aligned"),
        ("(call $ok (i32.const 131000) (i32.const 100))", "leaves the memory"),
        ("(call $ok (i32.const -1) (i32.const -1))", "leaves the memory"),
        (
            "(i32.store8 (i32.const 65536) (i32.const 2)) (i32.const 65536)",
            "tag 2",
        ),
        (
            "(i32.store16 (i32.const 65536) (i32.const 1)) (i32.store8 (i32.const 65540) (i32.const 4)) (i32.const 65536)",
            "kind 4",
        ),
    ] {
        let failure = failure(Guest::calling(body));
        assert!(
            matches!(&failure, TurnFailure::Abi(text) if text.contains(what)),
            "{body}: {failure}"
        );
    }
}

#[test]
fn a_result_above_the_limit() {
    let engine = Engine::new(&WasmConfig {
        reply_limit: 1000,
        ..config()
    })
    .unwrap();
    let result = |body| call(&mut Guest::calling(body).start(&engine), b"");
    assert_eq!(result("(call $ok (i32.const 0) (i32.const 1000))").unwrap().len(), 1000);
    let failure = result("(call $ok (i32.const 0) (i32.const 1001))").unwrap_err();
    assert!(
        matches!(&failure, TurnFailure::TooLarge(what) if what.contains("1001")),
        "{failure}"
    );
}

#[test]
fn deep_recursion_in_the_guest() {
    let failure = failure(Guest::calling(
        "(i32.add (call $call (local.get $kp) (local.get $kl) (local.get $rp) (local.get $rl)
            (local.get $mp) (local.get $ml) (local.get $ap) (local.get $al)) (i32.const 1))",
    ));
    assert!(matches!(failure, TurnFailure::Stack { .. }), "{failure:?}");
}

#[test]
fn an_endless_loop_is_stopped_and_lets_its_neighbours_run() {
    let limit = Duration::from_millis(100);
    let engine = Engine::new(&WasmConfig {
        turn_cpu: limit,
        ..config()
    })
    .unwrap();
    let mut endless = Guest::calling("(loop $l (br $l)) unreachable").start(&engine);
    let mut counter = Guest::default().start(&engine);
    let (stopped, turns) = run(async {
        let is_stopped = Cell::new(false);
        let looping = async {
            let stopped = call_async(&mut endless, b"").await;
            is_stopped.set(true);
            stopped
        };
        let counting = async {
            let mut turns = 0;
            while !is_stopped.get() {
                call_async(&mut counter, &[1]).await.unwrap();
                turns += 1;
                tokio::task::yield_now().await;
            }
            turns
        };
        tokio::join!(looping, counting)
    });
    assert_eq!(stopped, Err(TurnFailure::CpuLimit { limit_ms: 100 }));
    // On one thread: they took turns, tick by tick.
    assert!(turns >= 3, "{turns}");
}

#[test]
fn the_tick_sleeps_when_nothing_runs_and_wakes_for_a_turn() {
    let limit = Duration::from_millis(20);
    let config = WasmConfig {
        turn_cpu: limit,
        tick: Duration::from_micros(50),
        ..config()
    };
    let engine = Engine::new(&config).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    for _ in 0..2 {
        while !engine.ticker.is_asleep() {
            assert!(Instant::now() < deadline, "it never sleeps");
            std::thread::yield_now();
        }
        let mut endless = Guest::calling("(loop $l (br $l)) unreachable").start(&engine);
        assert_eq!(call(&mut endless, b""), Err(TurnFailure::CpuLimit { limit_ms: 20 }));
    }
}

#[test]
fn a_rest_touches_no_stack_but_the_resting_instances_own() {
    let engine = engine();
    let imports =
        r#"(import "granary:grain/calls@0.1.0" "invoke" (func $invoke (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;
    let body = "(call $invoke (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 66304)) (call $ok (local.get $ap) (local.get $al))";
    let module = Guest {
        imports,
        ..Guest::calling(body)
    }
    .compile(&engine);
    let mut suspended = Instance::start(&engine, &module, &[]).unwrap();
    let mut idle = Guest::default().start(&engine);
    run(async {
        let mut turn = std::pin::pin!(call_async(&mut suspended, b"still there"));
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(turn.as_mut().poll(cx).is_pending())).await);
        // On the same thread, while that one is suspended.
        for n in 1..4 {
            call_async(&mut idle, &[n]).await.unwrap();
            idle.rest();
        }
        assert_eq!(turn.await.unwrap(), b"still there");
    });
    suspended.rest();
    assert_eq!(call(&mut suspended, b"again").unwrap(), b"again");
}

#[test]
fn waiting_for_a_call_takes_no_cpu_time() {
    let engine = Engine::new(&WasmConfig {
        turn_cpu: Duration::from_millis(20),
        ..config()
    })
    .unwrap();
    let imports =
        r#"(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))"#;
    // Sleeps 60 ms: a clock subscription at 66,304 (tag 0, clock 1, time in nanoseconds).
    let body = "
        (i32.store8 (i32.const 66312) (i32.const 0))
        (i32.store (i32.const 66320) (i32.const 1))
        (i64.store (i32.const 66328) (i64.const 60000000))
        (i32.store (i32.const 66500) (call $poll (i32.const 66304) (i32.const 66400) (i32.const 1) (i32.const 66508)))
        (call $ok (i32.const 66500) (i32.const 4))";
    let mut sleeping = Guest {
        imports,
        ..Guest::calling(body)
    }
    .start(&engine);
    let started = Instant::now();
    assert_eq!(call(&mut sleeping, b""), Ok(vec![0; 4]));
    assert!(started.elapsed() >= Duration::from_millis(60));
}

#[test]
#[should_panic(expected = "must be dropped")]
fn an_instance_whose_turn_failed_runs_no_more() {
    let engine = engine();
    let mut instance = Guest::default().start(&engine);
    call(&mut instance, b"!").unwrap_err();
    let _ = call(&mut instance, &[1]);
}

#[test]
fn a_turn_that_is_dropped_in_the_middle_leaves_everything_clean() {
    let engine = engine();
    let imports =
        r#"(import "granary:grain/calls@0.1.0" "invoke" (func $invoke (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;
    let body = "(call $invoke (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 66304)) (call $ok (i32.const 0) (i32.const 0))";
    let module = Guest {
        imports,
        ..Guest::calling(body)
    }
    .compile(&engine);
    for _ in 0..100 {
        let mut instance = Instance::start(&engine, &module, &[]).unwrap();
        run(async {
            let mut turn = std::pin::pin!(call_async(&mut instance, b""));
            // The host suspends every call once.
            assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(turn.as_mut().poll(cx).is_pending())).await);
        });
    }
    assert_eq!(engine.slab().taken(), 0);
}

#[test]
fn too_many_instances_are_a_typed_error() {
    let engine = engine();
    let module = Guest::default().compile(&engine);
    let mut all: Vec<Instance> = (0..16)
        .map(|_| Instance::start(&engine, &module, &[]).unwrap())
        .collect();
    for instance in &mut all {
        assert_eq!(add(instance, 1), 1);
    }
    assert!(matches!(
        Instance::start(&engine, &module, &[]),
        Err(StartError::Overloaded { slots: 16 })
    ));
    all.pop();
    assert_eq!(add(&mut Instance::start(&engine, &module, &[]).unwrap(), 9), 9);
}

#[test]
fn constructors_run_in_the_first_turn_only_and_never_twice() {
    let engine = engine();
    let extra = r#"(data (i32.const 66100) "{}") (start $begin) (func $begin (i64.store (i32.const 66000) (i64.const 40)))
        (func (export "_initialize") (i64.store (i32.const 66000) (i64.add (i64.load (i32.const 66000)) (i64.const 2))))"#;
    let guest = Guest {
        extra,
        ..Guest::default()
    };
    let module = guest.compile(&engine);
    let mut instance = Instance::start(&engine, &module, &[]).unwrap();
    assert_eq!(instance.span().bytes[66000], 0, "not when the instance is made");
    assert_eq!(add(&mut instance, 1), 43);
    assert_eq!(add(&mut instance, 1), 44);
    let tracking = &trackings(&engine)[0];
    let mut fresh = Instance::start(&engine, &module, &[]).unwrap();
    let mut tracker = crate::snapshot::Tracker::arm(tracking, &fresh.span(), module.base(), &[]).unwrap();
    assert_eq!(add(&mut fresh, 1), 43);
    let delta = collect(&mut fresh, &mut tracker);
    let mut restored = Instance::start(&engine, &module, &[delta]).unwrap();
    assert_eq!(add(&mut restored, 1), 44);
    // A module that runs its constructors itself is left alone.
    let own = r#"(data (i32.const 66100) "{}") (func $ctors (export "__wasm_call_ctors") (i64.store (i32.const 66000) (i64.const 40)))
        (func $once (call $ctors))"#;
    assert_eq!(
        add(
            &mut Guest {
                extra: own,
                ..Guest::default()
            }
            .start(&engine),
            1
        ),
        1
    );
    let called = r#"(data (i32.const 66100) "{}") (func (export "__wasm_call_ctors") (i64.store (i32.const 66000) (i64.const 40)))"#;
    assert_eq!(
        add(
            &mut Guest {
                extra: called,
                ..Guest::default()
            }
            .start(&engine),
            1
        ),
        41
    );
}

#[test]
fn many_threads_share_an_engine() {
    let engine = Engine::new(&WasmConfig {
        max_instances: 64,
        ..config()
    })
    .unwrap();
    let module = Guest::default().compile(&engine);
    std::thread::scope(|scope| {
        for seed in 0..4u8 {
            let (engine, module) = (Arc::clone(&engine), Arc::clone(&module));
            scope.spawn(move || {
                for round in 0..50 {
                    let mut instance = Instance::start(&engine, &module, &[]).unwrap();
                    assert_eq!(add(&mut instance, seed), u64::from(seed));
                    if round % 3 == 0 {
                        call(&mut instance, b"!").unwrap_err();
                    }
                }
            });
        }
    });
    assert_eq!(engine.slab().taken(), 0);
}
