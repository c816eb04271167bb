//! A grain's state: from turn to turn, and through deltas into another instance.

use std::sync::Arc;

use granary_core::commit::Delta;
use granary_core::page::{PAGE_SIZE, Patches};

use super::guest::*;
use crate::snapshot::{Tracker, Tracking};
use crate::wasm::{Engine, Instance, Module, StartError, WasmConfig};

fn start(engine: &Arc<Engine>, module: &Arc<Module>, tracking: &Arc<Tracking>, parts: &[Delta]) -> (Instance, Tracker) {
    let mut instance = Instance::start(engine, module, parts).unwrap();
    let tracker = Tracker::arm(tracking, &instance.span(), module.base(), parts).unwrap();
    (instance, tracker)
}

#[test]
fn a_counter_counts() {
    let engine = engine();
    let mut instance = Guest::default().start(&engine);
    assert_eq!(add(&mut instance, 5), 5);
    assert_eq!(add(&mut instance, 7), 12);
}

#[test]
fn a_state_passes_through_deltas_into_another_instance() {
    let engine = engine();
    let module = Guest::default().compile(&engine);
    for tracking in trackings(&engine) {
        let (mut instance, mut tracker) = start(&engine, &module, &tracking, &[]);
        let mut parts = Vec::new();
        for turn in 1..=20 {
            assert_eq!(add(&mut instance, 3), 3 * turn);
            parts.push(collect(&mut instance, &mut tracker));
            let bytes = parts.last().unwrap().patches.as_bytes().len();
            assert!(bytes < 200, "{bytes} bytes for one counter, by {}", tracking.method());
        }
        assert!(collect(&mut instance, &mut tracker).patches.is_empty());
        let mut restored = Instance::start(&engine, &module, &parts).unwrap();
        // The stack is dead and not saved.
        assert!(restored.span().bytes[65536..] == instance.span().bytes[65536..]);
        assert_eq!(restored.globals(), instance.globals());
        assert_eq!(add(&mut restored, 1), 61);
    }
}

/// Four-byte commands: store byte b at 256 * a + c (command below 240), or grow by a page.
const SCRIBBLE: &str = "
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $n) (local.get $al)))
      (local.set $i (i32.load (i32.add (local.get $ap) (local.get $n))))
      (if (i32.lt_u (i32.and (local.get $i) (i32.const 255)) (i32.const 240))
        (then (i32.store8
          (i32.add (i32.const 131072) (i32.rem_u (i32.shr_u (local.get $i) (i32.const 8))
            (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 131072))))
          (local.get $i)))
        (else (drop (memory.grow (i32.const 1)))))
      (global.set $turns (i64.add (global.get $turns) (i64.const 1)))
      (local.set $n (i32.add (local.get $n) (i32.const 4)))
      (br $next)))
    (call $ok (i32.const 0) (i32.const 0))";

#[test]
fn random_turns_restore_to_the_same_bytes() {
    let engine = engine();
    let guest = Guest {
        memory: "(memory (export \"memory\") 3)",
        extra: "(global $turns (mut i64) (i64.const 0)) (data (i32.const 66100) \"{}\") (data (i32.const 140000) \"static\")",
        ..Guest::calling(SCRIBBLE)
    };
    let module = guest.compile(&engine);
    for tracking in trackings(&engine) {
        let mut seed = 1u64;
        let mut noise = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 32) as u32
        };
        let (mut instance, mut tracker) = start(&engine, &module, &tracking, &[]);
        let mut parts: Vec<Delta> = Vec::new();
        for turn in 0..200 {
            let commands: Vec<u8> = (0..noise() % 8).flat_map(|_| noise().to_le_bytes()).collect();
            call(&mut instance, &commands).unwrap();
            if noise() % 4 == 0 {
                continue;
            }
            parts.push(collect(&mut instance, &mut tracker));
            if noise() % 10 == 0 {
                tracker.rest(&instance.span()).unwrap();
                instance.rest();
            }
            if turn % 20 == 19 {
                parts = Delta::merge(&parts).into_iter().collect();
                let (mut restored, new_tracker) = start(&engine, &module, &tracking, &parts);
                assert_eq!(restored.memory_len(), instance.memory_len());
                assert!(restored.span().bytes[65536..] == instance.span().bytes[65536..]);
                assert_eq!(restored.globals(), instance.globals());
                (instance, tracker) = (restored, new_tracker);
            }
        }
        assert!(instance.memory_len() > 3 << 16, "it has grown");
    }
}

#[test]
fn globals_of_every_type_are_saved() {
    let engine = engine();
    let guest = Guest {
        extra: r#"(data (i32.const 66100) "{}")
          (global $a (mut i64) (i64.const 0)) (global $b (mut f32) (f32.const 0)) (global $c (mut f64) (f64.const 0))
          (global $d (mut v128) (v128.const i64x2 0 0)) (global $fixed i64 (i64.const 9))"#,
        call: "
          (if (local.get $al) (then
            (global.set $a (i64.const -2)) (global.set $b (f32.const nan:0x200001)) (global.set $c (f64.const -0.5))
            (global.set $d (v128.const i64x2 -3 4))))
          (i64.store (i32.const 66304) (global.get $a)) (f32.store (i32.const 66312) (global.get $b))
          (f64.store (i32.const 66320) (global.get $c)) (v128.store (i32.const 66336) (global.get $d))
          (call $ok (i32.const 66304) (i32.const 48))",
        ..Guest::default()
    };
    let module = guest.compile(&engine);
    let mut instance = Instance::start(&engine, &module, &[]).unwrap();
    let set = call(&mut instance, b"set").unwrap();
    // Stack pointer and heap are the guest's first two.
    assert_eq!(instance.globals().len(), 6);
    let delta = Delta {
        memory_len: 131_072,
        globals: instance.globals(),
        patches: Patches::new(),
    };
    let mut restored = Instance::start(&engine, &module, &[delta]).unwrap();
    assert_eq!(call(&mut restored, b""), Ok(set));
}

#[test]
fn a_state_that_is_not_the_modules_is_refused() {
    let engine = engine();
    let module = Guest {
        memory: "(memory 2 4)",
        ..Guest::default()
    }
    .compile(&engine);
    let good = Delta {
        memory_len: 131_072,
        globals: vec![65_536, 80_000],
        patches: Patches::new(),
    };
    assert!(Instance::start(&engine, &module, std::slice::from_ref(&good)).is_ok());
    let refused = |delta: Delta| match Instance::start(&engine, &module, &[delta]) {
        Err(StartError::State(why)) => why,
        other => panic!("{:?}", other.err()),
    };
    for memory_len in [0, 65_536, 131_073, 5 << 16, 1 << 40] {
        assert!(
            refused(Delta {
                memory_len,
                ..good.clone()
            })
            .contains("memory")
        );
    }
    assert!(
        refused(Delta {
            globals: vec![1],
            ..good.clone()
        })
        .contains("1 globals, the module 2")
    );
    assert!(
        refused(Delta {
            globals: vec![1 << 32, 0],
            ..good.clone()
        })
        .contains("too large")
    );
    let mut patches = Patches::new();
    patches.push_whole(32, &[1; PAGE_SIZE]);
    assert!(refused(Delta { patches, ..good }).contains("inside the memory"));
    assert_eq!(engine.slab().taken(), 0);
}

#[test]
fn statics_below_the_stack_pointer_are_state() {
    let engine = engine();
    // Data first, as older linkers lay it out: a static at 1,024, the stack between it and 65,536.
    let text = |exports: &str| {
        Guest {
            call: "(i64.store (i32.const 1024) (i64.add (i64.load (i32.const 1024)) (i64.const 1)))
                (i64.store (i32.const 40000) (i64.const 7)) (call $ok (i32.const 1024) (i32.const 8))",
            ..Guest::default()
        }
        .text()
        .replace(
            "(data (i32.const 66100)",
            &format!("{exports} (data (i32.const 1024) \"\\05\") (data (i32.const 66100)"),
        )
    };
    let kept = |exports: &str, stack_is_saved: bool| {
        let module = compile(&engine, &wat::parse_str(text(exports)).unwrap());
        for tracking in trackings(&engine) {
            let (mut instance, mut tracker) = start(&engine, &module, &tracking, &[]);
            assert_eq!(call(&mut instance, b"").unwrap()[0], 6);
            let delta = collect(&mut instance, &mut tracker);
            assert_eq!(delta.patches.iter().any(|patch| patch.index == 9), stack_is_saved);
            let mut restored = Instance::start(&engine, &module, &[delta]).unwrap();
            assert_eq!(call(&mut restored, b"").unwrap()[0], 7);
        }
    };
    kept("", true);
    // With the linker's bounds the stack, and only that, is left out.
    kept(
        "(global (export \"__stack_low\") i32 (i32.const 8192)) (global (export \"__stack_high\") i32 (i32.const 65536))",
        false,
    );
}

#[test]
fn save_load_and_check_move_a_state_to_another_instance() {
    let engine = engine();
    let (mut old, mut new) = (Guest::default().start(&engine), Guest::default().start(&engine));
    add(&mut old, 77);
    let state = run(old.save(TestHost::new(), new.module())).unwrap().unwrap();
    assert_eq!(state, 77u64.to_le_bytes());
    assert_eq!(
        run(new.load(TestHost::new(), "key", "request", 1, state)).unwrap(),
        Ok(())
    );
    assert_eq!(run(new.check(TestHost::new(), "key", "request")).unwrap(), Ok(()));
    assert_eq!(add(&mut new, 1), 78);
}

/// A guest that saves eight bytes exactly, which are other ones than it saves otherwise.
fn exact() -> Guest {
    Guest {
        extra: r#"(data (i32.const 66100) "{}") (data (i32.const 66200) "exactly!")
          (func (export "granary:grain/exact@0.1.0#save") (result i32) (call $ok (i32.const 66200) (i32.const 8)))
          (func (export "cabi_post_granary:grain/exact@0.1.0#save") (param i32))"#,
        ..Guest::default()
    }
}

#[test]
fn a_state_is_saved_exactly_where_both_revisions_can() {
    let engine = engine();
    let saved = |old: &Guest, new: &Guest| {
        let target = new.compile(&engine);
        run(old.start(&engine).save(TestHost::new(), &target)).unwrap().unwrap()
    };
    assert_eq!(saved(&exact(), &exact()), b"exactly!");
    assert_eq!(saved(&exact(), &Guest::default()), [0; 8]);
    assert_eq!(saved(&Guest::default(), &exact()), [0; 8]);
}

#[test]
fn a_saved_state_has_its_own_limit() {
    let config = WasmConfig {
        reply_limit: 4,
        save_limit: 8,
        ..config()
    };
    let saved = |config: &WasmConfig| {
        let engine = Engine::new(config).unwrap();
        let mut guest = Guest::default().start(&engine);
        let target = guest.module().clone();
        run(guest.save(TestHost::new(), &target)).map_err(|failure| failure.to_string())
    };
    assert_eq!(saved(&config), Ok(Ok(vec![0; 8])), "longer than a reply may be");
    let failure = saved(&WasmConfig {
        save_limit: 7,
        ..config
    })
    .unwrap_err();
    assert!(failure.contains("8 bytes") && failure.contains('7'), "{failure}");
}

#[test]
fn describe_has_its_own_limits() {
    let config = WasmConfig {
        describe_cpu: std::time::Duration::from_millis(20),
        describe_limit: 1_000,
        ..config()
    };
    let engine = Engine::new(&config).unwrap();
    let describe = |describe| {
        let module = Guest {
            describe,
            ..Guest::default()
        }
        .compile(&engine);
        run(engine.describe(&module)).map_err(|error| error.to_string())
    };
    assert_eq!(
        describe("(call $list (i32.const 0) (i32.const 1000))"),
        Ok(vec![0; 1000])
    );
    assert!(
        describe("(call $list (i32.const 0) (i32.const 1001))")
            .unwrap_err()
            .contains("1001 bytes")
    );
    assert!(describe("(loop $l (br $l)) unreachable").unwrap_err().contains("20 ms"));
    assert!(
        describe("(call $list (i32.const 131071) (i32.const 2))")
            .unwrap_err()
            .contains("leaves the memory")
    );
    assert!(describe("unreachable").unwrap_err().contains("unreachable"));
}
